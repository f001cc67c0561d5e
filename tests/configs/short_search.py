"""A search in seconds: a learning rate for the sweep in seconds."""

from pathlib import Path

import optuna

from yolo_jax.config import ExperimentConfig, load_config

SHORT_SWEEP = Path(__file__).with_name("short_sweep.py")


def get_config() -> ExperimentConfig:
    return load_config(SHORT_SWEEP)


def search(trial: optuna.Trial) -> dict:
    return {"optimizer.learning_rate": trial.suggest_float("rate", 1e-5, 1e-2, log=True)}
