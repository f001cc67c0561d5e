"""Anchor boxes: the sets YOLOv3 ships with, how scales share them, and k-means on IoU."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from yolo_jax.core.boxes import size_iou


@dataclass(frozen=True)
class AnchorSet:
    """Anchors and how the scales of a network use them, coarse to fine.

    Attributes:
        sizes: (width, height) of each anchor, in pixels of the network's input.
        masks: for each scale the indices into `sizes` of its anchors.
        strides: for each scale the pixels of the input that one cell covers.
        xy_scales: for each scale YOLOv4's scale_x_y, by which a centre's offset in its cell is
            stretched around the cell's middle; empty: 1 everywhere.

    Raises:
        ValueError: masks, strides and xy_scales differ in length, or a mask names an anchor that
            is not there.
    """

    sizes: tuple[tuple[float, float], ...]
    masks: tuple[tuple[int, ...], ...]
    strides: tuple[int, ...]
    xy_scales: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.masks) != len(self.strides):
            raise ValueError(
                f"an anchor set needs one stride a mask: found {len(self.masks)} masks "
                f"and {len(self.strides)} strides"
            )
        if self.xy_scales and len(self.xy_scales) != len(self.masks):
            raise ValueError(
                f"an anchor set needs one xy_scale a mask, or none: found {len(self.masks)} masks "
                f"and {len(self.xy_scales)} xy_scales"
            )
        unknown = sorted({i for mask in self.masks for i in mask} - set(range(len(self.sizes))))
        if unknown:
            raise ValueError(
                f"anchor masks name the anchors {unknown}, but there are only {len(self.sizes)} "
                "anchors (counted from 0)"
            )

    def scale_sizes(self, scale: int) -> Float[np.ndarray, "a 2"]:
        """Returns the (width, height) in input pixels of the anchors of one scale."""
        return np.asarray([self.sizes[i] for i in self.masks[scale]], np.float32)

    def xy_scale(self, scale: int) -> float:
        """Returns the xy_scale of one scale."""
        return self.xy_scales[scale] if self.xy_scales else 1.0

    def check_plain_centres(self) -> None:
        """Raises ValueError where centres are stretched, which training knows nothing of."""
        if any(scale != 1 for scale in self.xy_scales):
            raise ValueError(
                f"the anchors have xy_scales {self.xy_scales} (scale_x_y of a .cfg file); such "
                "networks detect, but the loss and its targets have no such scale: train with 1"
            )

    def grid_shapes(self, input_shape: tuple[int, int]) -> list[tuple[int, int]]:
        """Returns (rows, columns) of each scale's grid for an input of (height, width) pixels."""
        return [(input_shape[0] // s, input_shape[1] // s) for s in self.strides]


_YOLOV3_SIZES = (
    (10, 13), (16, 30), (33, 23), (30, 61), (62, 45), (59, 119), (116, 90), (156, 198), (373, 326),
)  # fmt: skip
_TINY_SIZES = ((10, 14), (23, 27), (37, 58), (81, 82), (135, 169), (344, 319))

# Source: darknet's yolov3.cfg.
YOLOV3 = AnchorSet(_YOLOV3_SIZES, ((6, 7, 8), (3, 4, 5), (0, 1, 2)), (32, 16, 8))
# Source: keras-yolo3 and the training of yolov3-tiny.weights: anchor 3 serves both scales and
# anchor 0 neither.
TINY = AnchorSet(_TINY_SIZES, ((3, 4, 5), (1, 2, 3)), (32, 16))
# Source: yolov3-tiny.cfg as the darknet program ships and reads it.
TINY_DARKNET = AnchorSet(_TINY_SIZES, ((3, 4, 5), (0, 1, 2)), (32, 16))


def anchor_set(sizes: Sequence[Sequence[float]] | np.ndarray, num_scales: int) -> AnchorSet:
    """Gives bare anchors (as in keras-yolo3) the masks and strides of YOLOv3 or of tiny.

    Args:
        sizes: `[9, 2]` or `[6, 2]` (width, height) in input pixels.
        num_scales: 3 for YOLOv3, 2 for tiny.

    Raises:
        ValueError: no network has that many scales, or the number of anchors does not fit.
    """
    shipped = {3: YOLOV3, 2: TINY}.get(num_scales)
    if shipped is None:
        raise ValueError(f"a YOLOv3 network has 3 scales and tiny has 2; found {num_scales}")
    pairs = tuple((float(width), float(height)) for width, height in np.asarray(sizes))
    if len(pairs) != len(shipped.sizes):
        raise ValueError(
            f"{num_scales} scales go with {len(shipped.sizes)} anchors; found {len(pairs)}"
        )
    return AnchorSet(pairs, shipped.masks, shipped.strides)


def kmeans_anchors(
    box_sizes: Float[np.ndarray, "n 2"],
    k: int,
    *,
    seed: int = 0,
    starts: int = 10,
    max_rounds: int = 300,
) -> Float[np.ndarray, "k 2"]:
    """Clusters box sizes under the distance 1 − IoU and returns `k` anchors by growing area.

    Each centre moves to its cluster's median, as keras-yolo3 does. A centre that loses all its
    boxes moves to the box that is served worst; a search ends when no box changes its cluster, or
    after `max_rounds`. Of several searches the one with the best mean IoU counts.

    Args:
        box_sizes: (width, height) of the boxes, in pixels of the network's input.
        k: number of anchors.
        seed: of the first centres, which are drawn far from each other (k-means++).
        starts: number of searches.
        max_rounds: upper bound of a search's rounds.

    Raises:
        ValueError: fewer than `k` boxes have a positive width and height.

    Source: YOLO9000 (arXiv:1612.08242), section 2, "Dimension Clusters"; first centres by Arthur &
    Vassilvitskii, k-means++ (2007).
    """
    sizes = np.asarray(box_sizes, np.float64)
    sizes = sizes[(sizes > 0).all(axis=1)]
    if len(sizes) < k:
        raise ValueError(f"k-means for {k} anchors needs as many boxes; found {len(sizes)}")
    generator = np.random.default_rng(seed)
    searches = [_kmeans(sizes, _far_apart(sizes, k, generator), max_rounds) for _ in range(starts)]
    best = max(searches, key=lambda centres: _best_overlaps(sizes, centres).mean())
    by_area = np.argsort(best.prod(axis=1), kind="stable")
    return best[by_area].astype(np.float32)


def _best_overlaps(
    sizes: Float[np.ndarray, "n 2"], centres: Float[np.ndarray, "k 2"]
) -> Float[np.ndarray, "n"]:
    return size_iou(sizes[:, None], centres[None]).max(axis=1)


def _far_apart(
    sizes: Float[np.ndarray, "n 2"], k: int, generator: np.random.Generator
) -> Float[np.ndarray, "k 2"]:
    """Draws k sizes, each with a chance that grows with its squared distance to those before."""
    centres = sizes[generator.choice(len(sizes), 1)]
    while len(centres) < k:
        weight = np.square(1 - _best_overlaps(sizes, centres))
        # All boxes may be equal to a centre already: then any will do.
        chance = weight / weight.sum() if weight.sum() > 0 else None
        centres = np.concatenate([centres, sizes[generator.choice(len(sizes), 1, p=chance)]])
    return centres


def _kmeans(
    sizes: Float[np.ndarray, "n 2"], centres: Float[np.ndarray, "k 2"], max_rounds: int
) -> Float[np.ndarray, "k 2"]:
    """Moves the centres until no box changes its cluster."""
    centres = centres.copy()
    nearest = np.full(len(sizes), -1)
    for _ in range(max_rounds):
        overlaps = size_iou(sizes[:, None], centres[None])
        previous, nearest = nearest, overlaps.argmax(axis=1)
        if np.array_equal(previous, nearest):
            break
        worst_first = iter(overlaps.max(axis=1).argsort(kind="stable"))
        for cluster in range(len(centres)):
            members = sizes[nearest == cluster]
            centres[cluster] = (
                np.median(members, axis=0) if len(members) else sizes[next(worst_first)]
            )
    return centres
