import numpy as np
import pytest

from yolo_jax.core.anchors import TINY, YOLOV3, AnchorSet, anchor_set, kmeans_anchors


def test_kmeans_recovers_separated_clusters():
    centres = np.array([[10, 40], [60, 60], [300, 100]])
    rng = np.random.default_rng(0)
    boxes = np.concatenate([centre * rng.uniform(0.97, 1.03, (30, 2)) for centre in centres])
    rng.shuffle(boxes)
    for seed in range(8):
        np.testing.assert_allclose(kmeans_anchors(boxes, 3, seed=seed), centres, rtol=0.03)


def test_kmeans_sorts_by_area_and_repeats_itself():
    boxes = np.random.default_rng(1).uniform(5, 300, (200, 2))
    found = kmeans_anchors(boxes, 9, seed=3)
    assert found.shape == (9, 2)
    assert (np.diff(found.prod(axis=1)) >= 0).all()
    np.testing.assert_array_equal(found, kmeans_anchors(boxes, 9, seed=3))


@pytest.mark.parametrize(
    "boxes",
    [
        np.full((20, 2), 32.0),
        np.repeat([[10.0, 10], [50, 20]], 10, axis=0),
        np.concatenate([np.full((50, 2), 7.0), [[200, 100]]]),
        np.array([[1e-3, 1e3]] * 6 + [[1e3, 1e-3]] * 6),
    ],
    ids=["identical", "two sizes", "one apart", "extreme"],
)
def test_kmeans_ends_on_duplicates(boxes):
    with np.errstate(all="raise"):
        found = kmeans_anchors(boxes, 6)
    # With fewer sizes than anchors every anchor is one of them.
    known = {tuple(np.float32(box)) for box in boxes}
    assert {tuple(anchor) for anchor in found} == known


def test_kmeans_leaves_out_empty_boxes():
    boxes = np.array([[10, 10], [0, 50], [50, 0], [0, 0], [-3, 4], [20, 40]], np.float32)
    with np.errstate(all="raise"):
        found = kmeans_anchors(boxes, 2)
    np.testing.assert_array_equal(found, [[10, 10], [20, 40]])


def test_kmeans_needs_as_many_boxes_as_anchors():
    boxes = np.array([[10, 10], [0, 50], [20, 40]])
    with pytest.raises(ValueError, match="3 anchors needs as many boxes; found 2"):
        kmeans_anchors(boxes, 3)
    with pytest.raises(ValueError, match="found 0"):
        kmeans_anchors(np.zeros((0, 2)), 1)


def test_anchor_set_checks_masks_and_strides():
    sizes = ((10, 10), (20, 20), (30, 30))
    with pytest.raises(ValueError, match="2 masks and 1 strides"):
        AnchorSet(sizes, ((0, 1), (2,)), (32,))
    with pytest.raises(ValueError, match=r"anchors \[3, 7\].* only 3"):
        AnchorSet(sizes, ((0, 7), (3,)), (32, 16))
    with pytest.raises(ValueError, match=r"\[-1\]"):
        AnchorSet(sizes, ((-1,),), (32,))


def test_shipped_sets():
    np.testing.assert_array_equal(YOLOV3.scale_sizes(0), [[116, 90], [156, 198], [373, 326]])
    assert YOLOV3.grid_shapes((320, 608)) == [(10, 19), (20, 38), (40, 76)]
    np.testing.assert_array_equal(TINY.scale_sizes(1), [[23, 27], [37, 58], [81, 82]])
    assert TINY.grid_shapes((416, 416)) == [(13, 13), (26, 26)]


def test_bare_anchors_take_the_layout_of_their_number_of_scales():
    sizes = np.arange(1, 19).reshape(9, 2)
    np.testing.assert_array_equal(anchor_set(sizes, 3).scale_sizes(2), sizes[:3])
    np.testing.assert_array_equal(anchor_set(sizes[:6], 2).scale_sizes(0), sizes[3:6])
    with pytest.raises(ValueError, match="3 scales go with 9 anchors; found 6"):
        anchor_set(sizes[:6], 3)
    with pytest.raises(ValueError, match="found 4"):
        anchor_set(sizes, 4)
