"""The network of an experiment with its starting weights, and as a model with its loss."""

import logging
from pathlib import Path

import jax
import jax.numpy as jnp

from yolo_jax.config import ExperimentConfig
from yolo_jax.core.anchors import AnchorSet
from yolo_jax.detection.loss import DetectionLoss
from yolo_jax.model.graph import Input, apply
from yolo_jax.model.losses import Joint, detection
from yolo_jax.model.model import Model
from yolo_jax.networks import darknet
from yolo_jax.networks.pretrained import (
    COCO_CLASSES,
    PretrainedUnavailable,
    fetch_pretrained,
)
from yolo_jax.networks.yolov3 import Network, create_network

_log = logging.getLogger(__name__)


def pretrained_network(config: ExperimentConfig, num_classes: int) -> Network:
    """Returns the config's network with its starting weights.

    Raises:
        ValueError: there is no such file of weights, or it is damaged or of another network.
        PretrainedUnavailable: of several processes, this one cannot fetch them.
    """
    kind = config.network.kind
    network = create_network(
        kind,
        num_classes,
        seed=config.seed,
        remat=config.train.remat,
        frozen_batch_norm=config.train.batch_norm == "frozen",
    )
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
    held = len(darknet.read_floats(path)[1])
    if held == darknet.count_floats(network):
        darknet.load_weights(path, network)  # of a run on such data
        return network
    pretrained = create_network(kind, len(COCO_CLASSES))
    if held < darknet.count_floats(pretrained):
        count = darknet.load_first_weights(path, network)
        everything = len(network.convolutions())
        _log.info("%s holds the first %d of the %d convolutions", path, count, everything)
        return network
    darknet.load_weights(path, pretrained)
    darknet.transfer_heads(pretrained, network)
    return network


def build_model(
    config: ExperimentConfig, network: Network, num_classes: int, anchors: AnchorSet
) -> tuple[Model, Joint]:
    """Returns a network as a model, from uint8 images to heads, and its loss."""
    side = config.network.input_size
    image = Input((side, side, 3), name="image", dtype=jnp.uint8)
    model = Model(image, list(apply(network, image)), name=config.name, seed=config.seed)
    return model, detection_loss(config, num_classes, anchors)


def detection_loss(config: ExperimentConfig, num_classes: int, anchors: AnchorSet) -> Joint:
    """Returns a config's loss; its numbers may be traced."""
    return detection(DetectionLoss(anchors, num_classes, **vars(config.loss)))
