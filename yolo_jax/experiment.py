"""Runs an experiment: data, network, fit, held-out figures, pictures; read it top to bottom."""

import dataclasses
import json
import logging
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax.numpy as jnp
import optax

from yolo_jax.config import ExperimentConfig, check_resumable, read_config, resolve, save_config
from yolo_jax.core.types import Dataset
from yolo_jax.data.pipeline import Loader
from yolo_jax.data.readers.coco import read_coco
from yolo_jax.detection.detector import Detector
from yolo_jax.detection.loss import DetectionLoss
from yolo_jax.evaluation.average_precision import coco_average_precision, per_source
from yolo_jax.model.callbacks import Callback, Checkpoint, CSVLogger, TensorBoard
from yolo_jax.model.graph import Input, apply
from yolo_jax.model.losses import Joint, detection
from yolo_jax.model.model import Model
from yolo_jax.networks import darknet
from yolo_jax.networks.pretrained import COCO_CLASSES, PretrainedUnavailable, fetch_pretrained
from yolo_jax.networks.yolov3 import NETWORKS, Network, check_input_size, create_network
from yolo_jax.report import (
    metrics,
    save_batch_picture,
    save_curves,
    save_held_out_pictures,
    save_json,
)
from yolo_jax.training.optimizers import build_optimizer, learning_rate_schedule, reduce_on_plateau

_log = logging.getLogger(__name__)
_DRAWN_SCORE = 0.3  # least score of the detections on the pictures


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
        ValueError: bad data under `data.strict`, a run folder of another config, or settings
            that cannot be.
        FloatingPointError: a loss or gradient was not finite.
    """
    side = config.network.input_size
    check_input_size(side, side)
    folder = config.runs / config.name
    config = _open_run(config, folder)
    if _is_complete(config, folder):
        print(f"{folder} is complete after {config.epochs} epochs; more --epochs go on from there.")
        _print_figures(json.loads((folder / "metrics.json").read_text()))
        return

    data = open_data(config)
    class_names = data.train.dataset.class_names
    augment = partial(config.augment, output_shape=(side, side))
    save_batch_picture(next(data.train.batches()), augment, config.seed, folder / "batch.jpg")

    network = pretrained_network(config, len(class_names))
    _, anchors = NETWORKS[config.network.kind]
    image = Input((side, side, 3), name="image", dtype=jnp.uint8)
    heads = apply(network, image)
    model = Model(image, list(heads), name=config.name, seed=config.seed)
    loss = DetectionLoss(anchors, len(class_names), **dataclasses.asdict(config.loss))
    fit_stages(config, model, detection(loss), augment, data, callbacks)

    # Held-out figures by the last epoch's weights (their average, where one is kept).
    trained = cast(Network, model.module().layers[heads[0].name])
    darknet.save_weights(folder / "final.weights", trained)
    detector = Detector(
        trained,
        anchors,
        class_names,
        (side, side),
        score_threshold=config.score_threshold,
        iou_threshold=config.iou_threshold,
    )
    figures = score(config, detector, data, folder)
    _print_figures(figures)


def open_data(config: ExperimentConfig) -> Data:
    """Reads the annotations and returns the loaders; bad records are reported, or raised."""
    strict = config.data.strict
    side = config.network.input_size
    canvas = config.data.canvas_size or side
    loader = partial(
        Loader, batch_size=config.batch_size, threads=config.data.threads, strict=strict
    )

    def read(path: Path) -> Dataset:
        return read_coco(path, strict=strict)[0]

    return Data(
        train=loader(
            read(config.data.train),
            image_shape=(canvas, canvas),
            max_boxes=config.data.max_boxes,
            shuffle=True,
            seed=config.seed,
            whole_batches=True,
        ),
        validation=loader(read(config.data.validation), image_shape=(side, side)),
        held_out=loader(read(config.data.held_out), image_shape=(side, side)),
    )


def pretrained_network(config: ExperimentConfig, num_classes: int) -> Network:
    """Returns the config's network with its starting weights."""
    kind = config.network.kind
    network = create_network(kind, num_classes, seed=config.seed)
    weights = config.network.weights
    if weights == "scratch":
        return network
    try:
        path = fetch_pretrained() if weights == "yolov3-tiny" else Path(weights)
    except PretrainedUnavailable as error:
        _log.warning("training from scratch: %s", error)
        return network
    pretrained = create_network(kind, len(COCO_CLASSES))
    darknet.load_weights(path, pretrained)
    darknet.transfer_heads(pretrained, network)
    return network


