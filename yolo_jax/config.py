"""What an experiment is, as frozen dataclasses; a config file is Python with `get_config()`."""

import importlib.util
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from yolo_jax.core.fields import Within
from yolo_jax.data.augment import Augment
from yolo_jax.training.parallel import Strategy

# Ranges are checked by `core.fields.check_fields` before anything is loaded.
_Positive = Annotated[float, Within(0, above=True)]
_NotNegative = Annotated[float, Within(0)]
_Decay = Annotated[float, Within(0, 1, below=True)]
_Share = Annotated[float, Within(0, 1)]
_Count = Annotated[int, Within(1)]
_Side = Annotated[int, Within(1, 2**14)]
_CountOrZero = Annotated[int, Within(0)]
_ROWS = 8  # of a batch, where a config says nothing of it


@dataclass(frozen=True)
class DataConfig:
    """The images.

    Attributes:
        train: the training images: COCO JSON, YOLO data.yaml, Pascal VOC folder, keras-yolo3's
            annotation lines (.txt), a folder that `yolo-jax convert` wrote, or tfds:NAME.
        validation: images that the validation loss is taken on, and choices are made on.
        held_out: images that choose nothing; the final figures are theirs.
        train_split: which part of a set that has parts, such as `train`.
        validation_split: the same of the validation images.
        held_out_split: the same of the held-out images.
        classes: file of class names, one a line, for annotations that hold numbers alone; of others
            it gives the order.
        canvas_size: side in px of the square that training images are letterboxed into before
            augmentation crops from it; None: the input size.
        max_boxes: boxes kept an image; None: the data's maximum.
        threads: that decode images, when there are no `workers`.
        workers: processes that decode training images; 0: threads do. The other sets are read in
            passes, each of which would start processes anew: threads decode those.
        cache: keep decoded images in `ram` (threads alone) or on `disk`; `none` keeps none.
        cache_folder: of the cache on disk; None: in the cache folder of yolo_jax.
        strict: a bad record is an error rather than a report.
    """

    train: Path
    validation: Path
    held_out: Path
    train_split: str | None = None
    validation_split: str | None = None
    held_out_split: str | None = None
    classes: Path | None = None
    canvas_size: _Side | None = None
    max_boxes: _Count | None = None
    threads: _Count = 2
    workers: _CountOrZero = 0
    cache: Literal["none", "ram", "disk"] = "none"
    cache_folder: Path | None = None
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
    input_size: _Side = 416
    weights: str = "yolov3-tiny"


@dataclass(frozen=True)
class LossConfig:
    """The loss.

    Attributes:
        ignore_thresh: IoU from which a prediction without an object is not punished.
        exact_centres: False rounds box centres down to whole pixels, as keras-yolo3 does.
    """

    ignore_thresh: _Share = 0.5
    exact_centres: bool = True


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer and its learning rate.

    Attributes:
        kind: `adam`, `sgd` (Nesterov), or for large batches `lamb` or `lars` (Adam and SGD whose
            rate goes with the norm of each weight).
        learning_rate: the peak.
        scale_rate_from: rows of the batch that the rate is meant for; it grows in proportion with
            larger ones (the linear scaling rule, which goes with a warm-up). None: it stays.
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

    kind: Literal["adam", "sgd", "lamb", "lars"] = "adam"
    learning_rate: _Positive = 1e-3
    scale_rate_from: _Count | None = None
    momentum: _Decay = 0.9
    weight_decay: _NotNegative = 0.0
    clip_norm: _Positive | None = None
    schedule: Literal["constant", "cosine", "plateau"] = "cosine"
    horizon: _Count | None = None
    warmup_steps: _CountOrZero = 0
    final_fraction: _Share = 0.0
    plateau_factor: Annotated[float, Within(0, 1, above=True, below=True)] = 0.1
    plateau_patience: _Count = 3
    ema_decay: _Decay | None = None


@dataclass(frozen=True)
class FreezeBodyConfig:
    """A first stage in which only the heads learn, as keras-yolo3's train.py does.

    The second stage starts with fresh optimizer slots and its own schedule; the EMA goes on.

    Attributes:
        epochs: of the first stage; 0: there is none.
        learning_rate: constant.
        paths: patterns of the paths of the parameters that stay.
    """

    epochs: _CountOrZero = 0
    learning_rate: _Positive = 1e-3
    paths: tuple[str, ...] = ("*/body/*",)


@dataclass(frozen=True)
class TrainConfig:
    """How a step is taken; its numbers stay the same, but for batch normalisation in parts.

    Attributes:
        accumulate: parts that a batch is taken in, one after the other, with the memory of one;
            batch normalisation sees each part by itself. A part is filled up where it has to be.
        remat: keep the input of each stage of the body alone for its gradients, and run the stage
            again for them: less memory, a third more arithmetic. On CPU no saving was seen.
        sync_batch_norm: batch normalisation sees the rows of all devices, not those of one.
    """

    accumulate: _Count = 1
    remat: bool = False
    sync_batch_norm: bool = False


