import jax.numpy as jnp
import numpy as np
import pytest

from yolo_jax.core.anchors import AnchorSet
from yolo_jax.detection.decode import decode
from yolo_jax.detection.views import VIEWS, predict_views

SIDE, ANCHOR = 64, 16.0
ANCHORS = AnchorSet(((ANCHOR, ANCHOR),), ((0,),), (SIDE,))


def forward(images):
    """Returns one head of one cell, whose box lies around what is white in the image."""
    white = images[..., 0] > 0.9
    place = jnp.arange(SIDE) + 0.5
    numbers = []
    for axis in (1, 2):  # whether a column has white, then whether a row has
        there = white.any(axis=axis)
        centre = (there * place).sum(axis=1) / there.sum(axis=1) / SIDE
        numbers.append((jnp.log(centre / (1 - centre)), jnp.log(there.sum(axis=1) / ANCHOR)))
    (x, width), (y, height) = numbers
    nothing = jnp.zeros_like(x)
    head = jnp.stack([x, y, width, height, nothing, nothing], axis=-1)
    return (head[:, None, None],)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_boxes_of_all_views_are_those_of_the_image(dtype):
    images = np.full((2, SIDE, SIDE, 3), 60, np.uint8)
    images[0, 10:30, 8:20] = 255
    images[1, 40:64, 30:62] = 255
    if dtype == np.float32:
        images = images.astype(np.float32) / 255
    boxes = np.asarray(predict_views(forward, jnp.asarray(images), ANCHORS).boxes)
    assert boxes.shape == (2, len(VIEWS), 4)
    for row, box in enumerate([(8, 10, 20, 30), (30, 40, 62, 64)]):
        np.testing.assert_allclose(boxes[row, 0], box, atol=1e-3)
        # Of smaller views the edge is found to half of their pixels.
        np.testing.assert_allclose(boxes[row, 1:], [box] * 2, atol=1.6)


def test_the_first_view_is_the_image_as_it_is():
    images = jnp.asarray(np.eye(SIDE, dtype=np.float32)[None, :, :, None].repeat(3, axis=-1))
    found = predict_views(forward, images, ANCHORS)
    plain = decode(forward(images), ANCHORS)
    np.testing.assert_array_equal(found.boxes[:, :1], plain.boxes)
    np.testing.assert_array_equal(found.scores[:, :1], plain.scores)
