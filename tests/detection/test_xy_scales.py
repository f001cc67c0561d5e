"""YOLOv4's scale_x_y: stretched centres are decoded, and training refuses them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from yolo_jax.core.anchors import TINY, AnchorSet
from yolo_jax.detection.decode import decode
from yolo_jax.detection.loss import DetectionLoss, dense_terms
from yolo_jax.detection.targets import dense_targets, match_boxes

STRETCHED = dataclasses.replace(TINY, xy_scales=(1.05, 1.2))


def heads(seed=0):
    rng = np.random.default_rng(seed)
    shapes = ((1, 2, 3, 3 * 7), (1, 4, 6, 3 * 7))
    return [jnp.asarray(3 * rng.normal(size=shape), jnp.float32) for shape in shapes]


def test_centres_are_stretched_around_their_cells_middle():
    made = heads()
    boxes = np.asarray(decode(made, STRETCHED).boxes)[0]
    found = (boxes[:, :2] + boxes[:, 2:]) / 2
    expected = []
    for head, stride, scale in zip(made, (32, 16), (1.05, 1.2), strict=True):
        _, rows, columns, _ = head.shape
        raw = np.asarray(head, np.float64).reshape(rows, columns, 3, 7)
        for row, column, anchor in np.ndindex(rows, columns, 3):
            offset = 1 / (1 + np.exp(-raw[row, column, anchor, :2])) * scale - (scale - 1) / 2
            expected.append((offset + [column, row]) * stride)
    # Of corners, between which wide boxes lose digits.
    size = (boxes[:, 2:] - boxes[:, :2]).max(1, keepdims=True)
    assert (np.abs(found - expected) <= 1e-6 * size + 1e-4).all()


def test_sizes_and_scores_are_as_without():
    plain, stretched = decode(heads(), TINY), decode(heads(), STRETCHED)
    np.testing.assert_array_equal(plain.scores, stretched.scores)
    sizes = [np.asarray(p.boxes[..., 2:] - p.boxes[..., :2]) for p in (plain, stretched)]
    np.testing.assert_allclose(*sizes, rtol=1e-4, atol=1e-4)
    assert np.abs(np.asarray(plain.boxes) - np.asarray(stretched.boxes)).max() > 0.5


def test_scales_of_1_are_the_same_program_as_none():
    ones = dataclasses.replace(TINY, xy_scales=(1.0, 1.0))
    programs = [str(jax.make_jaxpr(lambda h, a=a: decode(h, a))(heads())) for a in (TINY, ones)]
    assert programs[0] == programs[1]


def test_an_anchor_set_checks_how_many_there_are():
    with pytest.raises(ValueError, match="1 masks and 2 xy_scales"):
        AnchorSet(((8, 8),), ((0,),), (32,), (1.0, 1.1))


def test_training_refuses_them():
    message = r"xy_scales \(1\.05, 1\.2\).* train with 1"
    boxes, classes = jnp.asarray([[[8.0, 8.0, 40.0, 40.0]]]), jnp.asarray([[1]])
    with pytest.raises(ValueError, match=message):
        DetectionLoss(STRETCHED, 2)
    with pytest.raises(ValueError, match=message):
        match_boxes(boxes[0], classes[0], STRETCHED, (64, 96))
    with pytest.raises(ValueError, match=message):
        dense_targets(boxes, classes, STRETCHED, 2, (64, 96))
    targets = dense_targets(boxes, classes, TINY, 2, (64, 96))
    with pytest.raises(ValueError, match=message):
        dense_terms(heads(), targets, STRETCHED)
    DetectionLoss(dataclasses.replace(TINY, xy_scales=(1.0, 1.0)), 2)
