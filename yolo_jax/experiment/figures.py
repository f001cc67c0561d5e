"""What an experiment leaves of the trained network: weights, and held-out figures."""

from collections.abc import Sequence
from typing import cast

from yolo_jax.config import ExperimentConfig
from yolo_jax.core.anchors import AnchorSet
from yolo_jax.detection.detector import Detector
from yolo_jax.detection.nms import Suppression
from yolo_jax.experiment.data import Data
from yolo_jax.model.callbacks import TensorBoard, Tracker
from yolo_jax.model.model import Model
from yolo_jax.networks import darknet
from yolo_jax.networks.yolov3 import Network
from yolo_jax.run_folder import RunFolder
from yolo_jax.score import score_held_out
from yolo_jax.training import distributed


def trained_network(model: Model) -> Network:
    """Returns a model's network with its current weights, or their average."""
    return cast(Network, model.module().layers[model.outputs[0].name])


def make_detector(
    config: ExperimentConfig, trained: Network, anchors: AnchorSet, data: Data
) -> Detector:
    """Returns what finds the held-out objects, by the config's thresholds."""
    side = config.network.input_size
    return Detector(
        trained,
        anchors,
        data.train.dataset.class_names,
        (side, side),
        suppression=Suppression(config.score_threshold, config.iou_threshold),
    )


def leave_figures(
    config: ExperimentConfig,
    run: RunFolder,
    trained: Network,
    detector: Detector,
    data: Data,
    epochs: int,
    trackers: Sequence[TensorBoard | Tracker] = (),
) -> None:
    """Leaves the trained weights and their held-out figures in the run folder, and with trackers.

    Args:
        config: of the experiment.
        run: its folder.
        trained: network.
        detector: with its weights.
        data: of the experiment.
        epochs: that were trained; the figures' step.
        trackers: that logged the epochs.
    """
    if distributed.is_first():
        run.save_config(config)  # what may differ is as of the last run
        darknet.save_weights(run.weights, trained)
    skipped = data.train.skipped | data.validation.skipped
    figures = score_held_out(config, detector, data.held_out, skipped, run, epochs)
    if figures is not None:
        found = {f"held_out_{name}": figures[name] for name in ("AP", "AP50")}
        known = {name: value for name, value in found.items() if value is not None}
        for tracker in trackers:
            tracker.log_after_fit(epochs, known)
    # The first scores what all found; JAX takes for dead what ends minutes after the others.
    distributed.wait_for_all("the held-out figures are there", seconds=3600)
