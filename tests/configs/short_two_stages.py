"""The two-stage config in seconds: as short.py, two epochs of the heads, then two of all."""

import dataclasses
from pathlib import Path

from yolo_jax.config import ExperimentConfig, load_config

CONFIGS = Path(__file__).parents[2] / "experiments" / "configs"
SHORT = Path(__file__).with_name("short.py")


def get_config() -> ExperimentConfig:
    config = load_config(CONFIGS / "keras_yolo3_two_stage.py")
    return dataclasses.replace(
        load_config(SHORT),
        name="two_stages",
        freeze_body=dataclasses.replace(config.freeze_body, epochs=2),
        optimizer=config.optimizer,
        early_stopping=config.early_stopping,
    )
