"""Quickstart's form in seconds: the same data and network, at 64 px for a few steps."""

import dataclasses
from pathlib import Path

from yolo_jax.config import ExperimentConfig, NetworkConfig, load_config

QUICKSTART = Path(__file__).parents[2] / "experiments" / "configs" / "quickstart.py"


def get_config() -> ExperimentConfig:
    config = load_config(QUICKSTART)
    return dataclasses.replace(
        config,
        name="short",
        network=NetworkConfig(kind="tiny", input_size=64, weights="scratch"),
        data=dataclasses.replace(config.data, canvas_size=250),  # no size that the network takes
        optimizer=dataclasses.replace(config.optimizer, warmup_steps=5),
        epochs=4,
        steps_per_epoch=5,
        batch_size=4,
    )