@dataclass(frozen=True)
class ParallelConfig:
    """How devices share a batch; the numbers stay the same, up to rounding.

    Attributes:
        strategy: `pmap` maps the step over the devices, `jit` has a mesh of them, and `fsdp` keeps
            parameters and optimizer slots in shards on that mesh.
    """

    strategy: Strategy = "pmap"


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
        train: how a step is taken.
        parallel: how devices share a batch.
        epochs: number of the last epoch; a larger one resumes a finished run.
        batch_size: rows of a batch, over all devices of all processes; None: 8.
        batch_size_per_device: in its place, the rows that each device has of it; the first run's
            number of devices counts.
        steps_per_epoch: batches an epoch; None: one pass over the data.
        seed: of everything random.
        runs: folder of run folders.
        score_threshold: least score of detections that are scored.
        iou_threshold: of the suppression.
        keep_checkpoints: the latest ones kept, beside the best by validation loss.
        close_mosaic: epochs before the optimizer's horizon from which on images are not mixed.
    """

    name: str
    data: DataConfig
    network: NetworkConfig = field(default_factory=NetworkConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    augment: Augment = field(default_factory=Augment)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    freeze_body: FreezeBodyConfig = field(default_factory=FreezeBodyConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    epochs: _Count = 10
    batch_size: _Count | None = None
    batch_size_per_device: _Count | None = None
    steps_per_epoch: _Count | None = None
    seed: Annotated[int, Within(0, 2**32, below=True)] = 0
    runs: Path = Path("runs")
    score_threshold: _Share = 0.001
    iou_threshold: _Share = 0.45
    keep_checkpoints: _Count = 2
    close_mosaic: _CountOrZero = 0

    def check(self) -> None:
        """Checks what no field by itself can show.

        Raises:
            ValueError: `name` is not that of one folder, a batch is given twice or has fewer rows
                than it is to be taken in parts, or every crop is larger than the canvas, of which
                it would show a speck amid grey.
        """
        if Path(self.name).name != self.name or self.name in ("", ".."):
            raise ValueError(f"name is {self.name!r}; expected that of one folder in {self.runs}")
        if self.batch_size is not None and self.batch_size_per_device is not None:
            raise ValueError(
                f"batch_size is {self.batch_size} and batch_size_per_device "
                f"{self.batch_size_per_device}; expected one of them, and None for the other"
            )
        if self.batch_size_per_device is None and self.train.accumulate > self.rows(1):
            raise ValueError(
                f"train.accumulate is {self.train.accumulate}, parts of a batch of "
                f"{self.rows(1)} rows (batch_size); expected no more parts than rows"
            )
        canvas, crop = self.data.canvas_size or self.network.input_size, self.augment.crop
        if crop is not None and crop[0] > canvas:
            what = "data.canvas_size" if self.data.canvas_size else "network.input_size"
            raise ValueError(
                f"augment.crop is {crop}, px of a canvas of {canvas} ({what}), which the smallest "
                "crop already exceeds; set data.canvas_size to about the images' size, or crop less"
            )

    def rows(self, devices: int) -> int:
        """Returns the rows of a batch over a number of devices."""
        if self.batch_size_per_device is not None:
            return self.batch_size_per_device * devices
        return _ROWS if self.batch_size is None else self.batch_size

    def idle_settings(self) -> list[str]:
        """Returns what to say of settings that are not their defaults and have no effect."""
        augment, optimizer = self.augment, self.optimizer
        colours = (augment.brightness, augment.contrast, augment.saturation, augment.hue)
        is_cosine, is_plateau = optimizer.schedule == "cosine", optimizer.schedule == "plateau"
        # Fields, whether they count, and with what they would.
        rules = (
            ("augment.mosaic_zoom", augment.mosaic > 0, "augment.mosaic"),
            ("augment.copy_px", augment.copy > 0, "augment.copy"),
            (
                "augment.placed",
                bool(augment.crop or augment.scale or augment.aspect_jitter),
                "augment.crop, scale or aspect_jitter",
            ),
            ("augment.recoloured", bool(augment.hsv or any(colours)), "a change of colours"),
            ("close_mosaic", augment.group > 1, "augment.mosaic, mixup or copy"),
            ("data.cache_folder", self.data.cache == "disk", "data.cache disk"),
            ("freeze_body.learning_rate", self.freeze_body.epochs > 0, "freeze_body.epochs"),
            ("freeze_body.paths", self.freeze_body.epochs > 0, "freeze_body.epochs"),
            ("optimizer.final_fraction", is_cosine, "optimizer.schedule cosine"),
            ("optimizer.plateau_factor", is_plateau, "optimizer.schedule plateau"),
            ("optimizer.plateau_patience", is_plateau, "optimizer.schedule plateau"),
        )
        idle = [
            f"{name} has no effect without {needed}"
            for name, counts, needed in rules
            if not counts and self._is_set(name)
        ]
        epochs = optimizer.horizon or self.epochs
        if augment.group > 1 and self.close_mosaic >= epochs:
            idle.append(
                f"augment.mosaic, mixup and copy have no effect: close_mosaic is "
                f"{self.close_mosaic}, which leaves none of the {epochs} epochs to mix images in"
            )
        return idle

    def _is_set(self, name: str) -> bool:
        """Tells whether a dotted field is not its default."""
        *groups, field_name = name.split(".")
        record: Any = self
        for group in groups:
            record = getattr(record, group)
        return getattr(record, field_name) != getattr(type(record), field_name)


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
