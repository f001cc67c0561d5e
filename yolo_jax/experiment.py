"""Runs an experiment: data, network, fit, held-out figures, pictures; read it top to bottom."""

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax

from yolo_jax.agreement import check_settings, check_start
from yolo_jax.config import ExperimentConfig
from yolo_jax.core.fields import check_fields
from yolo_jax.core.types import Dataset
from yolo_jax.data.augment import MultiScale
from yolo_jax.data.classes import in_classes
from yolo_jax.data.doctor import Problem, check_trainable
from yolo_jax.data.pipeline import Loader
from yolo_jax.data.readers import read_dataset
from yolo_jax.detection.detector import Detector
from yolo_jax.detection.loss import DetectionLoss
from yolo_jax.model.callbacks import Callback, Checkpoint, CSVLogger, TensorBoard
from yolo_jax.model.graph import Input, apply
from yolo_jax.model.losses import Joint, detection
from yolo_jax.model.model import Model
from yolo_jax.networks import darknet
from yolo_jax.networks.pretrained import (
    COCO_CLASSES,
    PretrainedUnavailable,
    cache_folder,
    fetch_pretrained,
)
from yolo_jax.networks.yolov3 import NETWORKS, Network, check_input_size, create_network
from yolo_jax.report import save_batch_picture
from yolo_jax.run_folder import RunFolder
from yolo_jax.score import print_figures, score_held_out
from yolo_jax.training import distributed
from yolo_jax.training.optimizers import build_optimizer, learning_rate_schedule, reduce_on_plateau

_log = logging.getLogger(__name__)


class Data(NamedTuple):
    """The loaders of an experiment."""

    train: Loader
    validation: Loader
    held_out: Loader


class Stage(NamedTuple):
    """Epochs that share an optimizer.

    Attributes:
        first: number of its first epoch, from 0.
        end: number of the epoch after its last.
        optimizer: of the stage.
        frozen: patterns of the parameters that stay.
        checkpoints: name of its folder.
    """

    first: int
    end: int
    optimizer: optax.GradientTransformation
    frozen: tuple[str, ...]
    checkpoints: str


def train(config: ExperimentConfig, callbacks: Sequence[Callback] = ()) -> None:
    """Trains, or goes on where the run folder's newest checkpoint stands.

    Args:
        config: of the experiment.
        callbacks: called before those that keep the run folder.

    Raises:
        ValueError: settings that cannot be, bad data under `data.strict`, data without a box to
            learn, or a run folder of another config or damaged.
        FloatingPointError: a loss, a gradient or an update was not finite.
    """
    check_fields(config)
    for idle in config.idle_settings():
        _log.warning("%s", idle)
    side = config.network.input_size
    for one in (side, *config.augment.multi_scale):
        check_input_size(one, one)
    run = RunFolder(config.runs / config.name)
    config = run.resolve(config, jax.device_count())
    # Before the first of them writes; a config that was read from a folder is in it.
    check_settings(config, begun=run.is_begun)
    figures = run.figures()
    if figures is not None and figures["epochs"] >= config.epochs:
        done = figures["epochs"]
        if distributed.is_first():
            print(f"{run.path} is complete after {done} epochs; more --epochs go on from there.")
            print_figures(figures)
        return

    # What is wrong with annotations and weights is found before the folder is made. An image is
    # decoded when its batch is made, the held-out ones after training: see `score`.
    data = open_data(config)
    class_names = data.train.dataset.class_names
    network = pretrained_network(config, len(class_names))
    steps = config.steps_per_epoch or len(data.train)
    stages = list(plan_stages(config, steps))
    check_start(config, network, [loader.dataset for loader in data])
    augment: Any = partial(config.augment, output_shape=(side, side))
    first_batch = next(data.train.batches())
    if distributed.is_first():
        run.begin(config, class_names)
        save_batch_picture(first_batch, augment, config.seed, run.path / "batch.jpg")
    distributed.wait_for_all("the run folder is there")

    model, loss = build_model(config, network, len(class_names))
    fit_stages(config, stages, steps, model, loss, data, callbacks)
    distributed.end_when_told()

    # Held-out figures by the last epoch's weights (their average, where one is kept).
    trained = cast(Network, model.module().layers[model.outputs[0].name])
    if distributed.is_first():
        run.save_config(config)  # what may differ is as of the last run
        darknet.save_weights(run.weights, trained)
    detector = Detector(
        trained,
        NETWORKS[config.network.kind][1],
        class_names,
        (side, side),
        score_threshold=config.score_threshold,
        iou_threshold=config.iou_threshold,
    )
    skipped = data.train.skipped | data.validation.skipped
    score_held_out(config, detector, data.held_out, skipped, run)
    # The first scores what all found; JAX takes for dead what ends minutes after the others.
    distributed.wait_for_all("the held-out figures are there", seconds=3600)


