"""The network of an experiment with its starting weights, its anchors, and both as a model."""

import dataclasses
import logging
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from yolo_jax.config import ExperimentConfig
from yolo_jax.core.anchors import TINY_DARKNET, AnchorSet, kmeans_anchors
from yolo_jax.core.types import Dataset
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
from yolo_jax.networks.yolov3 import NETWORKS, Network, create_network
from yolo_jax.training import distributed

_log = logging.getLogger(__name__)
_SAMPLED_IMAGES = 20_000  # of a larger set, whose boxes k-means sees


def pretrained_network(config: ExperimentConfig, num_classes: int) -> Network:
    """Returns the config's network with its starting weights."""
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


def choose_anchors(config: ExperimentConfig, dataset: Dataset) -> AnchorSet:
    """Returns the anchors that the config asks for.

    Those of k-means are of the training boxes as the network sees them in the mean: letterboxed
    into the canvas, then enlarged by the mean crop or scale of the augmentation. Each is of one
    scale, as in darknet's files; of the tiny network's own, the smallest is of none.

    Raises:
        ValueError: there are fewer boxes than anchors.
    """
    shipped = NETWORKS[config.network.kind][1]
    if config.network.anchors == "default":
        return shipped
    canvas, side = config.data.canvas_size or config.network.input_size, config.network.input_size
    zoom = side / canvas
    if config.augment.crop is not None:
        zoom = side / (sum(config.augment.crop) / 2)
    if config.augment.scale is not None:
        zoom = sum(config.augment.scale) / 2 * side / canvas
    listed, sizes = dataset.annotations, []
    for index in range(0, len(listed), -(-len(listed) // _SAMPLED_IMAGES)):
        one = listed[index]
        fitted = one.boxes[~one.crowd] * (zoom * canvas / max(one.width, one.height))
        sizes.append(fitted[:, 2:] - fitted[:, :2])
    found = kmeans_anchors(np.concatenate(sizes), len(shipped.sizes), seed=config.seed)
    pairs = tuple((float(width), float(height)) for width, height in found)
    masks = (TINY_DARKNET if config.network.kind == "tiny" else shipped).masks
    return AnchorSet(pairs, masks, shipped.strides)


def of_first(anchors: AnchorSet) -> AnchorSet:
    """Returns the anchors of the first process, which others may have to the last bit otherwise."""
    sizes = distributed.gather_objects(anchors.sizes)[0]
    return dataclasses.replace(anchors, sizes=tuple((width, height) for width, height in sizes))


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
