"""Quickstart in keras-yolo3's two stages: the heads alone, then all layers at a lower rate.

Command: yolo-jax train experiments/configs/two_stages.py
Hardware: 2 CPU cores, as long as quickstart.
Expected: not measured yet.
"""

import dataclasses
from pathlib import Path

from yolo_jax.config import ExperimentConfig, FreezeBodyConfig, OptimizerConfig, load_config

QUICKSTART = Path(__file__).with_name("quickstart.py")


def get_config() -> ExperimentConfig:
    """Returns the experiment."""
    return dataclasses.replace(
        load_config(QUICKSTART),
        name="two_stages",
        freeze_body=FreezeBodyConfig(epochs=8, learning_rate=1e-3),
        optimizer=OptimizerConfig(
            learning_rate=1e-4, schedule="plateau", plateau_factor=0.1, plateau_patience=3
        ),
    )
