import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jax import lax

from yolo_jax.networks import convolution, cpu_convolution, winograd
from yolo_jax.networks.convolution import conv2d, darknet_padding, max_pool, upsample

# Kernel size, stride, padding; Darknet's three, and others.
KINDS = [
    (1, 1, ((0, 0), (0, 0))),
    (3, 1, ((1, 1), (1, 1))),
    (3, 2, ((1, 0), (1, 0))),
    (3, 2, ((1, 1), (0, 1))),
    (5, 1, ((2, 2), (2, 2))),
    (2, 2, ((0, 0), (0, 0))),
    (1, 2, ((0, 0), (0, 0))),
]


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
    np.testing.assert_array_equal(max_pool(jnp.asarray(image), 2, stride), expected)


def test_the_first_of_a_windows_maxima_has_its_gradient():
    image = np.random.default_rng(1).integers(-3, 3, (2, 4, 6, 3)).astype(np.float32)  # with ties
    weights = np.random.default_rng(2).normal(size=(2, 2, 3, 3)).astype(np.float32)
    expected = np.zeros_like(image)
    for b, row, column, c in np.ndindex(weights.shape):
        window = image[b, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2, c]
        down, right = np.unravel_index(window.argmax(), (2, 2))
        expected[b, 2 * row + down, 2 * column + right, c] = weights[b, row, column, c]
    found = jax.grad(lambda x: (weights * max_pool(x, 2, 2)).sum())(jnp.asarray(image))
    np.testing.assert_array_equal(found, expected)


def test_upsample_repeats_pixels():
    image = jnp.arange(12.0).reshape(1, 2, 3, 2)
    expected = np.asarray(image).repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_array_equal(upsample(image), expected)


def by_xla(image, kernel, stride, padding):
    names = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        image, kernel, (stride, stride), padding, dimension_numbers=names
    )


def xla_and_its_gradients(image, kernel, stride, padding, dtype=jnp.float32):
    """Returns output, gradient of the output, and gradients of image and kernel."""
    convolve = partial(by_xla, stride=stride, padding=padding)
    output, pullback = jax.vjp(convolve, image, kernel)
    grad = np.random.default_rng(1).normal(size=output.shape)
    grad = jnp.asarray(grad, dtype)
    return output, grad, *pullback(grad)


def arrays(size, height, width, dtype=jnp.float32, channels=5):
    rng = np.random.default_rng(0)
    image = rng.normal(size=(2, height, width, channels))
    kernel = rng.normal(size=(size, size, channels, 4))
    return jnp.asarray(image, dtype), jnp.asarray(kernel, dtype)


def assert_near(found, expected, share):
    assert found.dtype == expected.dtype
    found, expected = (np.asarray(a, np.float32) for a in (found, expected))
    assert np.abs(found - expected).max() <= share * np.abs(expected).max()


@pytest.mark.parametrize("shape", [(8, 6), (7, 9)])
@pytest.mark.parametrize("cached", [1, 12e6])  # images one by one; all of them
@pytest.mark.parametrize(("size", "stride", "padding"), KINDS)
def test_products_are_equal_to_xlas_convolutions(size, stride, padding, cached, shape, monkeypatch):
    monkeypatch.setattr(cpu_convolution, "CACHED_BYTES", cached)
    image, kernel = arrays(size, *shape)
    output, grad, image_grad, kernel_grad = xla_and_its_gradients(image, kernel, stride, padding)
    rest = (stride, padding)
    assert_near(cpu_convolution.forward_by_product(image, kernel, *rest), output, 1e-6)
    found = cpu_convolution.input_gradient_by_product(image, kernel, grad, *rest)
    assert_near(found, image_grad, 1e-5)
    found = cpu_convolution.kernel_gradient_by_product(image, kernel, grad, *rest)
    assert_near(found, kernel_grad, 1e-5)


@pytest.mark.parametrize("rows", [5000, 5001])
@pytest.mark.parametrize(("left", "right"), [(3, 7), (7, 3)])
def test_a_sum_over_many_rows_is_a_product(rows, left, right):
    rng = np.random.default_rng(0)
    left, right = (rng.normal(size=(rows, size)).astype(np.float32) for size in (left, right))
    found = cpu_convolution.sum_over_rows(jnp.asarray(left), jnp.asarray(right))
    assert_near(found, left.T @ right, 1e-5)


@pytest.mark.parametrize("shape", [(8, 12), (7, 9), (3, 5)])
@pytest.mark.parametrize(("size", "stride", "padding"), KINDS[:-1])
def test_blocks_of_columns_are_equal_to_xlas_convolutions(size, stride, padding, shape):
    image, kernel = arrays(size, *shape)
    output, grad, _, kernel_grad = xla_and_its_gradients(image, kernel, stride, padding)
    forward, kernel_gradient, _ = convolution.CPU_WAYS["blocks"]
    assert_near(forward(image, kernel, stride, padding), output, 1e-6)
    assert_near(kernel_gradient(image, kernel, grad, stride, padding), kernel_grad, 1e-5)


