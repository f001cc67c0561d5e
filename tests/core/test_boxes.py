import jax
import jax.numpy as jnp
import numpy as np
import pytest

from yolo_jax.core import boxes as b

CORNERS = np.array([[10, 20, 40, 80], [0, 0, 1, 1], [5, 5, 5, 9]], np.float32)


@pytest.mark.parametrize("xp", [np, jnp])
def test_formats_by_hand(xp):
    box = xp.asarray(CORNERS[:1])
    np.testing.assert_array_equal(b.box_xyxy_to_cxcywh(box), [[25, 50, 30, 60]])
    np.testing.assert_array_equal(b.box_xyxy_to_xywh(box), [[10, 20, 30, 60]])
    np.testing.assert_array_equal(b.box_xywh_to_xyxy(box), [[10, 20, 50, 100]])
    np.testing.assert_array_equal(b.box_cxcywh_to_xyxy(box), [[-10, -20, 30, 60]])


def test_answers_in_the_kind_of_array_it_is_given():
    assert isinstance(b.box_xyxy_to_cxcywh(CORNERS), np.ndarray)
    assert isinstance(b.box_iou_xyxy(CORNERS, CORNERS), np.ndarray)
    assert isinstance(b.box_xyxy_to_cxcywh(jnp.asarray(CORNERS)), jax.Array)
    assert isinstance(b.size_iou(jnp.ones((2, 2)), jnp.ones((2, 2))), jax.Array)


@pytest.mark.parametrize("leading", [(), (3,), (2, 3)])
def test_conversions_undo_each_other(leading):
    rng = np.random.default_rng(0)
    lower = rng.integers(0, 50, (*leading, 2))
    corners = np.concatenate([lower, lower + 2 * rng.integers(1, 50, (*leading, 2))], -1)
    corners = corners.astype(np.float32)
    np.testing.assert_array_equal(b.box_cxcywh_to_xyxy(b.box_xyxy_to_cxcywh(corners)), corners)
    np.testing.assert_array_equal(b.box_xywh_to_xyxy(b.box_xyxy_to_xywh(corners)), corners)


def test_iou_against_counted_pixels():
    rng = np.random.default_rng(1)
    corners = np.sort(rng.integers(0, 12, (12, 2, 2)), axis=1).reshape(12, 4).astype(np.float32)
    grid = np.zeros((12, 12, 12), bool)
    for index, (x1, y1, x2, y2) in enumerate(corners.astype(int)):
        grid[index, y1:y2, x1:x2] = True
    shared = (grid[:, None] & grid[None]).sum((2, 3))
    union = (grid[:, None] | grid[None]).sum((2, 3))
    expected = np.divide(shared, union, out=np.zeros(shared.shape), where=union > 0)
    np.testing.assert_allclose(b.box_iou_xyxy(corners[:, None], corners[None]), expected, rtol=1e-6)
    np.testing.assert_array_equal(b.box_area_xyxy(corners), grid.sum((1, 2)))
    np.testing.assert_array_equal(b.box_intersection_xyxy(corners[:, None], corners[None]), shared)


def test_iou_of_empty_boxes_is_zero_and_its_gradient_finite():
    empty = jnp.asarray([[3.0, 3, 3, 3]])
    assert b.box_iou_xyxy(empty, empty) == 0
    assert b.size_iou(jnp.zeros((1, 2)), jnp.zeros((1, 2))) == 0
    gradient = jax.grad(lambda box: b.box_iou_xyxy(box, empty).sum())(empty)
    assert np.isfinite(gradient).all()


def test_swapped_corners_have_no_area():
    swapped = np.array([[9, 0, 3, 5], [0, 9, 5, 3], [9, 9, 3, 3]], np.float32)
    np.testing.assert_array_equal(b.box_area_xyxy(swapped), 0)


def test_size_iou_is_iou_on_a_common_centre():
    sizes = np.random.default_rng(2).uniform(1, 90, (7, 2))
    corners = b.box_cxcywh_to_xyxy(np.concatenate([np.full((7, 2), 50.0), sizes], -1))
    np.testing.assert_allclose(
        b.size_iou(sizes[:, None], sizes[None]), b.box_iou_xyxy(corners[:, None], corners[None])
    )


@pytest.mark.parametrize("xp", [np, jnp])
def test_clip_keeps_width_and_height_apart(xp):
    boxes = xp.asarray([[-5.0, -5, 500, 500], [1, 2, 3, 4]])
    expected = [[0, 0, 100, 40], [1, 2, 3, 4]]
    np.testing.assert_array_equal(b.clip_boxes_xyxy(boxes, 100, 40), expected)
