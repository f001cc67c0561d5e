"""Arguments of keras-yolo3's functions that mean nothing are named, with what was expected."""

import numpy as np
import pytest
from PIL import Image

from yolo_jax import Input
from yolo_jax.core.anchors import TINY
from yolo_jax.keras_yolo3 import (
    get_random_data,
    letterbox_image,
    preprocess_true_boxes,
    tiny_yolo_body,
    yolo_body,
    yolo_eval,
    yolo_head,
    yolo_loss,
)

ANCHORS = np.array(TINY.sizes, np.float32)
# Of tiny, one class and an input of 64 px.
HEADS = [np.zeros((1, 2, 2, 18), np.float32), np.zeros((1, 4, 4, 18), np.float32)]
GRIDS = [np.zeros((1, 2, 2, 3, 6), np.float32), np.zeros((1, 4, 4, 3, 6), np.float32)]
BOXES = np.array([[[10, 10, 30, 30, 0]]], np.float32)
LINE = "no.png 1,2,10,12,0"


def evaluate(**given):
    return yolo_eval(**({"yolo_outputs": HEADS, "anchors": ANCHORS, "num_classes": 1,
                         "image_shape": (48, 64)} | given))  # fmt: skip


def boxes(*corners, **given):
    return preprocess_true_boxes(
        **({"true_boxes": np.array([[[*corners, 0]]]), "input_shape": (64, 64), "anchors": ANCHORS,
            "num_classes": 1} | given)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: yolo_head(HEADS[0], ANCHORS[:3], 4, (64, 64)), ValueError, "3 anchors .*and 4 cl"),
        (lambda: yolo_head(HEADS[0], ANCHORS, 1, (64, 64)), ValueError, r"6 anchors .*anchors\[m"),
        (lambda: yolo_head(HEADS[0], ANCHORS[:3], 0, (64, 64)), ValueError, "num_classes is a who"),
        (lambda: yolo_head(HEADS[0], ANCHORS[:3], 1, 64), ValueError, "input_shape is .*found 64"),
        (lambda: yolo_loss([*HEADS, *GRIDS], ANCHORS, 1, 50), ValueError, "ignore_thresh .*und 50"),
        (lambda: yolo_loss([*HEADS, *GRIDS], ANCHORS, 0), ValueError, "num_classes is a whole"),
        (lambda: evaluate(image_shape=(48, 64, 3)), ValueError, r"image_shape is \(height, width"),
        (lambda: evaluate(image_shape=(0, 64)), ValueError, "number of image_shape is .*found 0"),
        (lambda: evaluate(iou_threshold=5), ValueError, "iou_threshold is .*from 0 to 1; found 5"),
        (lambda: evaluate(score_threshold="a"), ValueError, "score_threshold is .*; found 'a'"),
        (lambda: evaluate(max_boxes=0), ValueError, "max_boxes is a whole number, 1 or more"),
        (lambda: evaluate(anchors=ANCHORS[:5]), ValueError, "2 scales go with 6 anchors; found 5"),
        (
            lambda: evaluate(yolo_outputs=[np.tile(head, (2, 1, 1, 1)) for head in HEADS]),
            ValueError,
            r"for one image; found \[2, 2\] of them",
        ),
        (lambda: boxes(30, 10, 10, 30), ValueError, "image 0, box 0 .*30,10,10,30,0; xmin <= xmax"),
        (lambda: boxes(10, 30, 30, 10), ValueError, "the corners are the wrong way round"),
        (lambda: boxes(1, 2, 3, 4, anchors=ANCHORS[:5]), ValueError, "9 anchors go .*; found 5"),
        (lambda: boxes(1, 2, 3, 4, anchors=ANCHORS.ravel()), ValueError, r"rows of .*\(12,\)"),
        (lambda: boxes(1, 2, 3, 4, input_shape=64), ValueError, "input_shape is .*; found 64"),
        (lambda: boxes(1, 2, 3, 4, num_classes=0), ValueError, "num_classes is a whole number"),
        (lambda: get_random_data(LINE, 64), ValueError, r"input_shape is \(height, width\), .*64"),
        (lambda: get_random_data(LINE, (64, 64, 3)), ValueError, r"found \(64, 64, 3\)"),
        (lambda: get_random_data(LINE, (0, 64)), ValueError, "each number of input_shape"),
        (lambda: get_random_data(None, (64, 64)), TypeError, "annotation_line is a text"),
        (
            lambda: letterbox_image(BOXES, (64, 64)),
            TypeError,
            "Pillow's; found ndarray: Image.from",
        ),
        (
            lambda: letterbox_image(Image.new("RGB", (4, 4)), 64),
            ValueError,
            r"size is \(width, height\), .*found 64",
        ),
        (lambda: tiny_yolo_body(Input((None, None, 3)), 3, 0), ValueError, "num_classes is a who"),
        (lambda: yolo_body(Input((None, None, 3)), 0, 3), ValueError, "num_anchors is a whole"),
        (lambda: yolo_body(3, 3, 3), TypeError, "inputs is an Input, .*; found int"),
    ],
)
def test_it_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_what_is_possible_stays_so():
    """Boxes of no size are padding, sizes may be any numbers, and a threshold may be a limit."""
    assert all(grid.sum() == 0 for grid in boxes(10, 10, 10, 30))
    found, _, _ = evaluate(image_shape=np.array([48.0, 64.0], np.float32), score_threshold=0)
    assert found.shape[1] == 4
    assert np.isfinite(yolo_loss([*HEADS, *GRIDS], ANCHORS, 1, 1.0))
