"""An experiment's config as a whole, and what its parts have to do with each other."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from yolo_jax.config.parts import (
    Count,
    CountOrZero,
    DataConfig,
    FreezeBodyConfig,
    LossConfig,
    NetworkConfig,
    OptimizerConfig,
    ParallelConfig,
    Share,
    TrainConfig,
)
from yolo_jax.core.fields import Within
from yolo_jax.data.augment import Augment

_ROWS = 8  # of a batch, where a config says nothing of it


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
        score_threshold: least score, 0–1, of detections that are scored.
        iou_threshold: of the suppression: IoU above which the box of the lower score goes.
        keep_checkpoints: the latest ones kept, beside the best by validation loss.
        early_stopping: epochs without a new least validation loss behind which the last stage ends,
            as by Keras's EarlyStopping; 0: none end it.
        close_mosaic: epochs before the optimizer's horizon from which on images are not mixed;
            None: a tenth of all up to there.
        validation_ap_every: epochs between scores of the validation images by average precision,
            which enter history.csv; 0: they are not scored.
        track: where every epoch's logs go, beside history.csv, and at the end the held-out figures:
            `tensorboard` files in the run folder, `wandb` (Weights & Biases), `mlflow`, `aim`; none
            of them, or several.
        track_project: that the run is shown under there; MLflow's and Aim's experiment.
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
    epochs: Count = 10
    batch_size: Count | None = None
    batch_size_per_device: Count | None = None
    steps_per_epoch: Count | None = None
    seed: Annotated[int, Within(0, 2**32, below=True)] = 0
    runs: Path = Path("runs")
    score_threshold: Share = 0.001
    iou_threshold: Share = 0.45
    keep_checkpoints: Count = 2
    early_stopping: CountOrZero = 0
    close_mosaic: CountOrZero | None = 0
    validation_ap_every: CountOrZero = 0
    track: tuple[Literal["tensorboard", "wandb", "mlflow", "aim"], ...] = ("tensorboard",)
    track_project: str = "yolo_jax"

    def check(self) -> None:
        """Checks what no field by itself can show.

        Raises:
            ValueError: `name` is not that of one folder, a batch is given twice or has fewer rows
                than it is to be taken in parts, the warm-up is longer than the training, or every
                crop is larger than the canvas, of which it would show a speck amid grey.
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
        if self.optimizer.kind == "adam" and self.optimizer.weight_decay:
            raise ValueError(
                f"optimizer.weight_decay is {self.optimizer.weight_decay} with optimizer.kind "
                "adam; expected adamw, or no decay"
            )
        if self.steps_per_epoch is not None:
            self.scheduled_steps(self.steps_per_epoch)
        canvas, crop = self.data.canvas_size or self.network.input_size, self.augment.crop
        if crop is not None and crop[0] > canvas:
            what = "data.canvas_size" if self.data.canvas_size else "network.input_size"
            raise ValueError(
                f"augment.crop is {crop}, px of a canvas of {canvas} ({what}), which the smallest "
                "crop already exceeds; set data.canvas_size to about the images' size, or crop less"
            )

    def scheduled_steps(self, steps: int) -> int:
        """Returns the steps that the optimizer's schedule is of, warm-up and all.

        Args:
            steps: an epoch.

        Raises:
            ValueError: the warm-up is longer, and there are epochs for it.
        """
        horizon, first = self.optimizer.horizon or self.epochs, self.freeze_body.epochs
        total = max(horizon - first, 1) * steps
        if self.epochs > first and self.optimizer.warmup_steps > total:
            raise ValueError(
                f"optimizer.warmup_steps is {self.optimizer.warmup_steps}; expected no more than "
                f"the {total} steps that are trained ({horizon - first} epochs of {steps})"
            )
        return total

    def rows(self, devices: int) -> int:
        """Returns the rows of a batch over a number of devices."""
        if self.batch_size_per_device is not None:
            return self.batch_size_per_device * devices
        return _ROWS if self.batch_size is None else self.batch_size

    def mixed_epochs(self) -> int:
        """Returns the epochs in which images are mixed, where any are."""
        epochs = self.optimizer.horizon or self.epochs
        closing = epochs // 10 if self.close_mosaic is None else self.close_mosaic
        return max(epochs - closing, 0)

    def idle_settings(self) -> list[str]:
        """Returns what to say of settings that are not their defaults and have no effect."""
        augment, optimizer = self.augment, self.optimizer
        colours = (augment.brightness, augment.contrast, augment.saturation, augment.hue)
        is_cosine, is_plateau = optimizer.schedule == "cosine", optimizer.schedule == "plateau"
        is_step = optimizer.schedule == "step"
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
            (
                "close_mosaic",
                augment.group > 1 or self.close_mosaic is None,
                "augment.mosaic, mixup or copy",
            ),
            (
                "train.batch_norm",
                self.train.batch_norm != "frozen" or self.network.weights != "scratch",
                "weights to start with: frozen at 0 and 1 it normalises nothing",
            ),
            ("track_project", bool({*self.track} - {"tensorboard"}), "track wandb, mlflow or aim"),
            ("data.validation_share", self.data.validation is None, "data.validation None"),
            ("data.held_out_share", self.data.held_out is None, "data.held_out None"),
            ("data.cache_folder", self.data.cache == "disk", "data.cache disk"),
            ("freeze_body.learning_rate", self.freeze_body.epochs > 0, "freeze_body.epochs"),
            ("freeze_body.paths", self.freeze_body.epochs > 0, "freeze_body.epochs"),
            ("optimizer.final_fraction", is_cosine, "optimizer.schedule cosine"),
            ("optimizer.step_at", is_step, "optimizer.schedule step"),
            ("optimizer.step_factor", is_step, "optimizer.schedule step"),
            ("optimizer.plateau_factor", is_plateau, "optimizer.schedule plateau"),
            ("optimizer.plateau_patience", is_plateau, "optimizer.schedule plateau"),
        )
        idle = [
            f"{name} has no effect without {needed}"
            for name, counts, needed in rules
            if not counts and self._is_set(name)
        ]
        if augment.group > 1 and not self.mixed_epochs():
            idle.append(
                f"augment.mosaic, mixup and copy have no effect: close_mosaic is "
                f"{self.close_mosaic}, which leaves none of the {optimizer.horizon or self.epochs} "
                "epochs to mix images in"
            )
        return idle

    def _is_set(self, name: str) -> bool:
        """Tells whether a dotted field is not its default."""
        *groups, field_name = name.split(".")
        record: Any = self
        for group in groups:
            record = getattr(record, group)
        return getattr(record, field_name) != getattr(type(record), field_name)
