"""A sweep in seconds: of three trials as short.py one crashes, and one diverges."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from yolo_jax.config import ExperimentConfig, load_config
from yolo_jax.sweep import grid

SHORT = Path(__file__).with_name("short.py")


def get_config() -> ExperimentConfig:
    config = load_config(SHORT)
    return dataclasses.replace(
        config,
        name="swept",
        optimizer=dataclasses.replace(config.optimizer, warmup_steps=0),
        epochs=4,
        steps_per_epoch=2,
    )


def sweep() -> Iterator[dict | tuple[str, dict]]:
    yield from grid({"loss.box": ("ciou",), "augment.flip": (0.5,)})
    yield "damaged", {"network.weights": str(SHORT)}
    yield "diverging", {"optimizer.kind": "sgd", "optimizer.learning_rate": 1e30}
