"""True boxes as keras-yolo3's dense grids."""

from collections.abc import Sequence
from functools import partial

import jax
import numpy as np
from jaxtyping import Bool, Float

from yolo_jax.core.anchors import anchor_set
from yolo_jax.core.boxes import box_cxcywh_to_xyxy, box_iou_xyxy
from yolo_jax.core.numbers import whole_number
from yolo_jax.detection.targets import dense_targets
from yolo_jax.keras_yolo3.arguments import Anchors, anchor_count, check_pair

# The grids are laid out by one program for each of these.
_dense_targets = jax.jit(
    partial(dense_targets, exact_centres=False),
    static_argnames=("anchors", "num_classes", "input_shape"),
)


def preprocess_true_boxes(
    true_boxes: Float[np.ndarray, "m t 5"],
    input_shape: Sequence[int],
    anchors: Anchors,
    num_classes: int,
) -> list[Float[np.ndarray, "m gh gw a 5+C"]]:
    """Lays boxes out as `y_true` grids, coarse to fine.

    Rows without width or height are padding, of class 0 or −1 or any other that there is, wherever
    they stand. (keras-yolo3 takes padding to stand last.) Computed on the host, beside a device
    that trains.

    Args:
        true_boxes: (xmin, ymin, xmax, ymax, class) in pixels of the input.
        input_shape: (height, width) of the input, multiples of 32.
        anchors: (width, height) in pixels of the input, 9 for YOLOv3 or 6 for tiny.
        num_classes: C.

    Returns:
        For each scale cxcywh relative to the input, objectness 1, and a bit for each class.

    Raises:
        ValueError: a number that is not finite, a class id that is none of the `num_classes`, a box
            wholly outside the input or with its corners the wrong way round, a size that is no
            multiple of 32, an array of another shape, or anchors of no network.
    """
    true_boxes = np.asarray(true_boxes, np.float32)
    if true_boxes.ndim != 3 or true_boxes.shape[-1] != 5:
        raise ValueError(
            "true_boxes are (images, boxes, 5), each row xmin,ymin,xmax,ymax,class; found the "
            f"shape {true_boxes.shape}"
        )
    count = anchor_count(anchors)
    if count not in (6, 9):
        raise ValueError(f"9 anchors go with YOLOv3, and 6 with tiny; found {count}")
    used = anchor_set(anchors, count // 3)
    whole_number("num_classes", num_classes, 1)
    check_pair("input_shape", "(height, width)", input_shape)
    height, width = (int(side) for side in input_shape)
    if min(height, width) < 1 or height % used.strides[0] or width % used.strides[0]:
        raise ValueError(
            f"input_shape is (height, width) in multiples of {used.strides[0]} px; found "
            f"{(height, width)}"
        )
    is_box = np.all(true_boxes[..., 2:4] > true_boxes[..., :2], axis=-1)
    _check(true_boxes, is_box, (height, width), num_classes)
    classes = np.where(is_box, true_boxes[..., 4], -1).astype(np.int32)
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        grids = _dense_targets(
            true_boxes[..., :4],
            classes,
            anchors=used,
            num_classes=num_classes,
            input_shape=(height, width),
        )
        return [np.array(grid) for grid in grids]


def _check(
    true_boxes: Float[np.ndarray, "m t 5"],
    is_box: Bool[np.ndarray, "m t"],
    input_shape: tuple[int, int],
    num_classes: int,
) -> None:
    """Raises ValueError at the first row that keras-yolo3's grids have no place for.

    Args:
        true_boxes: (xmin, ymin, xmax, ymax, class) in pixels of the input.
        is_box: False marks padding.
        input_shape: (height, width) of the input, px.
        num_classes: C.
    """
    height, width = input_shape
    lower, upper, ids = true_boxes[..., :2], true_boxes[..., 2:4], true_boxes[..., 4]
    known = (ids >= 0) & (ids < num_classes) & (ids == np.floor(ids))
    outside = (upper <= 0).any(axis=-1) | (lower >= (width, height)).any(axis=-1)
    complaints = (
        (~np.isfinite(true_boxes).all(axis=-1), "numbers that are finite are expected"),
        (
            ~known & (is_box | (ids != -1)),
            f"the class is expected to be a whole number from 0 to {num_classes - 1} (num_classes "
            f"is {num_classes}), or -1 in a row of padding, which has no width or height",
        ),
        (
            (upper < lower).any(axis=-1),
            "xmin <= xmax and ymin <= ymax are expected: the corners are the wrong way round",
        ),
        (
            is_box & outside,
            f"a box is expected to lie in the input of {width} × {height} px (width × height), at "
            "least in part: leave it out, or scale boxes as their image",
        ),
    )
    for wrong, expected in complaints:
        if wrong.any():
            image, box = (int(index) for index in np.argwhere(wrong)[0])
            found = ",".join(f"{number:g}" for number in true_boxes[image, box])
            raise ValueError(
                f"image {image}, box {box} (from 0) is xmin,ymin,xmax,ymax,class = {found}; "
                f"{expected}"
            )


def box_iou(
    b1: Float[np.ndarray, "*i 4"], b2: Float[np.ndarray, "j 4"]
) -> Float[np.ndarray, "*i j"]:
    """Returns the IoU of every box of `b1` with every box of `b2`, cxcywh in one unit.

    Takes NumPy or JAX arrays and answers in kind.
    """
    return box_iou_xyxy(box_cxcywh_to_xyxy(b1)[..., None, :], box_cxcywh_to_xyxy(b2))
