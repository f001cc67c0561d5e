"""Config files: Python with `get_config()`, of which the command line sets fields."""

import importlib.util
import traceback
from collections.abc import Sequence
from pathlib import Path

import tyro

from yolo_jax.config.experiment_config import ExperimentConfig


def load_config(path: Path | str) -> ExperimentConfig:
    """Runs a config file's `get_config()`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be run, has no `get_config`, or that returns something else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no config file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is not a Python file; a config is Python with get_config()")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config() if hasattr(module, "get_config") else None
    except Exception as error:
        # Whatever the user's own code raises is told by its line in their file.
        raise ValueError(
            f"{path}{_line_of(error, path)}: {type(error).__name__}: {error}"
        ) from error
    if not hasattr(module, "get_config"):
        raise ValueError(f"{path} has no get_config(), which should return an ExperimentConfig")
    if not isinstance(config, ExperimentConfig):
        raise ValueError(
            f"get_config() of {path} returned {type(config).__name__}, not an ExperimentConfig"
        )
    return config


def config_of(path: Path, overrides: Sequence[str], command: str = "train") -> ExperimentConfig:
    """Returns a config file's config, with fields of the command line, such as --epochs 30."""
    prog = f"yolo-jax {command} {path}"
    return tyro.cli(ExperimentConfig, prog=prog, default=load_config(path), args=overrides)


def _line_of(error: Exception, path: Path) -> str:
    """Returns `, line N` of the innermost frame in a file, or of its syntax error."""
    if isinstance(error, SyntaxError):
        return ""  # its message has the line
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) == path]
    return f", line {frames[-1].lineno}" if frames else ""
