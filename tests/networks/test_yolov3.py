import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from yolo_jax.data.images import read_image
from yolo_jax.networks.convolution import spatial_pyramid
from yolo_jax.networks.yolov3 import (
    TinyYOLOv3,
    YOLOv3,
    YOLOv3SPP,
    create_network,
    set_objectness_prior,
)


def abstract(kind, num_classes):
    return nnx.eval_shape(lambda: kind(num_classes, rngs=nnx.Rngs(0)))


def count(network, of=...):
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(network, of)))


def test_yolov3_has_the_size_of_darknets():
    network = abstract(YOLOv3, 80)
    assert count(network, nnx.Param) == 61_949_149
    assert count(network) == 62_001_757  # floats in yolov3.weights
    assert len(network.convolutions()) == 75


def test_yolov3_spp_has_the_size_of_darknets():
    network = abstract(YOLOv3SPP, 80)
    assert count(network) == 63_052_381  # floats in yolov3-spp.weights
    assert len(network.convolutions()) == 76


@pytest.mark.parametrize("size", [(13, 13), (3, 20)])
def test_the_pyramid_is_of_maxima_of_growing_windows(size):
    inputs = np.random.default_rng(0).normal(size=(2, *size, 4)).astype(np.float32)
    found = np.asarray(spatial_pyramid(jnp.asarray(inputs)))
    expected = [
        lax.reduce_window(inputs, -np.inf, lax.max, (1, side, side, 1), (1, 1, 1, 1), "SAME")
        for side in (13, 9, 5)
    ]
    np.testing.assert_array_equal(found, np.concatenate([*expected, inputs], axis=-1))


def test_tiny_has_the_size_of_darknets():
    network = abstract(TinyYOLOv3, 80)
    assert count(network) == 8_858_734  # floats in yolov3-tiny.weights
    assert len(network.convolutions()) == 13


@pytest.mark.parametrize(
    ("kind", "strides"), [(YOLOv3, (32, 16, 8)), (YOLOv3SPP, (32, 16, 8)), (TinyYOLOv3, (32, 16))]
)
@pytest.mark.parametrize("size", [(64, 160), (416, 416), (96, 32)])
@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.float32])
def test_output_shapes(kind, strides, size, dtype):
    height, width = size
    graph, state = nnx.split(abstract(kind, 4))
    image = jax.ShapeDtypeStruct((2, height, width, 3), dtype)
    outputs = jax.eval_shape(lambda s, x: nnx.merge(graph, s)(x), state, image)
    assert [out.shape for out in outputs] == [(2, height // s, width // s, 27) for s in strides]
    assert all(out.dtype == jnp.float32 for out in outputs)


@pytest.mark.parametrize("size", [(100, 64), (64, 100), (0, 64)])
def test_input_size_must_be_a_multiple_of_32(size):
    graph, state = nnx.split(abstract(TinyYOLOv3, 1))
    image = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    with pytest.raises(ValueError, match=f"multiple of 32 px.*{size[0]}×{size[1]}"):
        jax.eval_shape(lambda s, x: nnx.merge(graph, s)(x), state, image)


@pytest.mark.parametrize(
    ("kind", "num_classes", "said"),
    [("yolov4", 1, "no network 'yolov4'; name one of tiny, yolov3"), ("tiny", 0, "is 0, not 1")],
)
def test_a_network_that_cannot_be(kind, num_classes, said):
    with pytest.raises(ValueError, match=said):
        create_network(kind, num_classes)


def test_no_box_is_likely_at_the_start(golden):
    """Or from-scratch training would begin by unlearning thousands of empty boxes an image."""
    pixels = jnp.asarray(read_image(golden / "dog.jpg")[None, :416, :416])
    network = create_network("tiny", 3)
    network.eval()
    for head in network(pixels):
        boxes = nnx.sigmoid(head.reshape(-1, 8))
        assert boxes[:, 4].mean() < 0.05
        assert boxes[:, 5:].mean() > 0.3  # the classes start as they were
    set_objectness_prior(network, 0.25)
    bias = network.fine_output.bias[...].reshape(3, 8)
    np.testing.assert_allclose(nnx.sigmoid(bias[:, 4]), 0.25, rtol=1e-6)
    assert (np.delete(bias, 4, axis=1) == 0).all()
