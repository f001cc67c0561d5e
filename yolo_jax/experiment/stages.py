"""The stages of an experiment: epochs that share an optimizer, planned, compiled and fitted."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import optax

from yolo_jax.config import ExperimentConfig
from yolo_jax.core.anchors import AnchorSet
from yolo_jax.data.augment import MultiScale
from yolo_jax.experiment.data import Data
from yolo_jax.experiment.refused import RefusedUpdates
from yolo_jax.experiment.speed import SpeedLogger
from yolo_jax.model.callbacks import (
    Callback,
    Checkpoint,
    CSVLogger,
    EarlyStopping,
    MeanAP,
    ReduceLROnPlateau,
)
from yolo_jax.model.losses import Joint
from yolo_jax.model.model import Model
from yolo_jax.run_folder import RunFolder
from yolo_jax.training import distributed
from yolo_jax.training.optimizers import build_optimizer, learning_rate_schedule

_NORMS = ("*/norm/*",)  # paths of what normalises: scale and shift


class Stage(NamedTuple):
    """Epochs that share an optimizer.

    Attributes:
        first: number of its first epoch, from 0.
        end: number of the epoch after its last.
        optimizer: of the stage.
        frozen: patterns of the parameters that stay.
        checkpoints: name of its folder.
        watchers: that lower its rate or end it.
    """

    first: int
    end: int
    optimizer: optax.GradientTransformation
    frozen: tuple[str, ...]
    checkpoints: str
    watchers: tuple[Callback, ...] = ()


def plan_stages(config: ExperimentConfig, steps: int) -> Iterator[Stage]:
    """Yields the stages: the heads alone, where the config has that one, then all.

    Args:
        config: of the experiment.
        steps: an epoch.

    Raises:
        ValueError: the warm-up is longer than its stage.
    """
    wanted, first = config.optimizer, config.freeze_body.epochs
    frozen = _NORMS if config.train.batch_norm == "frozen" else ()
    build = partial(
        build_optimizer,
        wanted.kind,
        momentum=wanted.momentum,
        weight_decay=wanted.weight_decay,
        clip_norm=wanted.clip_norm,
    )
    if first:
        rate = scaled_rate(config.freeze_body.learning_rate, config)
        constant = optax.constant_schedule(rate)
        end = min(first, config.epochs)
        yield Stage(
            0, end, build(constant), (*config.freeze_body.paths, *frozen), "checkpoints_heads"
        )
    if config.epochs > first:
        total = config.scheduled_steps(steps)
        is_plateau = wanted.schedule == "plateau"
        rate = scaled_rate(wanted.learning_rate, config)
        schedule = learning_rate_schedule(
            "constant" if wanted.schedule == "plateau" else wanted.schedule,
            1.0 if is_plateau else rate,
            total_steps=total,
            warmup_steps=wanted.warmup_steps,
            final_fraction=wanted.final_fraction,
            step_at=wanted.step_at,
            step_factor=wanted.step_factor,
        )
        optimizer = build(schedule, settable_rate=rate if is_plateau else None)
        watchers = _watchers(config)
        yield Stage(first, config.epochs, optimizer, frozen, "checkpoints", watchers)


def _watchers(config: ExperimentConfig) -> tuple[Callback, ...]:
    """Returns what watches the validation loss; the first process says what they do."""
    wanted, verbose = config.optimizer, int(distributed.is_first())
    found: list[Callback] = []
    if wanted.schedule == "plateau":
        factor, patience = wanted.plateau_factor, wanted.plateau_patience
        found.append(ReduceLROnPlateau(factor=factor, patience=patience, verbose=verbose))
    if config.early_stopping:
        found.append(EarlyStopping(patience=config.early_stopping, verbose=verbose))
    return tuple(found)


def scaled_rate(rate: float, config: ExperimentConfig) -> float:
    """Returns a learning rate for the config's batch, by the linear scaling rule where it is on.

    Source: Goyal et al., Accurate, Large Minibatch SGD, section 2.1.
    """
    meant_for = config.optimizer.scale_rate_from
    return rate if meant_for is None else rate * config.rows(jax.device_count()) / meant_for


def compile_stage(
    config: ExperimentConfig,
    stage: Stage,
    model: Model,
    loss: Joint,
    devices: Sequence[Any] | None = None,
) -> None:
    """Compiles a model for a stage, over all devices or the given ones."""
    side = config.network.input_size
    augment: Any = partial(config.augment, output_shape=(side, side))
    if config.augment.multi_scale:
        augment = MultiScale(config.augment, config.augment.multi_scale, config.seed)
    model.compile(
        stage.optimizer,
        loss,
        augment=augment,
        ema_decay=config.optimizer.ema_decay,
        frozen=stage.frozen,
        accumulate=config.train.accumulate,
        sync_batch_norm=config.train.batch_norm == "sync",
        parallel=config.parallel.strategy,
        devices=devices,
    )


def fit_stages(
    config: ExperimentConfig,
    stages: Sequence[Stage],
    steps: int,
    model: Model,
    loss: Joint,
    data: Data,
    anchors: AnchorSet,
    callbacks: Sequence[Callback],
    trackers: Sequence[Callback],
) -> int:
    """Trains stage after stage; each goes on from its own newest checkpoint.

    Returns:
        The epochs that are done: fewer than the config's where the last stage stopped early.
    """
    folder, is_first = config.runs / config.name, distributed.is_first()
    scores = []
    if config.validation_ap_every:
        scores = [
            MeanAP(
                data.validation,
                anchors,
                freq=config.validation_ap_every,
                score_threshold=config.score_threshold,
                iou_threshold=config.iou_threshold,
            )
        ]
    for number, stage in enumerate(stages):
        compile_stage(config, stage, model, loss)
        listeners = [
            *scores,
            *callbacks,
            *stage.watchers,
            CSVLogger(RunFolder(folder).history_file),
            SpeedLogger(folder / "speed.csv"),
            *([RefusedUpdates(RunFolder(folder), number, data.train)] if is_first else []),
            *trackers,
        ]
        fit_stage(config, stage, steps, model, data, listeners, folder)
    return model.run.epoch


def fit_stage(
    config: ExperimentConfig,
    stage: Stage,
    steps: int,
    model: Model,
    data: Data,
    callbacks: Sequence[Callback],
    folder: Path,
) -> None:
    """Trains a stage of a compiled model, from its newest checkpoint in a folder on.

    Raises:
        ValueError: the checkpoint stands behind the stage's end.
    """
    checkpoints = folder / stage.checkpoints
    model.fit(
        data.train,
        epochs=stage.end,
        initial_epoch=stage.first,
        steps_per_epoch=steps,
        validation_data=data.validation,
        callbacks=[*callbacks, Checkpoint(checkpoints, keep=config.keep_checkpoints)],
        resume=checkpoints,
        strict=True,
        on_nonfinite=config.train.on_nonfinite,
    )
    if model.run.epoch > stage.end:
        raise ValueError(
            f"{folder} has {model.run.epoch} epochs behind it, more than --epochs "
            f"{config.epochs}; ask for as many or more"
        )
