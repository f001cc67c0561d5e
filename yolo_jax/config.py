"""What an experiment is, as frozen dataclasses; a config file is Python with `get_config()`."""

import dataclasses
import importlib.util
import json
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from yolo_jax.data.augment import Augment


@dataclass(frozen=True)
class DataConfig:
    """The images.

    Attributes:
        train: COCO JSON of the training images.
        validation: COCO JSON that the validation loss is taken on, and choices are made on.
        held_out: COCO JSON of images that choose nothing; the final figures are theirs.
        canvas_size: side in px of the square that training images are letterboxed into before
            augmentation crops from it; None: the input size.
        max_boxes: boxes kept an image; None: the data's maximum.
        threads: that decode images.
        strict: a bad record is an error rather than a report.
    """

    train: Path
    validation: Path
    held_out: Path
    canvas_size: int | None = None
    max_boxes: int | None = None
    threads: int = 2
    strict: bool = False


@dataclass(frozen=True)
class NetworkConfig:
    """The network.

    Attributes:
        kind: `tiny` (YOLOv3-tiny) or `yolov3` (Darknet-53).
        input_size: side of the square input in px, a multiple of 32.
        weights: `yolov3-tiny` for the official COCO weights, a path of a .weights file with COCO's
            80 classes, or `scratch`.
    """

    kind: Literal["tiny", "yolov3"] = "tiny"
    input_size: int = 416
    weights: str = "yolov3-tiny"


@dataclass(frozen=True)
class LossConfig:
    """The loss.

    Attributes:
        ignore_thresh: IoU from which a prediction without an object is not punished.
        exact_centres: False rounds box centres down to whole pixels, as keras-yolo3 does.
    """

    ignore_thresh: float = 0.5
    exact_centres: bool = True


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer and its learning rate.

    Attributes:
        kind: `adam` or `sgd` (Nesterov).
        learning_rate: the peak.
        momentum: of SGD; Adam's first moment.
        weight_decay: on kernels alone.
        clip_norm: largest global norm of the gradient, or None.
        schedule: `constant`, `cosine`, or `plateau`: constant until the training loss stands still.
        horizon: number of the epoch that the cosine ends with; None: the first run's `epochs`.
            Past it the final rate holds.
        warmup_steps: linear from 0.
        final_fraction: the cosine's last rate / its peak.
        plateau_factor: what a plateau multiplies the rate by.
        plateau_patience: epochs without a new least loss that make a plateau.
        ema_decay: of the averaged weights, or None for no averaging.
    """

    kind: Literal["adam", "sgd"] = "adam"
    learning_rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.0
    clip_norm: float | None = None
    schedule: Literal["constant", "cosine", "plateau"] = "cosine"
    horizon: int | None = None
    warmup_steps: int = 0
    final_fraction: float = 0.0
    plateau_factor: float = 0.1
    plateau_patience: int = 3
    ema_decay: float | None = None


@dataclass(frozen=True)
class FreezeBodyConfig:
    """A first stage in which only the heads learn, as keras-yolo3's train.py does.

    The second stage starts with fresh optimizer slots and its own schedule; the EMA goes on.

    Attributes:
        epochs: of the first stage; 0: there is none.
        learning_rate: constant.
        paths: patterns of the paths of the parameters that stay.
    """

    epochs: int = 0
    learning_rate: float = 1e-3
    paths: tuple[str, ...] = ("*/body/*",)


@dataclass(frozen=True)
class ExperimentConfig:
    """One experiment.

    Attributes:
        name: of the run folder.
        data: the images.
        network: the network.
        loss: the loss.
        augment: augmentation on the device.
        optimizer: the optimizer and its learning rate.
        freeze_body: the stage before it, if any.
        epochs: number of the last epoch; a larger one resumes a finished run.
        batch_size: rows of a batch, over all devices.
        steps_per_epoch: batches an epoch; None: one pass over the data.
        seed: of everything random.
        runs: folder of run folders.
        score_threshold: least score of detections that are scored.
        iou_threshold: of the suppression.
        keep_checkpoints: the latest ones kept, beside the best by validation loss.
    """

    name: str
    data: DataConfig
    network: NetworkConfig = field(default_factory=NetworkConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    augment: Augment = field(default_factory=Augment)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    freeze_body: FreezeBodyConfig = field(default_factory=FreezeBodyConfig)
    epochs: int = 10
    batch_size: int = 8
    steps_per_epoch: int | None = None
    seed: int = 0
    runs: Path = Path("runs")
    score_threshold: float = 0.001
    iou_threshold: float = 0.45
    keep_checkpoints: int = 2


# What may differ between a run folder's config and the one that resumes it.
MAY_DIFFER = frozenset({"epochs", "runs", "data.threads", "keep_checkpoints"})


def load_config(path: Path | str) -> ExperimentConfig:
    """Runs a config file's `get_config()`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file has no `get_config`, or it returns something else.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no config file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is not a Python file; a config is Python with get_config()")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise ValueError(f"{path} has no get_config(), which should return an ExperimentConfig")
    config = module.get_config()
    if not isinstance(config, ExperimentConfig):
        raise ValueError(
            f"get_config() of {path} returned {type(config).__name__}, not an ExperimentConfig"
        )
    return config


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Returns a config's fields by dotted name, as JSON holds them."""
    flat: dict[str, Any] = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if dataclasses.is_dataclass(value):
            flat |= flatten(value, f"{prefix}{item.name}.")
        else:
            flat[prefix + item.name] = _plain(value)
    return flat


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return value.as_posix()
    return list(value) if isinstance(value, tuple) else value


