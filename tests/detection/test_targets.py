import jax
import jax.numpy as jnp
import numpy as np
import pytest

from yolo_jax.core.anchors import TINY, TINY_DARKNET, YOLOV3, AnchorSet, anchor_set
from yolo_jax.detection.targets import dense_targets, match_boxes, relative_boxes, valid_boxes

CASES = ["tiny_2scale_b3_c5_128x96", "yolov3_3scale_b1_c20_128x128", "yolov3_3scale_b2_c3_96x128"]


def box_at(x, y, width, height):
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def cells(boxes, anchors, input_shape=(96, 128), classes=None, **options):
    """Returns the flat cell of each box on each scale."""
    boxes = jnp.asarray(boxes, jnp.float32)
    classes = jnp.zeros(len(boxes), jnp.int32) if classes is None else jnp.asarray(classes)
    return [m.cell.tolist() for m in match_boxes(boxes, classes, anchors, input_shape, **options)]


@pytest.mark.parametrize("case", CASES)
def test_grids_are_keras_yolo3s(golden, case):
    data = np.load(golden / f"{case}.npz")
    expected = [data[f"y_true_{i}"] for i in range(3) if f"y_true_{i}" in data]
    anchors = anchor_set(data["anchors"], len(expected))
    rows = data["true_boxes"]
    classes = np.where(rows[..., 2] > rows[..., 0], rows[..., 4], -1).astype(np.int32)
    shape = tuple(int(side) for side in data["input_shape"])
    lay = jax.jit(lambda b, c: dense_targets(b, c, anchors, int(data["num_classes"]), shape))
    found = lay(rows[..., :4], classes)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours != 0, theirs != 0)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-7)


def test_a_tie_goes_to_the_first_anchor():
    anchors = AnchorSet(((300, 300), (10, 20), (20, 10)), ((0, 1, 2),), (32,))
    assert cells([box_at(16, 16, 20, 20)], anchors, (32, 32)) == [[1]]
    swapped = AnchorSet(((300, 300), (20, 10), (10, 20)), ((0, 1, 2),), (32,))
    assert cells([box_at(16, 16, 20, 20)], swapped, (32, 32)) == [[1]]


def test_tiny_gives_anchor_3_to_both_scales_and_anchor_0_to_none():
    boxes = [box_at(50, 50, 81, 82), box_at(50, 50, 10, 14)]
    coarse, fine = cells(boxes, TINY)
    assert coarse == [(1 * 4 + 1) * 3 + 0, -1]
    assert fine == [(3 * 8 + 3) * 3 + 2, -1]
    coarse, fine = cells(boxes, TINY_DARKNET)
    assert coarse == [(1 * 4 + 1) * 3 + 0, -1]
    assert fine == [-1, (3 * 8 + 3) * 3 + 0]


@pytest.mark.parametrize("exact", [True, False])
def test_a_centre_on_the_far_edge_stays_in_the_last_cell(exact):
    height, width = 96, 128
    boxes = [
        box_at(width, height, 116, 90),
        box_at(width, 0, 116, 90),
        box_at(0, height, 116, 90),
    ]
    coarse, medium, fine = cells(boxes, YOLOV3, (height, width), exact_centres=exact)
    assert coarse == [(2 * 4 + 3) * 3, 3 * 3, 2 * 4 * 3]
    assert medium == fine == [-1, -1, -1]


def test_the_later_box_owns_a_shared_cell_and_padding_owns_none():
    boxes = [box_at(50, 50, 116, 90), [0] * 4, box_at(52, 52, 110, 90), box_at(52, 52, 110, 90)]
    classes = jnp.asarray([0, -1, 1, -1])
    coarse = match_boxes(jnp.asarray(boxes, jnp.float32), classes, YOLOV3, (96, 128))[0]
    assert coarse.cell.tolist() == [15, -1, 15, -1]
    assert coarse.owner.tolist() == [False, False, True, False]
    shared = np.zeros((4, 4), bool)
    shared[np.ix_([0, 2], [0, 2])] = True
    np.testing.assert_array_equal(coarse.same_cell, shared)

    grid = dense_targets(
        jnp.asarray([boxes], jnp.float32), classes[None], YOLOV3, 3, (96, 128), exact_centres=True
    )[0]
    assert float(grid[..., 4].sum()) == 1
    np.testing.assert_allclose(
        grid[0, 1, 1, 0], [52 / 128, 52 / 96, 110 / 128, 90 / 96, 1, 1, 1, 0]
    )


def test_whole_pixel_centres_are_an_option():
    box = jnp.asarray([[3.0, 4, 6, 9]])
    scale = np.array([128, 96, 128, 96])
    exact = relative_boxes(box, (96, 128), exact_centres=True) * scale
    np.testing.assert_allclose(exact, [[4.5, 6.5, 3, 5]], rtol=1e-6)
    whole = relative_boxes(box, (96, 128), exact_centres=False) * scale
    np.testing.assert_allclose(whole, [[4, 6, 3, 5]], rtol=1e-6)


def test_valid_boxes_have_a_class_and_a_size():
    boxes = jnp.asarray([[0, 0, 5, 5], [0, 0, 5, 5], [5, 0, 5, 5], [0, 5, 5, 5], [9, 9, 1, 1.0]])
    found = valid_boxes(boxes, jnp.asarray([0, -1, 0, 0, 0]))
    assert found.tolist() == [True, False, False, False, False]


@pytest.mark.parametrize("seed", range(3))
def test_where_padding_stands_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    centre, size = rng.uniform(0, 96, (6, 2)), rng.uniform(8, 90, (6, 2))
    boxes = np.concatenate([centre - size / 2, centre + size / 2], -1)
    classes = rng.integers(0, 3, 6)
    spread, spread_classes = np.zeros((1, 11, 4)), np.full((1, 11), -1)
    places = np.sort(rng.choice(11, 6, replace=False))
    spread[0, places], spread_classes[0, places] = boxes, classes
    lay = jax.jit(lambda b, c: dense_targets(b.astype(jnp.float32), c, YOLOV3, 3, (96, 96)))
    for expected, found in zip(
        lay(boxes[None], classes[None]), lay(spread, spread_classes), strict=True
    ):
        np.testing.assert_array_equal(expected, found)
