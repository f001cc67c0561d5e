"""A sweep in seconds whose trials differ in numbers alone; one of them diverges."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from yolo_jax.config import ExperimentConfig, load_config

SHORT = Path(__file__).with_name("short.py")


def get_config() -> ExperimentConfig:
    config = load_config(SHORT)
    sgd = dataclasses.replace(
        config.optimizer, kind="sgd", learning_rate=1e-4, warmup_steps=2, ema_decay=0.9
    )
    order = dataclasses.replace(config.data, order_seed=0)
    return dataclasses.replace(config, name="together", optimizer=sgd, data=order)


def sweep() -> Iterator[tuple[str, dict]]:
    yield "usual", {}
    yield (
        "other",
        {
            "seed": 1,
            "optimizer.learning_rate": 3e-4,
            "optimizer.ema_decay": 0.8,
            "loss.box_weight": 2.0,
            "loss.label_smoothing": 0.1,
            "augment.flip": 0.0,
            "augment.crop": [120, 240],
        },
    )
    yield "wild", {"optimizer.learning_rate": 1e30}