def assert_winograd_near(tile, image, kernel, padding, share):
    """The share is of output and kernel gradient; the inputs' gradient is held to 1e-5."""
    output, grad, image_grad, kernel_grad = xla_and_its_gradients(image, kernel, 1, padding)
    ways = convolution.CPU_WAYS[f"winograd {tile}"]
    assert_near(ways[0](image, kernel, stride=1, padding=padding), output, share)
    rest = {"grad": grad, "stride": 1, "padding": padding}
    assert_near(ways[1](image, kernel, **rest), kernel_grad, share)
    assert_near(ways[2](image, kernel, **rest), image_grad, 1e-5)


@pytest.mark.parametrize("shape", [(8, 12), (7, 9), (3, 5)])
@pytest.mark.parametrize("padding", [((1, 1), (1, 1)), ((0, 0), (0, 0)), ((2, 1), (0, 2))])
@pytest.mark.parametrize("tile", [2, 4])
@pytest.mark.parametrize("cached", [1, 3e4, 12e6])  # a band of one row of tiles; some; all images
def test_winograds_way_is_equal_to_xlas_convolutions(cached, tile, padding, shape, monkeypatch):
    monkeypatch.setattr(cpu_convolution, "CACHED_BYTES", cached)
    image, kernel = arrays(3, *shape, channels=40)
    assert_winograd_near(tile, image, kernel, padding, 1e-5)


@pytest.mark.parametrize(("channels", "filters"), [(128, 256), (256, 512)])
@pytest.mark.parametrize("tile", [2, 4])
def test_winograds_way_is_as_near_with_many_channels(tile, channels, filters):
    """What is rounded grows with the channels that are summed over."""
    rng, padding = np.random.default_rng(0), ((1, 1), (1, 1))
    image = jnp.asarray(rng.normal(size=(2, 17, 13, channels)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, channels, filters)), jnp.float32)
    assert_winograd_near(tile, image, kernel, padding, 5e-6)


