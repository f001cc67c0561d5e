"""What an experiment is, as frozen dataclasses; a config file is Python with `get_config()`."""

from yolo_jax.config.experiment_config import ExperimentConfig
from yolo_jax.config.files import config_of, load_config
from yolo_jax.config.parts import (
    DataConfig,
    FreezeBodyConfig,
    LossConfig,
    NetworkConfig,
    OptimizerConfig,
    ParallelConfig,
    TrainConfig,
)

__all__ = [
    "DataConfig",
    "ExperimentConfig",
    "FreezeBodyConfig",
    "LossConfig",
    "NetworkConfig",
    "OptimizerConfig",
    "ParallelConfig",
    "TrainConfig",
    "config_of",
    "load_config",
]