def open_data(config: ExperimentConfig) -> Data:
    """Reads the annotations and returns the loaders; bad records are reported, or raised."""
    strict = config.data.strict
    side = config.network.input_size
    canvas = config.data.canvas_size or side
    loader = partial(
        Loader,
        batch_size=config.rows(jax.device_count()),
        threads=config.data.threads,
        process=(jax.process_index(), jax.process_count()),
        strict=strict,
    )

    def read(path: Path, split: str | None) -> tuple[Dataset, tuple[Problem, ...]]:
        names = config.data.classes
        return read_dataset(path, split=split, strict=strict, class_names_file=names)

    train, problems = read(config.data.train, config.data.train_split)
    check_trainable(train)
    names = train.class_names
    cache: Any = {
        "none": None,
        "ram": "memory",
        "disk": config.data.cache_folder or cache_folder() / "images",
    }[config.data.cache]
    validation, held_out = (
        loader(in_classes(dataset, names), image_shape=(side, side), cache=kept, problems=bad)
        for (dataset, bad), kept in (
            (read(config.data.validation, config.data.validation_split), cache),
            (read(config.data.held_out, config.data.held_out_split), None),  # read once
        )
    )
    train = loader(
        in_classes(train, names),
        image_shape=(canvas, canvas),
        max_boxes=config.data.max_boxes,
        workers=config.data.workers,
        cache=cache,
        mixing=config.augment.mixing(_mixed_batches(config, len(train.annotations))),
        shuffle=True,
        seed=config.seed,
        whole_batches=True,
        problems=problems,
    )
    return Data(train, validation, held_out)


def _mixed_batches(config: ExperimentConfig, images: int) -> int | None:
    """Returns the batches whose images are mixed, or None for all."""
    if not config.close_mosaic:
        return None
    steps = config.steps_per_epoch or max(1, images // config.rows(jax.device_count()))
    epochs = (config.optimizer.horizon or config.epochs) - config.close_mosaic
    return max(epochs, 0) * steps


def pretrained_network(config: ExperimentConfig, num_classes: int) -> Network:
    """Returns the config's network with its starting weights."""
    kind = config.network.kind
    network = create_network(kind, num_classes, seed=config.seed, remat=config.train.remat)
    weights = config.network.weights
    if weights == "scratch":
        return network
    if weights != "yolov3-tiny" and not Path(weights).is_file():
        raise ValueError(
            f"network.weights is {weights!r}, and there is no such file; expected a .weights file, "
            "yolov3-tiny or scratch"
        )
    try:
        path = fetch_pretrained() if weights == "yolov3-tiny" else Path(weights)
    except PretrainedUnavailable as error:
        if jax.process_count() > 1:
            raise  # the other processes may have them
        _log.warning("training from scratch: %s", error)
        return network
    pretrained = create_network(kind, len(COCO_CLASSES))
    darknet.load_weights(path, pretrained)
    darknet.transfer_heads(pretrained, network)
    return network


def build_model(
    config: ExperimentConfig, network: Network, num_classes: int
) -> tuple[Model, Joint]:
    """Returns a network as a model, from uint8 images to heads, and its loss."""
    side = config.network.input_size
    image = Input((side, side, 3), name="image", dtype=jnp.uint8)
    model = Model(image, list(apply(network, image)), name=config.name, seed=config.seed)
    anchors = NETWORKS[config.network.kind][1]
    return model, detection(DetectionLoss(anchors, num_classes, **dataclasses.asdict(config.loss)))


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
        sync_batch_norm=config.train.sync_batch_norm,
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
    callbacks: Sequence[Callback],
) -> None:
    """Trains stage after stage; each goes on from its own newest checkpoint."""
    folder = config.runs / config.name
    for stage in stages:
        compile_stage(config, stage, model, loss)
        model.fit(
            data.train,
            epochs=stage.end,
            initial_epoch=stage.first,
            steps_per_epoch=steps,
            validation_data=data.validation,
            callbacks=[
                *callbacks,
                CSVLogger(folder / "history.csv"),
                TensorBoard(folder / "tensorboard"),
                Checkpoint(folder / stage.checkpoints, keep=config.keep_checkpoints),
            ],
            resume=folder / stage.checkpoints,
            strict=True,
        )
        if model.run.epoch > stage.end:
            raise ValueError(
                f"{folder} has {model.run.epoch} epochs behind it, more than --epochs "
                f"{config.epochs}; ask for as many or more"
            )


def plan_stages(config: ExperimentConfig, steps: int) -> Iterator[Stage]:
    """Yields the stages: the heads alone, where the config has that one, then all.

    Args:
        config: of the experiment.
        steps: an epoch.

    Raises:
        ValueError: the warm-up is longer than its stage.
    """
    wanted, first = config.optimizer, config.freeze_body.epochs
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
        yield Stage(0, end, build(constant), config.freeze_body.paths, "checkpoints_heads")
    if config.epochs > first:
        total = max((wanted.horizon or config.epochs) - first, 1) * steps
        if wanted.warmup_steps > total:
            raise ValueError(
                f"optimizer.warmup_steps is {wanted.warmup_steps}; expected no more than the "
                f"{total} steps that are trained"
            )
        schedule = learning_rate_schedule(
            "cosine" if wanted.schedule == "cosine" else "constant",
            scaled_rate(wanted.learning_rate, config),
            total_steps=total,
            warmup_steps=wanted.warmup_steps,
            final_fraction=wanted.final_fraction,
        )
        plateau = None
        if wanted.schedule == "plateau":
            plateau = reduce_on_plateau(
                steps, factor=wanted.plateau_factor, patience=wanted.plateau_patience
            )
        yield Stage(first, config.epochs, build(schedule, plateau=plateau), (), "checkpoints")


def scaled_rate(rate: float, config: ExperimentConfig) -> float:
    """Returns a learning rate for the config's batch, by the linear scaling rule where it is on.

    Source: Goyal et al., Accurate, Large Minibatch SGD, section 2.1.
    """
    meant_for = config.optimizer.scale_rate_from
    return rate if meant_for is None else rate * config.rows(jax.device_count()) / meant_for
