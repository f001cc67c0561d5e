"""True boxes as keras-yolo3's dense grids."""

from collections.abc import Sequence
from functools import partial

import jax
import numpy as np
from jaxtyping import Float

from yolo_jax.core.anchors import anchor_set
from yolo_jax.core.boxes import box_cxcywh_to_xyxy, box_iou_xyxy
from yolo_jax.detection.targets import dense_targets

# The grids are laid out by one program for each of these.
_dense_targets = jax.jit(
    partial(dense_targets, exact_centres=False),
    static_argnames=("anchors", "num_classes", "input_shape"),
)


def preprocess_true_boxes(
    true_boxes: Float[np.ndarray, "m t 5"],
    input_shape: Sequence[int],
    anchors: Float[np.ndarray, "k 2"] | Sequence[Sequence[float]],
    num_classes: int,
) -> list[Float[np.ndarray, "m gh gw a 5+C"]]:
    """Lays boxes out as `y_true` grids, coarse to fine.

    Boxes without width or height are padding, wherever they stand. (keras-yolo3 takes padding to
    stand last.) Computed on the host, beside a device that trains.

    Args:
        true_boxes: (xmin, ymin, xmax, ymax, class) in pixels of the input.
        input_shape: (height, width) of the input, multiples of 32.
        anchors: (width, height) in pixels of the input, 9 for YOLOv3 or 6 for tiny.
        num_classes: C.

    Returns:
        For each scale cxcywh relative to the input, objectness 1, and a bit for each class.

    Raises:
        ValueError: a class id is not below `num_classes`, or the anchors are of no network.
    """
    true_boxes = np.asarray(true_boxes, np.float32)
    if (true_boxes[..., 4] >= num_classes).any() or (true_boxes[..., 4] < 0).any():
        raise ValueError(
            f"class ids must be from 0 to {num_classes - 1} (num_classes is {num_classes}); found "
            f"{true_boxes[..., 4].min():.0f} to {true_boxes[..., 4].max():.0f}"
        )
    used = anchor_set(anchors, len(anchors) // 3)
    size = true_boxes[..., 2:4] - true_boxes[..., :2]
    classes = np.where((size > 0).all(axis=-1), true_boxes[..., 4], -1).astype(np.int32)
    height, width = (int(side) for side in input_shape)
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        grids = _dense_targets(
            true_boxes[..., :4],
            classes,
            anchors=used,
            num_classes=num_classes,
            input_shape=(height, width),
        )
        return [np.array(grid) for grid in grids]


def box_iou(
    b1: Float[np.ndarray, "*i 4"], b2: Float[np.ndarray, "j 4"]
) -> Float[np.ndarray, "*i j"]:
    """Returns the IoU of every box of `b1` with every box of `b2`, cxcywh in one unit.

    Takes NumPy or JAX arrays and answers in kind.
    """
    return box_iou_xyxy(box_cxcywh_to_xyxy(b1)[..., None, :], box_cxcywh_to_xyxy(b2))
