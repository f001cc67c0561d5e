"""Figures of a data set as a network sees it: sizes of boxes, classes, and how anchors fit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from yolo_jax.core.anchors import AnchorSet, kmeans_anchors
from yolo_jax.core.boxes import size_iou
from yolo_jax.core.types import Dataset
from yolo_jax.data.letterbox import letterbox_geometry

# From which a box counts as met by an anchor, as in PASCAL VOC a detection meets a box.
FIT_IOU = 0.5
# Of more boxes than this a sample is clustered: anchors hardly change, and the time stays seconds.
_MOST_CLUSTERED = 10_000


class BoxSizes(NamedTuple):
    """The boxes of a data set that are targets, image by image.

    Attributes:
        sizes: (width, height), px of the network's input.
        place: of each box (row of its image, row of the box in it).
        per_image: number of boxes of each image.
    """

    sizes: Float[np.ndarray, "n 2"]
    place: Int[np.ndarray, "n 2"]
    per_image: Int[np.ndarray, "i"]


def box_sizes(dataset: Dataset, shape: tuple[int, int]) -> BoxSizes:
    """Returns the sizes of a data set's boxes, crowds apart.

    Args:
        dataset: the annotations.
        shape: (height, width) of the network's input, px.
    """
    sizes, places, counts = [], [], []
    for row, annotation in enumerate(dataset.annotations):
        kept = np.flatnonzero(~annotation.crowd)
        geometry = letterbox_geometry((annotation.height, annotation.width), shape)
        boxes = geometry.boxes_to_input(annotation.boxes[kept])
        sizes.append(boxes[:, 2:] - boxes[:, :2])
        places.append(np.stack([np.full(len(kept), row), kept], axis=1))
        counts.append(len(kept))
    return BoxSizes(
        np.concatenate([*sizes, np.zeros((0, 2), np.float32)]),
        np.concatenate([*places, np.zeros((0, 2), np.int64)]),
        np.asarray(counts, np.int64),
    )


def class_counts(datasets: Mapping[str, Dataset]) -> dict[str, dict[str, int]]:
    """Returns how many boxes each class has in each data set, crowds apart.

    Args:
        datasets: by name, such as that of the split.
    """
    counts: dict[str, dict[str, int]] = {}
    for name, dataset in datasets.items():
        classes = [a.classes[~a.crowd] for a in dataset.annotations]
        joined = np.concatenate([*classes, np.zeros(0, np.int64)]).astype(np.int64)
        numbers = np.bincount(joined, minlength=len(dataset.class_names))
        for class_name, number in zip(dataset.class_names, numbers.tolist(), strict=True):
            row = counts.setdefault(class_name, dict.fromkeys(datasets, 0))
            row[name] += number
    return counts


@dataclass(frozen=True)
class AnchorFit:
    """How anchors fit boxes.

    Attributes:
        anchors: (width, height) of each, px of the network's input.
        mean_iou: mean over the boxes of the IoU, of sizes alone, with the anchor that fits best.
        recall: share of the boxes for which it is above `FIT_IOU`, and that some scale learns.
        unlearnt: share of the boxes whose best anchor no scale has: no target is made of them.
    """

    anchors: Float[np.ndarray, "a 2"]
    mean_iou: float
    recall: float
    unlearnt: float


def fit_anchors(sizes: Float[np.ndarray, "n 2"], anchors: AnchorSet) -> AnchorFit | None:
    """Returns how anchors fit boxes of (width, height) px of the network's input; None: no boxes.

    Source: mean best IoU from YOLO9000 (arXiv:1612.08242), table 1. "Best possible recall" is from
    FCOS (arXiv:1904.01355), section 4.1, the share of the boxes that get any target; YOLOv5's
    `check_anchors` puts a limit on the misfit, by ratios of sides up to 4. Here it is one on IoU.
    """
    if not len(sizes):
        return None
    table = np.asarray(anchors.sizes, np.float32)
    best, chosen = [], []
    for part in np.array_split(sizes, -(-len(sizes) // 100_000)):  # bounds the memory
        overlaps = size_iou(part[:, None], table[None])
        best.append(overlaps.max(axis=1))
        chosen.append(overlaps.argmax(axis=1))  # the first on ties, as for targets
    overlap = np.concatenate(best)
    is_learnt = np.isin(np.concatenate(chosen), [i for mask in anchors.masks for i in mask])
    return AnchorFit(
        table,
        float(overlap.mean(dtype=np.float64)),
        float(((overlap > FIT_IOU) & is_learnt).mean()),
        float((~is_learnt).mean()),
    )


def clustered(sizes: Float[np.ndarray, "n 2"], anchors: AnchorSet) -> AnchorSet | None:
    """Returns anchors that k-means finds for boxes, as many as there are, with the same scales.

    Returns:
        The anchors; None where there are fewer boxes than anchors.
    """
    sizes = sizes[(sizes > 0).all(axis=1)]
    if len(sizes) < len(anchors.sizes):
        return None
    if len(sizes) > _MOST_CLUSTERED:
        sizes = np.random.default_rng(0).choice(sizes, _MOST_CLUSTERED, replace=False)
    found = kmeans_anchors(sizes, len(anchors.sizes))
    pairs = tuple((float(width), float(height)) for width, height in found)
    return AnchorSet(pairs, anchors.masks, anchors.strides)


def quantiles(values: Sequence[float] | np.ndarray) -> dict[str, float] | None:
    """Returns least, quartiles and greatest; None of nothing."""
    if not len(values):
        return None
    names = ("least", "lower_quartile", "median", "upper_quartile", "greatest")
    found = np.quantile(np.asarray(values, np.float64), (0, 0.25, 0.5, 0.75, 1))
    return {name: round(float(v), 4) for name, v in zip(names, found, strict=True)}