@pytest.mark.parametrize(("size", "stride", "way"), [(3, 2, "product"), (3, 1, "blocks")])
def test_bfloat16_kernel_gradients_do_not_lose_with_the_batch(size, stride, way, monkeypatch):
    """Positive values, image by image: sums in bfloat16 would stop growing."""
    monkeypatch.setattr(cpu_convolution, "CACHED_BYTES", 1)
    rng, padding = np.random.default_rng(0), darknet_padding(size, stride)
    image = jnp.asarray(rng.uniform(size=(64, 16, 16, 3)), jnp.bfloat16)
    kernel = jnp.asarray(rng.normal(size=(size, size, 3, 4)), jnp.bfloat16)
    grad = jnp.asarray(rng.uniform(size=(64, 16 // stride, 16 // stride, 4)), jnp.bfloat16)
    found = convolution.CPU_WAYS[way][1](image, kernel, grad, stride, padding)
    exact = (array.astype(jnp.float32) for array in (image, kernel, grad))
    expected = convolution.kernel_gradient_by_xla(*exact, stride, padding)
    assert found.dtype == jnp.bfloat16
    assert_near(found.astype(jnp.float32), expected, 2**-8)  # that of rounding once


@pytest.mark.parametrize(
    ("shape", "size", "stride", "padding"),
    [
        ((2, 6, 5, 3), 1, 1, ((1, 1), (0, 2))),
        ((0, 17, 19, 3), 3, 1, ((1, 1), (1, 1))),
        ((1, 1, 1, 3), 3, 2, ((1, 1), (1, 1))),
        ((2, 40, 40, 3), 2, 3, ((0, 0), (0, 0))),
    ],
)
def test_what_no_network_has_is_xlas(shape, size, stride, padding):
    rng = np.random.default_rng(0)
    image = jnp.asarray(rng.normal(size=shape), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(size, size, 3, 4)), jnp.float32)
    output, grad, *expected = xla_and_its_gradients(image, kernel, stride, padding)
    found, pullback = jax.vjp(lambda x, k: conv2d(x, k, stride, padding), image, kernel)
    for ours, theirs in zip((found, *pullback(grad)), (output, *expected), strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("size", "stride"), [(1, 1), (5, 1), (3, 2)])
def test_winograds_way_refuses_other_kernels(size, stride):
    image, kernel = arrays(size, 8, 8)
    with pytest.raises(ValueError, match=f"not {size}×{size} of {stride}"):
        winograd.forward_by_winograd(image, kernel, stride, darknet_padding(size, stride), tile=2)


WAYS = [
    (size, stride, way)
    for size, stride in ((1, 1), (3, 1), (3, 2))
    for way in convolution.CPU_WAYS
    if (size, stride) == (3, 1) or not way.startswith("winograd")
]


@pytest.fixture
def only(way, monkeypatch):
    """Makes the table name one way alone; what was traced by another is forgotten."""
    monkeypatch.setattr(convolution, "ways_for", lambda *shape: (way,) * 4)
    monkeypatch.setattr(convolution, "_FEW_POSITIONS", 0)
    convolution.conv2d_traced_once.clear_cache()
    yield
    convolution.conv2d_traced_once.clear_cache()


@pytest.mark.usefixtures("only")
@pytest.mark.parametrize(("dtype", "share"), [(jnp.float32, 1e-5), (jnp.bfloat16, 2e-2)])
@pytest.mark.parametrize(("size", "stride", "way"), WAYS)
def test_a_convolution_is_xlas_whatever_the_table_says(size, stride, way, dtype, share):
    image, kernel = arrays(size, 8, 10, dtype)
    padding = darknet_padding(size, stride)
    expected = xla_and_its_gradients(image, kernel, stride, padding, dtype)
    output, pullback = jax.vjp(lambda i, k: conv2d(i, k, stride, padding), image, kernel)
    assert_near(output, expected[0], share)
    for found, wanted in zip(pullback(expected[1]), expected[2:], strict=True):
        assert_near(found, wanted, share)


@pytest.mark.usefixtures("only")
@pytest.mark.parametrize("way", ["product", "winograd 2"])
@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_the_platform_that_a_program_is_lowered_for_decides(platform):
    image, kernel = arrays(3, 8, 10)

    def loss(image, kernel):
        return conv2d(image, kernel, 1, darknet_padding(3, 1)).sum()

    program = jax.jit(jax.grad(loss, (0, 1))).trace(image, kernel)
    text = program.lower(lowering_platforms=(platform,)).as_text()
    assert ("stablehlo.convolution" in text) == (platform == "tpu")
    assert ("stablehlo.dot_general" in text) == (platform == "cpu")


def test_a_shape_that_the_table_lacks_is_treated_as_the_most_similar(monkeypatch):
    first, second, third = (("xla", "product", "xla", "xla"), ("product",) * 4, ("winograd 2",) * 4)
    table = {(3, 1, 32, 64): first, (3, 1, 512, 1024): third, (3, 2, 32, 64): second}
    monkeypatch.setattr(convolution, "WAYS", table)
    find = convolution.ways_for.__wrapped__
    assert find((3, 3, 30, 60), 1) == first
    assert find((3, 3, 256, 512), 1) == third
    assert find((3, 3, 512, 1024), 2) == second
    # Winograd's way takes no other kernels, so no entry is like these.
    assert find((5, 5, 512, 1024), 1) == ("xla", "product", "xla", "xla")
    assert find((3, 1, 512, 1024), 1) == ("xla", "product", "xla", "xla")


@settings(deadline=None)
@given(
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.integers(1, 5),
    st.integers(1, 3),
    st.none() | st.integers(0, 4),
)
def test_padding_is_darknets_less_what_no_window_reaches(sides, size, stride, before):
    given_or_half = size // 2 if before is None else before
    for side, (first, after) in zip(
        sides, darknet_padding(size, stride, sides, before), strict=True
    ):
        windows = (side + 2 * given_or_half - size) // stride + 1
        assert first == given_or_half
        if windows > 0:
            assert (side + first + after - size) // stride + 1 == windows
            # Not one zero more than the last window reaches.
            assert after in (0, (windows - 1) * stride + size - side - first)


@settings(deadline=None, max_examples=12)
@given(
    st.tuples(st.integers(1, 7), st.integers(1, 7)),
    st.integers(1, 4),
    st.integers(1, 3),
    st.none() | st.integers(0, 6),
)
def test_maxima_of_windows_of_any_size(sides, size, stride, padding):
    whole = size - 1 if padding is None else padding
    assume(whole <= 2 * (size - 1) and min(sides) + whole >= size)
    image = np.random.default_rng(0).uniform(-9, -1, (2, *sides, 3)).astype(np.float32)
    rows, columns = ((side + whole - size) // stride + 1 for side in sides)
    expected = np.empty((2, rows, columns, 3), np.float32)
    for row, column in itertools.product(range(rows), range(columns)):
        top, left = row * stride - whole // 2, column * stride - whole // 2
        window = image[:, max(0, top) : top + size, max(0, left) : left + size]
        expected[:, row, column] = window.max((1, 2))
    found = max_pool(jnp.asarray(image), size, stride, padding)
    np.testing.assert_array_equal(found, expected)
