"""The anchors of an experiment: its network's own, or k-means of the boxes it will see."""

import dataclasses
import logging

import jax
import numpy as np
from jaxtyping import Array, Float

from yolo_jax.config import ExperimentConfig
from yolo_jax.core.anchors import TINY_DARKNET, AnchorSet, kmeans_anchors
from yolo_jax.core.types import Dataset
from yolo_jax.data.augment import ALONE
from yolo_jax.data.doctor.statistics import box_sizes, fit_anchors
from yolo_jax.data.letterbox import letterbox_geometry
from yolo_jax.networks.yolov3 import NETWORKS
from yolo_jax.run_folder import RunFolder
from yolo_jax.training import distributed

_log = logging.getLogger(__name__)
_SAMPLED_IMAGES = 20_000  # of a larger set, whose boxes are looked at
_FEW = 0.01  # share of boxes that is not worth a warning


def anchors_of(
    run: RunFolder, config: ExperimentConfig, dataset: Dataset, *, begun: bool
) -> AnchorSet:
    """Returns the anchors that a run began with, or those of the config for a new one.

    The run's own stay, whatever k-means would make of them on another machine.
    """
    if begun:
        return run.anchors(config.network.kind)
    return of_first(choose_anchors(config, dataset))


def choose_anchors(config: ExperimentConfig, dataset: Dataset) -> AnchorSet:
    """Returns the anchors that the config asks for.

    Those of k-means are of the training boxes as the network sees them, each image augmented once
    by a draw of the config's seed: with the shares that are cropped or scaled at all, those that
    are in mosaics, and without the boxes that are cut away. Each anchor is of one scale, as in
    darknet's files; of the tiny network's own, the smallest is of none.

    Raises:
        ValueError: there are fewer boxes than anchors.
    """
    shipped = NETWORKS[config.network.kind][1]
    if config.network.anchors == "default":
        _tell_unlearnt(config, dataset, shipped)
        return shipped
    sizes = _augmented_sizes(config, dataset)
    found = kmeans_anchors(sizes, len(shipped.sizes), seed=config.seed)
    pairs = tuple((float(width), float(height)) for width, height in found)
    masks = (TINY_DARKNET if config.network.kind == "tiny" else shipped).masks
    return AnchorSet(pairs, masks, shipped.strides)


def of_first(anchors: AnchorSet) -> AnchorSet:
    """Returns the anchors of the first process, which others may have to the last bit otherwise."""
    sizes = distributed.gather_objects(anchors.sizes)[0]
    return dataclasses.replace(anchors, sizes=tuple((width, height) for width, height in sizes))


def _tell_unlearnt(config: ExperimentConfig, dataset: Dataset, anchors: AnchorSet) -> None:
    """Warns of boxes that nothing is learnt of, for their best anchor is of no scale.

    Where crops are enlarged, boxes are of other sizes by far, and nothing is said.
    """
    used = {index for mask in anchors.masks for index in mask}
    if len(used) == len(anchors.sizes) or config.augment.crop is not None:
        return
    every = -(-len(dataset.annotations) // _SAMPLED_IMAGES)
    sampled = [dataset.annotations[i] for i in range(0, len(dataset.annotations), every)]
    side = config.network.input_size
    sizes = box_sizes(dataclasses.replace(dataset, annotations=sampled), (side, side)).sizes
    fit = fit_anchors(sizes, anchors)
    if fit is not None and fit.unlearnt > _FEW:
        _log.warning(
            "%.0f%% of the boxes teach nothing: as the network sees them, without augmentation, "
            "they are nearest to an anchor that no scale of %s has, as in keras-yolo3. Anchors of "
            "the data (--network.anchors kmeans) are all of a scale; or take a larger "
            "--network.input-size, or --network.kind yolov3",
            100 * fit.unlearnt, config.network.kind,
        )  # fmt: skip


def _augmented_sizes(config: ExperimentConfig, dataset: Dataset) -> Float[np.ndarray, "n 2"]:
    """Returns (width, height) in px of the network's input of boxes that were augmented."""
    side, augment, listed = config.network.input_size, config.augment, dataset.annotations
    length = config.data.canvas_size or side
    canvas = (length, length)
    chosen = range(0, len(listed), -(-len(listed) // _SAMPLED_IMAGES))
    most = max(int((~one.crowd).sum()) for one in listed)
    mixing, key = augment.mixing(), jax.random.key(config.seed)

    @jax.jit
    def moved(index: Array, boxes: Array, classes: Array, mix: Array) -> tuple[Array, Array]:
        own = jax.random.fold_in(key, index)
        return augment.move_boxes(own, boxes, classes, mix, shapes=(canvas, (side, side)))

    sizes = []
    for index in chosen:
        mix, others = ALONE, []
        if mixing is not None:
            mix, others = mixing.draw((config.seed, 0, index), len(listed))
        boxes = np.zeros((augment.group, most, 4), np.float32)
        classes = np.full((augment.group, most), -1, np.int32)
        for row, other in enumerate((index, *others)):
            one = listed[other]
            place = letterbox_geometry((one.height, one.width), canvas)
            fitted = place.boxes_to_input(one.boxes[~one.crowd])
            boxes[row, : len(fitted)], classes[row, : len(fitted)] = fitted, 0
        sizes.append(moved(index, boxes, classes, mix))
    boxes, classes = (np.concatenate(parts) for parts in zip(*jax.device_get(sizes), strict=True))
    return (boxes[:, 2:] - boxes[:, :2])[classes >= 0]
