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


def test_what_is_refused():
    anchors = np.array(TINY.sizes)
    with pytest.raises(ValueError, match="from 0 to 1 .num_classes is 2.; found 0 to 2"):
        preprocess_true_boxes(np.array([[[1, 1, 9, 9, 2.0], [0] * 5]]), (64, 64), anchors, 2)
    with pytest.raises(ValueError, match="go with|has 3 scales"):
        preprocess_true_boxes(np.zeros((1, 1, 5)), (64, 64), anchors[:5], 2)
