"""Runs an experiment: data, network, fit, held-out figures, pictures; read it top to bottom."""

import dataclasses
import json
import logging
from functools import partial
from pathlib import Path
from typing import Any, cast

import jax.numpy as jnp
import optax
from flax import nnx

from yolo_jax.config import ExperimentConfig, check_resumable, read_config, save_config
from yolo_jax.core.anchors import TINY, YOLOV3, AnchorSet
from yolo_jax.core.precision import Precision
from yolo_jax.core.types import Dataset
from yolo_jax.data.augment import Augment
from yolo_jax.data.pipeline import Loader
from yolo_jax.data.readers.coco import read_coco
from yolo_jax.detection.loss import DetectionLoss
from yolo_jax.evaluation.average_precision import coco_average_precision, per_source
from yolo_jax.inference.detect import Detector
from yolo_jax.model.callbacks import Checkpoint, CSVLogger, TensorBoard
from yolo_jax.model.graph import Input, apply
from yolo_jax.model.losses import detection
from yolo_jax.model.model import Model
from yolo_jax.networks import darknet
from yolo_jax.networks.pretrained import COCO_CLASSES, PretrainedUnavailable, fetch_pretrained
from yolo_jax.networks.yolov3 import TinyYOLOv3, YOLOv3, check_input_size
from yolo_jax.report import (
    metrics,
    save_batch_picture,
    save_curves,
    save_held_out_pictures,
    save_json,
)
from yolo_jax.training.optimizers import build_optimizer, learning_rate_schedule

_log = logging.getLogger(__name__)
_DRAWN_SCORE = 0.3  # least score of the detections on the pictures
_NETWORKS = {"tiny": (TinyYOLOv3, TINY), "yolov3": (YOLOv3, YOLOV3)}


def train(config: ExperimentConfig) -> None:
    """Trains, or goes on where the run folder's newest checkpoint stands.

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

    # Data.
    strict = config.data.strict
    train_set, _ = read_coco(config.data.train, strict=strict)
    validation_set, _ = read_coco(config.data.validation, strict=strict)
    held_out_set, _ = read_coco(config.data.held_out, strict=strict)
    train_loader = _train_loader(config, train_set)
    validation_loader = _loader(config, validation_set)
    steps = config.steps_per_epoch or len(train_loader)
    augment = Augment((side, side), **dataclasses.asdict(config.augment))
    first_batch = next(train_loader.batches())
    save_batch_picture(first_batch, augment, config.seed, folder / "batch.jpg")

    # Network and training.
    network, anchors = build_network(config, train_set.class_names)
    image = Input((side, side, 3), name="image", dtype=jnp.uint8)
    heads = apply(network, image)
    model = Model(image, list(heads), name=config.name, seed=config.seed)
    loss = DetectionLoss(anchors, len(train_set.class_names), **dataclasses.asdict(config.loss))
    model.compile(
        _optimizer(config, steps),
        detection(loss),
        augment=augment,
        ema_decay=config.optimizer.ema_decay,
    )
    history = model.fit(
        train_loader,
        epochs=config.epochs,
        steps_per_epoch=steps,
        validation_data=validation_loader,
        callbacks=[
            CSVLogger(folder / "history.csv"),
            TensorBoard(folder / "tensorboard"),
            Checkpoint(folder / "checkpoints", keep=config.keep_checkpoints),
        ],
        resume=folder / "checkpoints",
    )

    # Held-out figures by the last epoch's weights (their average, where one is kept).
    trained = cast(TinyYOLOv3 | YOLOv3, model.module().layers[heads[0].name])
    darknet.save_weights(folder / "final.weights", trained)
    detector = Detector(
        trained,
        anchors,
        train_set.class_names,
        (side, side),
        score_threshold=config.score_threshold,
        iou_threshold=config.iou_threshold,
    )
    found = detector.detect_batches(_loader(config, held_out_set).one_pass())
    results = {"all": coco_average_precision(held_out_set, found)}
    results |= per_source(held_out_set, found)
    save_curves(history, results, folder)
    save_held_out_pictures(held_out_set, found, _DRAWN_SCORE, folder / "held_out")
    figures = metrics(results) | {"epochs": config.epochs, "skipped": train_loader.skipped}
    save_json(folder / "metrics.json", figures)
    _print_figures(figures)


def build_network(
    config: ExperimentConfig, class_names: tuple[str, ...]
) -> tuple[TinyYOLOv3 | YOLOv3, AnchorSet]:
    """Returns the config's network with its starting weights, and its anchors."""
    kind, anchors = _NETWORKS[config.network.kind]
    create = partial(kind, precision=Precision.for_backend())
    # Under jit the draws of all kernels are one program.
    network = nnx.jit(lambda: create(len(class_names), rngs=nnx.Rngs(config.seed)))()
    weights = config.network.weights
    if weights == "scratch":
        return network, anchors
    try:
        path = fetch_pretrained() if weights == "yolov3-tiny" else Path(weights)
    except PretrainedUnavailable as error:
        _log.warning("training from scratch: %s", error)
        return network, anchors
    pretrained = nnx.jit(lambda: create(len(COCO_CLASSES), rngs=nnx.Rngs(0)))()
    darknet.load_weights(path, pretrained)
    darknet.transfer_heads(pretrained, network)
    return network, anchors


def _train_loader(config: ExperimentConfig, dataset: Dataset) -> Loader:
    canvas = config.data.canvas_size or config.network.input_size
    return Loader(
        dataset,
        batch_size=config.batch_size,
        image_shape=(canvas, canvas),
        max_boxes=config.data.max_boxes,
        shuffle=True,
        seed=config.seed,
        whole_batches=True,
        threads=config.data.threads,
        strict=config.data.strict,
    )


def _loader(config: ExperimentConfig, dataset: Dataset) -> Loader:
    side = config.network.input_size
    return Loader(
        dataset,
        batch_size=config.batch_size,
        image_shape=(side, side),
        threads=config.data.threads,
        strict=config.data.strict,
    )


def _optimizer(config: ExperimentConfig, steps: int) -> optax.GradientTransformation:
    wanted = config.optimizer
    horizon = wanted.horizon or config.epochs
    schedule = learning_rate_schedule(
        wanted.schedule,
        wanted.learning_rate,
        total_steps=horizon * steps,
        warmup_steps=wanted.warmup_steps,
        final_fraction=wanted.final_fraction,
    )
    return build_optimizer(
        wanted.kind,
        schedule,
        momentum=wanted.momentum,
        weight_decay=wanted.weight_decay,
        clip_norm=wanted.clip_norm,
    )


def _open_run(config: ExperimentConfig, folder: Path) -> ExperimentConfig:
    """Makes the run folder, or checks that it is of this config; returns the resolved config.

    The schedule's horizon stays what the first run's was.
    """
    file = folder / "config.json"
    if file.is_file():
        stored = read_config(file)
        check_resumable(stored, config, folder)
        horizon = stored.optimizer.horizon
    else:
        folder.mkdir(parents=True, exist_ok=True)
        horizon = config.optimizer.horizon or config.epochs
    optimizer = dataclasses.replace(config.optimizer, horizon=horizon)
    config = dataclasses.replace(config, optimizer=optimizer)
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
