"""Configs from files, Python with `get_config()`, or for data alone; fields by command line."""

import dataclasses
import difflib
import importlib.util
import re
import traceback
import typing
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import tyro

from yolo_jax.config.experiment_config import ExperimentConfig
from yolo_jax.config.flat import flatten, nearest, with_changes
from yolo_jax.config.parts import DataConfig, OptimizerConfig
from yolo_jax.data.augment import Augment
from yolo_jax.data.readers import split_names

# Fields by what Ultralytics calls them, where neither is most of the other's name.
_ULTRALYTICS = {
    "batch": "batch_size",
    "cls": "loss.classification_weight",
    "cos_lr": "optimizer.schedule",
    "fliplr": "augment.flip",
    "freeze": "freeze_body.epochs",
    "imgsz": "network.input_size",
    "lr0": "optimizer.learning_rate",
    "lrf": "optimizer.final_fraction",
    "model": "network.weights",
    "optimizer": "optimizer.kind",
    "patience": "early_stopping",
    "project": "runs",
    "warmup_epochs": "optimizer.warmup_steps",
}
# What is there in the place of those of its settings that no field is like.
_INSTEAD = {
    "data": "the data stand first and alone, as in `yolo-jax train data.yaml --epochs 30`",
    "device": "all local devices share each batch; CUDA_VISIBLE_DEVICES=0 before the command "
    "leaves it one GPU, and JAX_PLATFORMS=cpu none",
    "resume": "the same command again goes on where the run stood",
}


def load_module(path: Path | str) -> ModuleType:
    """Runs a config file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be run.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no config file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is not a Python file; a config is Python with get_config()")
    module = importlib.util.module_from_spec(spec)
    with told_by_line(path):
        spec.loader.exec_module(module)
    return module


@contextmanager
def told_by_line(path: Path, but: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Tells what the user's own code raises by its line in their file.

    Args:
        path: of the file.
        but: exceptions by which it says something, and which are let through.

    Raises:
        ValueError: it raised something.
    """
    try:
        yield
    except but:
        raise
    except Exception as error:
        raise ValueError(
            f"{path}{_line_of(error, path)}: {type(error).__name__}: {error}{_known_fields(error)}"
        ) from error


def load_config(path: Path | str) -> ExperimentConfig:
    """Runs a config file's `get_config()`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be run, has no `get_config`, or that returns something else.
    """
    path, module = Path(path), load_module(path)
    if not hasattr(module, "get_config"):
        raise ValueError(f"{path} has no get_config(), which should return an ExperimentConfig")
    with told_by_line(path):
        config = module.get_config()
    if not isinstance(config, ExperimentConfig):
        raise ValueError(
            f"get_config() of {path} returned {type(config).__name__}, not an ExperimentConfig"
        )
    return config


def config_of(
    path: Path,
    overrides: Sequence[str],
    command: str = "train",
    changes: Mapping[str, Any] | None = None,
    description: str | None = None,
    options: Collection[str] = (),
) -> ExperimentConfig:
    """Returns a config with fields of the command line, such as --epochs 30.

    Args:
        path: of a config file, or of data, which are trained on by `config_of_data`.
        overrides: of the command line.
        command: that they were given to.
        changes: of a sweep's trial, which go before both: value by dotted field.
        description: of the command, for its help.
        options: the command's own, one of which a word that is no field may mean.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: see `load_config`, `config_of_data`, `with_overrides` and `with_changes`.
    """
    is_data = not str(path).endswith(".py")
    default = config_of_data(path) if is_data else load_config(path)
    prog = f"yolo-jax {command} {path}"
    config = with_overrides(default, overrides, prog, description, options)
    if is_data:
        config = _without_others_splits(config, default.data)
    return with_changes(config, changes) if changes else config


def with_overrides(
    default: ExperimentConfig,
    overrides: Sequence[str],
    prog: str,
    description: str | None = None,
    options: Collection[str] = (),
) -> ExperimentConfig:
    """Returns a config with fields of the command line; prints help, or what no value can be.

    Args:
        default: to change.
        overrides: such as --epochs 30.
        prog: the command, as its help calls it.
        description: of the command, for its help.
        options: the command's own.

    Raises:
        ValueError: there is no such field; the nearest are named.
        SystemExit: help was asked for, or a value has another type.
    """
    config, unknown = tyro.cli(
        ExperimentConfig, prog=prog, description=description, default=default, args=overrides,
        return_unknown_args=True,
    )  # fmt: skip
    if unknown:
        raise ValueError(_told(unknown[0], [*flatten(default), *options]))
    return config