def save_config(config: ExperimentConfig, path: Path) -> None:
    """Writes every field of a config as JSON."""
    path.write_text(json.dumps(flatten(config), indent=2) + "\n")


def read_config(path: Path) -> ExperimentConfig:
    """Reads back what `save_config` wrote.

    Raises:
        ValueError: a field is missing or unknown.
    """
    flat = json.loads(path.read_text())
    config = _build(ExperimentConfig, flat, "", path)
    unknown = sorted(flat.keys() - flatten(config).keys())
    if unknown:
        raise ValueError(f"{path} has the fields {unknown}, which this version does not know")
    return config


def _build(kind: type, flat: dict[str, Any], prefix: str, path: Path) -> Any:
    values = {}
    for name, hint in typing.get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            values[name] = _build(typing.cast(type, hint), flat, f"{prefix}{name}.", path)
        elif prefix + name not in flat:
            raise ValueError(f"{path} lacks the field {prefix}{name}")
        else:
            value = flat[prefix + name]
            value = Path(value) if hint is Path else value
            values[name] = tuple(value) if isinstance(value, list) else value
    return kind(**values)


def resolve(config: ExperimentConfig, stored: ExperimentConfig | None) -> ExperimentConfig:
    """Returns the config with what it leaves open: the horizon is that of the folder's first run.

    Args:
        config: as the user wrote it.
        stored: the run folder's, or None for a new run.
    """
    if config.optimizer.horizon is not None:
        return config
    horizon = config.epochs if stored is None else stored.optimizer.horizon
    optimizer = dataclasses.replace(config.optimizer, horizon=horizon)
    return dataclasses.replace(config, optimizer=optimizer)


def check_resumable(stored: ExperimentConfig, wanted: ExperimentConfig, folder: Path) -> None:
    """Raises ValueError when a run folder is of another config, naming the fields that differ."""
    old, new = flatten(stored), flatten(wanted)
    differing = [
        f"{name} (there {old.get(name)!r}, here {new.get(name)!r})"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name) and name not in MAY_DIFFER
    ]
    if differing:
        raise ValueError(
            f"{folder} holds a run of another config; these differ: {'; '.join(differing)}. "
            "Choose another --name, or go back to the run's own config."
        )
