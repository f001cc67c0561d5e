"""True boxes as dense grids, equal to the original's."""

import numpy as np
import pytest

from yolo_jax.core.anchors import TINY
from yolo_jax.keras_yolo3 import preprocess_true_boxes

GOLDEN = ("tiny_2scale_b3_c5_128x96", "yolov3_3scale_b1_c20_128x128", "yolov3_3scale_b2_c3_96x128")


@pytest.mark.parametrize("name", GOLDEN)
def test_grids_are_keras_yolo3s(golden, name):
    case = dict(np.load(golden / f"{name}.npz"))
    classes = int(case["num_classes"])
    grids = preprocess_true_boxes(case["true_boxes"], case["input_shape"], case["anchors"], classes)
    for scale, grid in enumerate(grids):
        assert grid.dtype == np.float32
        # XLA divides by a reciprocal, which is one unit in the last place off.
        np.testing.assert_allclose(grid, case[f"y_true_{scale}"], atol=1e-7)
        grid[0] = 0  # the caller's own, to write to


def test_padding_may_stand_anywhere():
    box, padding = [10.0, 10, 50, 40, 1], [0.0] * 5
    anchors = np.array(TINY.sizes)
    first = preprocess_true_boxes(np.array([[box, padding]]), (64, 64), anchors, 2)
    second = preprocess_true_boxes(np.array([[padding, box]]), (64, 64), anchors, 2)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
    # 60 × 45 px suits anchor 3 best, which serves both scales.
    assert [grid[..., 4].sum() for grid in first] in ([1, 1], [0, 1], [1, 0])


def test_padding_of_class_minus_one_is_padding_of_zeros():
    boxes = [[10.0, 10, 50, 40, 1], [8, 8, 20, 60, 0]]
    anchors = np.array(TINY.sizes)
    zeros = np.array([[*boxes, [0.0] * 5, [0.0] * 5]])
    marked = np.array([[[0, 0, 0, 0, -1], boxes[0], [30, 30, 30, 30, -1], boxes[1]]])
    found = [preprocess_true_boxes(rows, (64, 96), anchors, 2) for rows in (zeros, marked)]
    assert sum(grid[..., 4].sum() for grid in found[0]) >= 2
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
    none = preprocess_true_boxes(np.full((2, 3, 5), -1.0), (64, 96), anchors, 2)
    assert not any(grid.any() for grid in none)


def test_a_box_partly_outside_is_kept():
    grids = preprocess_true_boxes(
        np.array([[[-20, -10, 50, 40, 1], [50, 40, 120, 90, 0.0]]]), (64, 96), TINY.sizes, 2
    )
    assert sum(grid[..., 4].sum() for grid in grids) >= 2


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ([1, 1, 9, 9, 2], "from 0 to 1 .num_classes is 2."),
        ([0, 0, 0, 0, 2], "from 0 to 1"),
        ([1, 1, 9, 9, -1], "from 0 to 1 .*-1 in a row of padding"),
        ([0, 0, 0, 0, -2], "from 0 to 1"),
        ([1, 1, 9, 9, 0.5], "whole number"),
        ([1, 1, 9, 9, np.nan], "= 1,1,9,9,nan; numbers that are finite"),
        ([1, np.nan, 9, 9, 0], "finite"),
        ([1, 1, np.inf, 9, 0], "finite"),
        ([96, 1, 99, 9, 0], "in the input of 96 × 64 px"),
        ([-9, 1, 0, 9, 0], "lie in the input"),
        ([1, 64, 9, 70, 0], "lie in the input"),
        ([1, -70, 9, -64, 0], "lie in the input"),
    ],
)
def test_rows_that_are_refused(row, complaint):
    rows = np.zeros((2, 3, 5))
    rows[1, 2] = row
    with pytest.raises(ValueError, match=f"image 1, box 2 .from 0. is xmin.*{complaint}"):
        preprocess_true_boxes(rows, (64, 96), TINY.sizes, 2)


def test_what_else_is_refused():
    anchors = np.array(TINY.sizes)
    with pytest.raises(ValueError, match="go with|has 3 scales"):
        preprocess_true_boxes(np.zeros((1, 1, 5)), (64, 64), anchors[:5], 2)
    for shape in ((70, 64), (64, 70), (0, 64)):
        with pytest.raises(ValueError, match=rf"multiples of 32 px; found .{shape[0]}, {shape[1]}"):
            preprocess_true_boxes(np.zeros((1, 1, 5)), shape, anchors, 2)
    with pytest.raises(ValueError, match=r"\(images, boxes, 5\).*found the shape \(1, 5\)"):
        preprocess_true_boxes(np.zeros((1, 5)), (64, 64), anchors, 2)
