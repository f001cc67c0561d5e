"""Box formats and overlaps, for NumPy on the host and for JAX on the device.

A format is always named: `xyxy` is (xmin, ymin, xmax, ymax), `cxcywh` is (centre x, centre y,
width, height), `xywh` is COCO's (xmin, ymin, width, height). Units are whatever the caller's are
(pixels or 0-1) and stay so. Every function takes NumPy or JAX arrays and answers in kind.
"""

from types import ModuleType
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

# What goes in as NumPy comes out as NumPy, and the same for JAX.
Array = TypeVar("Array", np.ndarray, jax.Array)


def array_module(array: np.ndarray | jax.Array) -> ModuleType:
    """Returns `numpy` for a NumPy array and `jax.numpy` for anything of JAX's."""
    return np if isinstance(array, np.ndarray) else jnp


def box_xyxy_to_cxcywh(boxes: Float[Array, "*n 4"]) -> Float[Array, "*n 4"]:
    """Converts corners to centre and size."""
    xp = array_module(boxes)
    lower, upper = boxes[..., :2], boxes[..., 2:]
    return xp.concatenate([(lower + upper) / 2, upper - lower], axis=-1)


def box_cxcywh_to_xyxy(boxes: Float[Array, "*n 4"]) -> Float[Array, "*n 4"]:
    """Converts centre and size to corners."""
    xp = array_module(boxes)
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return xp.concatenate([centre - half, centre + half], axis=-1)


def box_xywh_to_xyxy(boxes: Float[Array, "*n 4"]) -> Float[Array, "*n 4"]:
    """Converts COCO's corner and size to corners."""
    xp = array_module(boxes)
    return xp.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], axis=-1)


def box_xyxy_to_xywh(boxes: Float[Array, "*n 4"]) -> Float[Array, "*n 4"]:
    """Converts corners to COCO's corner and size."""
    xp = array_module(boxes)
    return xp.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], axis=-1)


def box_area_xyxy(boxes: Float[Array, "*n 4"]) -> Float[Array, "*n"]:
    """Returns areas; a box whose corners are swapped has area 0."""
    xp = array_module(boxes)
    size = xp.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return size[..., 0] * size[..., 1]


def box_intersection_xyxy(
    first: Float[Array, "*n 4"], second: Float[Array, "*n 4"]
) -> Float[Array, "*n"]:
    """Returns the areas that two broadcastable arrays of boxes share."""
    xp = array_module(first)
    lower = xp.maximum(first[..., :2], second[..., :2])
    upper = xp.minimum(first[..., 2:], second[..., 2:])
    size = xp.maximum(upper - lower, 0)
    return size[..., 0] * size[..., 1]


def box_iou_xyxy(first: Float[Array, "*n 4"], second: Float[Array, "*n 4"]) -> Float[Array, "*n"]:
    """Returns intersection over union of broadcastable boxes; 0 where both areas are 0.

    For all pairs of `[n, 4]` and `[m, 4]` pass `first[:, None]` and `second[None]`.
    """
    xp = array_module(first)
    shared = box_intersection_xyxy(first, second)
    union = box_area_xyxy(first) + box_area_xyxy(second) - shared
    return xp.where(union > 0, shared / xp.where(union > 0, union, 1), 0)


def box_giou_xyxy(first: Float[Array, "*n 4"], second: Float[Array, "*n 4"]) -> Float[Array, "*n"]:
    """Returns the generalised IoU of broadcastable boxes that have areas: −1 to 1.

    IoU less the share of the hull that no box covers. Source: Rezatofighi et al.,
    arXiv:1902.09630, algorithm 1.
    """
    shared = box_intersection_xyxy(first, second)
    union = box_area_xyxy(first) + box_area_xyxy(second) - shared
    width, height = _hull_sides(first, second)
    return shared / union - (width * height - union) / (width * height)


def box_diou_xyxy(first: Float[Array, "*n 4"], second: Float[Array, "*n 4"]) -> Float[Array, "*n"]:
    """Returns the distance IoU of broadcastable boxes that have areas: −1 to 1.

    IoU less the squared distance of the centres over the squared diagonal of the hull. Source:
    Zheng et al., arXiv:1911.08287, equation 7.
    """
    width, height = _hull_sides(first, second)
    apart = (first[..., :2] + first[..., 2:] - second[..., :2] - second[..., 2:]) / 2
    across, down = apart[..., 0], apart[..., 1]
    distance = (across * across + down * down) / (width * width + height * height)
    return box_iou_xyxy(first, second) - distance


def box_ciou_xyxy(first: Float[Array, "*n 4"], second: Float[Array, "*n 4"]) -> Float[Array, "*n"]:
    """Returns the complete IoU of broadcastable boxes that have areas.

    Distance IoU less α·v, where v is how far the aspects are apart, and α = v / (1 − IoU + v), a
    weight without a gradient. Source: Zheng et al., arXiv:1911.08287, equations 8 to 11.
    """
    xp = array_module(first)
    angles = []
    for boxes in (first, second):
        size = boxes[..., 2:] - boxes[..., :2]
        angles.append(xp.arctan2(size[..., 0], size[..., 1]))
    v = 4 / np.pi**2 * (angles[0] - angles[1]) ** 2
    weight = v / xp.maximum(1 - box_iou_xyxy(first, second) + v, 1e-9)
    if xp is jnp:
        weight = jax.lax.stop_gradient(weight)
    return box_diou_xyxy(first, second) - weight * v


def _hull_sides(first: Array, second: Array) -> tuple[Array, Array]:
    """Returns width and height of the smallest box around both."""
    xp = array_module(first)
    lower = xp.minimum(first[..., :2], second[..., :2])
    size = xp.maximum(first[..., 2:], second[..., 2:]) - lower
    return size[..., 0], size[..., 1]


def size_iou(first: Float[Array, "*n 2"], second: Float[Array, "*n 2"]) -> Float[Array, "*n"]:
    """Returns the IoU of (width, height) pairs laid on a common centre, as anchors are matched.

    Source: Redmon & Farhadi, YOLO9000 (arXiv:1612.08242), section 2, "Dimension Clusters".
    """
    xp = array_module(first)
    smaller = xp.minimum(first, second)
    shared = smaller[..., 0] * smaller[..., 1]
    union = first[..., 0] * first[..., 1] + second[..., 0] * second[..., 1] - shared
    return xp.where(union > 0, shared / xp.where(union > 0, union, 1), 0)


def clip_boxes_xyxy(
    boxes: Float[Array, "*n 4"], width: float, height: float
) -> Float[Array, "*n 4"]:
    """Clips corners to an image of `width` × `height` (the unit of the boxes)."""
    xp = array_module(boxes)
    limits = xp.stack([xp.asarray(value) for value in (width, height, width, height)], axis=-1)
    return xp.clip(boxes, 0, limits)
