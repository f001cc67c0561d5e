import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from yolo_jax.core.precision import Precision
from yolo_jax.data.images import read_image
from yolo_jax.networks.blocks import BatchNorm, masked_moments
from yolo_jax.networks.convolution import conv2d, darknet_padding, max_pool_2x2, upsample_2x
from yolo_jax.networks.yolov3 import (
    TinyYOLOv3,
    YOLOv3,
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


def test_tiny_has_the_size_of_darknets():
    network = abstract(TinyYOLOv3, 80)
    assert count(network) == 8_858_734  # floats in yolov3-tiny.weights
    assert len(network.convolutions()) == 13


@pytest.mark.parametrize(("kind", "strides"), [(YOLOv3, (32, 16, 8)), (TinyYOLOv3, (32, 16))])
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


def test_stride_2_pads_left_and_top():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(1, 6, 8, 2)).astype(np.float32)
    kernel = rng.normal(size=(3, 3, 2, 4)).astype(np.float32)
    padded = np.zeros((8, 10, 2))
    padded[1:7, 1:9] = image[0]
    expected = np.zeros((3, 4, 4))
    for row, column in itertools.product(range(3), range(4)):
        window = padded[2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
        expected[row, column] = np.einsum("abc,abcd->d", window, kernel)
    found = conv2d(image, kernel, 2, darknet_padding(3, 2))
    assert found.shape == (1, 3, 4, 4)
    np.testing.assert_allclose(found[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
def test_max_pool_against_windows(stride):
    # Negative values: a padding with 0 instead of −∞ would win.
    image = np.random.default_rng(1).uniform(-9, -1, (2, 4, 6, 3)).astype(np.float32)
    rows, columns = 4 // stride, 6 // stride
    expected = np.empty((2, rows, columns, 3), np.float32)
    for row, column in itertools.product(range(rows), range(columns)):
        top, left = row * stride, column * stride
        expected[:, row, column] = image[:, top : top + 2, left : left + 2].max((1, 2))
    np.testing.assert_array_equal(max_pool_2x2(jnp.asarray(image), stride), expected)


def test_upsample_repeats_pixels():
    image = jnp.arange(12.0).reshape(1, 2, 3, 2)
    expected = np.asarray(image).repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_array_equal(upsample_2x(image), expected)


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [3, 16])
def test_convolutions_gradient_is_xlas(size, stride, channels):
    rng = np.random.default_rng(2)
    image = rng.normal(size=(2, 8, 10, channels)).astype(np.float32)
    kernel = rng.normal(size=(size, size, channels, 12)).astype(np.float32)
    padding = darknet_padding(size, stride)

    def xla(image, kernel):
        names = ("NHWC", "HWIO", "NHWC")
        strides = (stride, stride)
        return jax.lax.conv_general_dilated(
            image, kernel, strides, padding, dimension_numbers=names
        )

    expected_output, expected_pullback = jax.vjp(xla, image, kernel)
    output, pullback = jax.vjp(lambda i, k: conv2d(i, k, stride, padding), image, kernel)
    np.testing.assert_allclose(output, expected_output, rtol=1e-6)
    grad = rng.normal(size=output.shape).astype(np.float32)
    for found, expected in zip(pullback(grad), expected_pullback(grad), strict=True):
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_batch_norm_in_training_and_in_use():
    rng = np.random.default_rng(3)
    inputs = rng.normal(2, 3, (4, 5, 6, 7)).astype(np.float32)
    norm = BatchNorm(7, precision=Precision())
    outputs = norm(jnp.asarray(inputs))
    mean, var = inputs.mean((0, 1, 2)), inputs.var((0, 1, 2))
    np.testing.assert_allclose(outputs, (inputs - mean) / np.sqrt(var), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm.mean[...], 0.01 * mean, rtol=1e-5)
    np.testing.assert_allclose(norm.var[...], 0.99 + 0.01 * var, rtol=1e-6)

    norm.eval()
    moved = np.array(norm.mean[...]), np.array(norm.var[...])
    outputs = norm(jnp.asarray(inputs))
    np.testing.assert_allclose(
        outputs, (inputs - moved[0]) / np.sqrt(moved[1]), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_array_equal(norm.mean[...], moved[0])
    np.testing.assert_array_equal(norm.var[...], moved[1])


MASKS = {
    "none": None,
    "rows": np.array([1, 0, 1, 1], bool).reshape(4, 1, 1),
    "rows and places": np.random.default_rng(6).integers(0, 2, (4, 6, 1)).astype(bool),
    "nothing": np.zeros((4, 1, 1), bool),
}


@pytest.mark.parametrize("feature", [-1, 2, 1])
@pytest.mark.parametrize("case", MASKS)
def test_moments_over_what_a_mask_keeps(case, feature):
    values = np.random.default_rng(5).normal(2, 3, (4, 6, 3)).astype(np.float32)
    mask = MASKS[case]
    if feature == 1:
        values = values.swapaxes(1, 2)
        mask = None if mask is None else mask.swapaxes(1, 2)
    kept = np.ones((4, 6), bool) if mask is None else np.broadcast_to(mask.reshape(4, -1), (4, 6))
    rows = np.moveaxis(values, feature, -1)[kept]
    # What is left out may hold anything.
    left_out = np.broadcast_to(False if mask is None else ~mask, values.shape)
    values = np.where(left_out, np.inf, values)
    mean, var, count = masked_moments(values, mask, feature=feature)
    assert count == len(rows)
    assert mean.shape == var.shape == (3,)
    assert mean.dtype == var.dtype == count.dtype == jnp.float32
    expected = (rows.mean(0), rows.var(0)) if len(rows) else (np.zeros(3), np.zeros(3))
    np.testing.assert_allclose(mean, expected[0], rtol=1e-5)
    np.testing.assert_allclose(var, expected[1], rtol=1e-5)
    if len(rows):
        gradient = jax.grad(
            lambda x: sum(a.sum() for a in masked_moments(x, mask, feature=feature))
        )
        found = np.asarray(gradient(jnp.asarray(values)))
        assert np.isfinite(found).all()
        np.testing.assert_array_equal(found[left_out], 0)


def test_moments_over_devices_count_each_by_its_rows():
    values = np.random.default_rng(7).normal(2, 3, (2, 3, 5)).astype(np.float32)
    mask = np.array([[True, True, True], [True, False, False]])[..., None]
    found = jax.vmap(lambda v, m: masked_moments(v, m, axis_name="batch"), axis_name="batch")(
        values, mask
    )
    rows = values[mask[..., 0]]
    for row in range(2):
        np.testing.assert_allclose(found[0][row], rows.mean(0), rtol=1e-5)
        np.testing.assert_allclose(found[1][row], rows.var(0), rtol=1e-5)
        assert found[2][row] == 4


def test_moments_of_low_precision_are_summed_in_float32():
    values = jnp.full((4, 64, 64, 2), 1.0, jnp.bfloat16)
    mean, var, count = masked_moments(values)
    np.testing.assert_array_equal(mean, 1)
    np.testing.assert_array_equal(var, 0)
    assert count == 4 * 64 * 64


@pytest.mark.parametrize(
    ("kind", "num_classes", "said"),
    [("yolov4", 1, "no network 'yolov4'; name one of tiny, yolov3"), ("tiny", 0, "is 0, not 1")],
)
def test_a_network_that_cannot_be(kind, num_classes, said):
    with pytest.raises(ValueError, match=said):
        create_network(kind, num_classes)


def test_masked_rows_leave_no_trace():
    rng = np.random.default_rng(4)
    rows = rng.normal(1, 2, (3, 4, 4, 5)).astype(np.float32)
    padded = np.full((5, 4, 4, 5), 1e3, np.float32)
    kept = np.array([True, False, True, True, False])
    padded[kept] = rows
    plain, masked = (BatchNorm(5, precision=Precision()) for _ in range(2))
    expected = plain(jnp.asarray(rows))
    found = masked(jnp.asarray(padded), jnp.asarray(kept))
    np.testing.assert_allclose(found[kept], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(masked.mean[...], plain.mean[...], rtol=1e-6)
    np.testing.assert_allclose(masked.var[...], plain.var[...], rtol=1e-6)


def test_a_batch_of_padding_alone_moves_nothing():
    norm = BatchNorm(2, precision=Precision())
    outputs = norm(jnp.full((2, 3, 3, 2), 7.0), jnp.zeros(2, bool))
    assert np.isfinite(outputs).all()
    np.testing.assert_array_equal(norm.mean[...], 0)
    np.testing.assert_array_equal(norm.var[...], 1)


def test_gradient_through_a_constant_channel_is_finite():
    norm = BatchNorm(2, precision=Precision())
    inputs = jnp.ones((2, 3, 3, 2))
    gradient = jax.grad(lambda x: jnp.square(BatchNorm.__call__(nnx.clone(norm), x)).sum())(inputs)
    assert np.isfinite(gradient).all()


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