def _told(word: str, known: Collection[str]) -> str:
    """Returns what to say of a word of the command line that is no field."""
    asked, has_value, value = word.removeprefix("--").partition("=")
    asked = asked.replace("-", "_")
    if not word.startswith("--") and not has_value:
        return f"found {word!r}; expected fields, as in --epochs 30"
    if asked in _INSTEAD:
        return f"found {word!r}; {_INSTEAD[asked]}"
    found = [_ULTRALYTICS[asked]] if asked in _ULTRALYTICS else nearest(asked, known)
    names = [f"--{name.replace('_', '-')}" for name in found]
    if not word.startswith("--"):
        names = [f"{name} {value}" for name in names]
        return f"found {word!r}; expected fields, as in {' or '.join(names)}"
    return (
        f"there is no field or option {word}; did you mean {' or '.join(names)}? "
        "(`yolo-jax train CONFIG --help` lists all fields)"
    )


def config_of_data(path: Path) -> ExperimentConfig:
    """Returns a config that trains on data of which nothing but the path is known.

    Held-out figures are of the split `test` or `held_out`, or where there is none of the validation
    images; then training images are set apart for validation, as they are for both in a set without
    splits.

    Args:
        path: what `data.train` takes.

    Raises:
        FileNotFoundError: there is no such file or folder.
    """
    if not str(path).startswith("tfds:") and not path.exists():
        hint = f"; {_INSTEAD['data']}" if "=" in str(path) else ""
        raise FileNotFoundError(f"there is no config file, and no data, {path}{hint}")
    splits = {name.lower(): name for name in split_names(path)}

    def first(*names: str) -> str | None:
        return next((splits[name] for name in names if name in splits), None)

    # Where there are splits and none is one of these, the reader names them and asks for one.
    train = first("train", "training", "trainval", "train2017")
    validation, test = first("val", "valid", "validation", "val2017"), first("test", "held_out")
    if test is None:
        validation, test = None, validation
    data = DataConfig(
        train=path,
        validation=path if validation else None,
        held_out=path if test else None,
        train_split=train,
        validation_split=validation,
        held_out_split=test,
    )
    return ExperimentConfig(
        name=_name_of(path),
        data=data,
        augment=Augment(scale=(0.5, 1.5), hsv=(0.015, 1.7, 1.4), mosaic=0.5),
        optimizer=OptimizerConfig(weight_decay=5e-4, kind="adamw", ema_decay=0.99),
        epochs=50,
        batch_size=16,
        close_mosaic=None,
    )


def _without_others_splits(config: ExperimentConfig, found: DataConfig) -> ExperimentConfig:
    """Returns a config without the splits of data that the command line has replaced by others."""
    data = config.data
    changes = {
        f"{part}_split": None
        for part in ("train", "validation", "held_out")
        if getattr(data, part) != getattr(found, part)
        and getattr(data, f"{part}_split") == getattr(found, f"{part}_split")
    }
    return dataclasses.replace(config, data=dataclasses.replace(data, **changes))


def _name_of(path: Path) -> str:
    """Returns a run's name for data: the file's, or of a name that many have its folder's."""
    if str(path).startswith("tfds:"):
        own = str(path).removeprefix("tfds:")
    else:
        path = path.resolve()
        own = path.stem if path.is_file() else path.name
        if own in ("data", "train", "annotations", "_annotations.coco", "instances_train2017"):
            own = path.parent.name
    return re.sub(r"[^\w.-]+", "_", own) or "run"


def _known_fields(error: Exception) -> str:
    """Returns what to say of an unknown field: the nearest known one, or all of them."""
    said = re.match(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
    hints = [ExperimentConfig, *typing.get_type_hints(ExperimentConfig).values()]
    parts: dict[str, Any] = {getattr(hint, "__name__", ""): hint for hint in hints}
    if said is None or not is_dataclass(parts.get(said[1])):
        return ""
    names = [field.name for field in dataclasses.fields(parts[said[1]])]
    nearest = difflib.get_close_matches(said[2], names, n=1)
    return f"; the nearest is {nearest[0]!r}" if nearest else f"; there are {', '.join(names)}"


def _line_of(error: Exception, path: Path) -> str:
    """Returns `, line N` of the innermost frame in a file, or of its syntax error."""
    if isinstance(error, SyntaxError):
        return ""  # its message has the line
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) == path]
    return f", line {frames[-1].lineno}" if frames else ""
