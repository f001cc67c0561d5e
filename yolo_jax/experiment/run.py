"""Runs an experiment: data, network, fit, held-out figures, pictures; read it top to bottom."""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import jax

from yolo_jax.agreement import check_settings, check_start
from yolo_jax.config import ExperimentConfig
from yolo_jax.core.fields import check_fields
from yolo_jax.experiment.anchors import anchors_of
from yolo_jax.experiment.data import open_data
from yolo_jax.experiment.figures import leave_figures, make_detector, trained_network
from yolo_jax.experiment.groups import check_group
from yolo_jax.experiment.network import build_model, pretrained_network
from yolo_jax.experiment.stages import fit_stages, plan_stages
from yolo_jax.experiment.trackers import make_trackers
from yolo_jax.model.callbacks import Callback
from yolo_jax.provenance import note_start, tell_differences
from yolo_jax.report.pictures import save_batch_picture
from yolo_jax.report.warned import WARNINGS, Warned, collected_warnings
from yolo_jax.run_folder import RunFolder, is_complete
from yolo_jax.score import print_figures
from yolo_jax.training import distributed

_log = logging.getLogger(__name__)


def train(
    config: ExperimentConfig,
    callbacks: Sequence[Callback] = (),
    *,
    source: Path | None = None,
    reproduces: Path | None = None,
) -> None:
    """Trains, or goes on where the run folder's newest checkpoint stands.

    Args:
        config: of the experiment.
        callbacks: called before those that keep the run folder.
        source: file that the config was read from, of which the run folder notes the commit.
        reproduces: folder of the run that this one repeats: what differs in versions, devices and
            data is printed before the training.

    Raises:
        ValueError: settings that cannot be, bad data under `data.strict`, data without a box to
            learn, or a run folder of another config, damaged, in use by a living process, or of a
            trial that shares its state with others.
        FloatingPointError: a loss, a gradient or an update was not finite.
    """
    with collected_warnings() as warned:
        _train(config, callbacks, source, reproduces, warned)


def _train(
    config: ExperimentConfig,
    callbacks: Sequence[Callback],
    source: Path | None,
    reproduces: Path | None,
    warned: Warned,
) -> None:
    check_fields(config)
    for idle in config.idle_settings():
        _log.warning("%s", idle)
    side = config.network.input_size
    run = RunFolder(config.runs / config.name)
    config = run.resolve(config, jax.device_count())
    # Before the first of them writes; a config that was read from a folder is in it.
    begun = run.is_begun
    check_settings(config, begun=begun)
    figures = run.figures()
    if figures is not None and is_complete(figures, config.epochs):
        if distributed.is_first():
            print(f"{run.path} is complete {_end_of(figures)}.")
            print_figures(figures)
        return
    check_group([config])

    # What is missing, or wrong with annotations and weights, is found before the folder is made.
    # An image is decoded when its batch is made, the held-out ones after training: see `score`.
    trackers = list(make_trackers(config))
    data = open_data(config)
    class_names = data.train.dataset.class_names
    network = pretrained_network(config, len(class_names))
    steps = config.steps_per_epoch or len(data.train)
    stages = list(plan_stages(config, steps))
    datasets = [loader.dataset for loader in data]
    check_start(config, network, datasets)
    anchors = anchors_of(run, config, data.train.dataset, begun=begun)
    augment: Any = partial(config.augment, output_shape=(side, side))
    first_batch = next(data.train.batches())
    with ExitStack() as held:
        if distributed.is_first():
            held.enter_context(run.in_use())
            run.begin(config, class_names, anchors)
            warned.keep_in(run.path / WARNINGS)
            start = note_start(
                run, config, network, datasets,
                goes_on=begun, source=source, reproduces=reproduces,
            )  # fmt: skip
            if reproduces is not None:
                tell_differences(reproduces, start)
            print(f"{run.path}: {data.counted()}")
            keys = jax.random.split(jax.random.key(config.seed), len(first_batch.image))
            save_batch_picture(first_batch, augment, keys, run.path / "batch.jpg")
        distributed.wait_for_all("the run folder is there")
        model, loss = build_model(config, network, len(class_names), anchors)
        epochs = fit_stages(config, stages, steps, model, loss, data, anchors, callbacks, trackers)
        distributed.end_when_told()
        trained = trained_network(model)
        detector = make_detector(config, trained, anchors, data)
        leave_figures(config, run, trained, detector, data, epochs, trackers)


def _end_of(figures: dict[str, Any]) -> str:
    """Says where a complete run ended, and whether there is more to it."""
    after = f"after {figures['epochs']} epochs"
    if figures["stopped_early"]:
        return f"{after}: it stopped early, and more --epochs change nothing"
    return f"{after}; more --epochs go on from there"