def fit_stages(
    config: ExperimentConfig,
    model: Model,
    loss: Joint,
    augment: Any,
    data: Data,
    callbacks: Sequence[Callback],
) -> None:
    """Trains stage after stage; each goes on from its own newest checkpoint."""
    folder = config.runs / config.name
    steps = config.steps_per_epoch or len(data.train)
    for stage in _stages(config, steps):
        model.compile(
            stage.optimizer,
            loss,
            augment=augment,
            ema_decay=config.optimizer.ema_decay,
            frozen=stage.frozen,
        )
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


def score(config: ExperimentConfig, detector: Detector, data: Data, folder: Path) -> dict[str, Any]:
    """Scores the held-out images, leaves figures and pictures, and returns the figures."""
    dataset = data.held_out.dataset
    found = detector.detect_batches(data.held_out.one_pass())
    results = {"all": coco_average_precision(dataset, found)} | per_source(dataset, found)
    save_curves(folder / "history.csv", results, folder)
    save_held_out_pictures(dataset, found, _DRAWN_SCORE, folder / "held_out")
    skipped = {path: reason for loader in data for path, reason in loader.skipped.items()}
    figures = metrics(results) | {"epochs": config.epochs, "skipped": skipped}
    save_json(folder / "metrics.json", figures)
    return figures


def _stages(config: ExperimentConfig, steps: int) -> Iterator[Stage]:
    """Yields the stages: the heads alone, where the config has that one, then all."""
    wanted, first = config.optimizer, config.freeze_body.epochs
    build = partial(
        build_optimizer,
        wanted.kind,
        momentum=wanted.momentum,
        weight_decay=wanted.weight_decay,
        clip_norm=wanted.clip_norm,
    )
    if first:
        constant = optax.constant_schedule(config.freeze_body.learning_rate)
        end = min(first, config.epochs)
        yield Stage(0, end, build(constant), config.freeze_body.paths, "checkpoints_heads")
    if config.epochs > first:
        schedule = learning_rate_schedule(
            "cosine" if wanted.schedule == "cosine" else "constant",
            wanted.learning_rate,
            total_steps=max((wanted.horizon or config.epochs) - first, 1) * steps,
            warmup_steps=wanted.warmup_steps,
            final_fraction=wanted.final_fraction,
        )
        plateau = None
        if wanted.schedule == "plateau":
            plateau = reduce_on_plateau(
                steps, factor=wanted.plateau_factor, patience=wanted.plateau_patience
            )
        yield Stage(first, config.epochs, build(schedule, plateau=plateau), (), "checkpoints")


def _open_run(config: ExperimentConfig, folder: Path) -> ExperimentConfig:
    """Makes the run folder, or checks that it is of this config; returns the resolved config."""
    file = folder / "config.json"
    stored = read_config(file) if file.is_file() else None
    config = resolve(config, stored)
    if stored is not None:
        check_resumable(stored, config, folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_config(config, file)
    return config


def _is_complete(config: ExperimentConfig, folder: Path) -> bool:
    """Tells whether the folder's figures are of at least as many epochs as asked for."""
    file = folder / "metrics.json"
    return file.is_file() and json.loads(file.read_text())["epochs"] >= config.epochs


def _print_figures(figures: dict[str, Any]) -> None:
    for name, part in {"held-out": figures, **figures["sources"]}.items():
        shown = "  ".join(f"{key} {part[key] or 0:.3f}" for key in ("AP50", "AP"))
        print(f"{name:10s} {shown}")
