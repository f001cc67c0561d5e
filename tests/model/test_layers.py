"""Layers against NumPy and JAX, and the arguments that they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from layer_calls import call, normal

from yolo_jax import layers as L  # noqa: N812 - as Keras's users write it


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("strides", "dilation"), [(1, 1), (2, 1), ((2, 1), 1), (1, (2, 3))])
def test_conv2d(padding, strides, dilation):
    x, kernel, bias = normal(2, 7, 8, 3), normal(3, 2, 3, 4), normal(4)
    layer = L.Conv2D(4, (3, 2), strides, padding, dilation_rate=dilation, activation="tanh")
    found = call(layer, x, [kernel, bias])
    windows = strides if isinstance(strides, tuple) else (strides, strides)
    gaps = dilation if isinstance(dilation, tuple) else (dilation, dilation)
    expected = lax.conv_general_dilated(
        x, kernel, windows, padding.upper(), rhs_dilation=gaps,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip
    np.testing.assert_allclose(found, np.tanh(expected + bias), atol=1e-5)


def test_depthwise_and_separable_convolutions():
    x, deep, point = normal(1, 4, 4, 2), normal(3, 3, 2, 2), normal(1, 1, 4, 3)
    by_channel = []
    for c in range(2):
        for m in range(2):
            windows = np.lib.stride_tricks.sliding_window_view(x[0, ..., c], (3, 3))
            by_channel.append((windows * deep[..., c, m]).sum((-1, -2)))
    expected = np.stack(by_channel, -1)[None]
    found = call(L.DepthwiseConv2D(3, depth_multiplier=2), x, [deep, np.zeros(4)])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    layer = L.SeparableConv2D(3, 3, depth_multiplier=2)
    found = call(layer, x, [deep, point, np.ones(3)])
    np.testing.assert_allclose(found, expected @ point[0, 0] + 1, atol=1e-5)


@pytest.mark.parametrize("pool", [2, 3, (1, 2)])
@pytest.mark.parametrize("strides", [None, 1, 2])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("size", [(4, 6), (5, 7)])
def test_pooling(pool, strides, padding, size):
    x = normal(2, *size, 3)
    window = pool if isinstance(pool, tuple) else (pool, pool)
    steps = window if strides is None else (strides, strides)

    def reduced(values, initial, function):
        return lax.reduce_window(
            values, initial, function, (1, *window, 1), (1, *steps, 1), padding.upper()
        )

    found = call(L.MaxPooling2D(pool, strides, padding), x)
    np.testing.assert_array_equal(found, reduced(x, -np.inf, lax.max))
    found = call(L.AveragePooling2D(pool, strides, padding), x)
    expected = reduced(x, 0.0, lax.add) / reduced(np.ones_like(x), 0.0, lax.add)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_global_pooling():
    x = normal(2, 3, 4, 5)
    np.testing.assert_allclose(call(L.GlobalAveragePooling2D(), x), x.mean((1, 2)), atol=1e-6)
    np.testing.assert_array_equal(call(L.GlobalMaxPooling2D(), x), x.max((1, 2)))


def test_upsampling_and_zero_padding():
    x = np.arange(4, dtype=np.float32).reshape(1, 2, 2, 1)
    found = call(L.UpSampling2D((1, 2)), x)[0, ..., 0]
    np.testing.assert_array_equal(found, [[0, 0, 1, 1], [2, 2, 3, 3]])
    found = call(L.UpSampling2D((1, 2), interpolation="bilinear"), x)[0, 0, :, 0]
    np.testing.assert_allclose(found, [0, 0.25, 0.75, 1])
    for padding, sides in [
        (1, ((1, 1), (1, 1))), ((1, 2), ((1, 1), (2, 2))), (((1, 0), (2, 3)), ((1, 0), (2, 3)))
    ]:  # fmt: skip
        expected = np.pad(x, ((0, 0), *sides, (0, 0)))
        np.testing.assert_array_equal(call(L.ZeroPadding2D(padding), x), expected)


def test_batch_normalisation_in_evaluation():
    x, weights = normal(4, 3), [normal(3), normal(3), normal(3), normal(3) ** 2]
    gamma, beta, mean, var = weights
    expected = (x - mean) / np.sqrt(var + 1e-3) * gamma + beta
    np.testing.assert_allclose(call(L.BatchNormalization(), x, weights), expected, atol=1e-5)
    x, shape = normal(2, 3, 4), (1, 3, 1)
    gamma, beta, mean, var = (w.reshape(shape) for w in weights)
    expected = (x - mean) / np.sqrt(var + 1e-3) * gamma + beta
    found = call(L.BatchNormalization(axis=1), x, weights)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_batch_normalisation_starts_from_its_initializers():
    layer = L.BatchNormalization(moving_variance_initializer="zeros", gamma_initializer="zeros")
    layer(L.Input((3,)))
    assert [float(w[0]) for w in layer.get_weights()] == [0, 0, 0, 0]


def test_layer_normalisation():
    x, gamma, beta = normal(4, 5, 3), normal(3), normal(3)
    expected = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-3)
    found = call(L.LayerNormalization(), x, [gamma, beta])
    np.testing.assert_allclose(found, expected * gamma + beta, atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (lambda: L.LeakyReLU(), [-0.6, -0.15, 0, 1, 8]),
        (lambda: L.LeakyReLU(0.1), [-0.2, -0.05, 0, 1, 8]),
        (lambda: L.ReLU(), [0, 0, 0, 1, 8]),
        (lambda: L.ReLU(6, 0.5, 1), [-1.5, -0.75, -0.5, 0, 6]),
        (lambda: L.Activation("linear"), [-2, -0.5, 0, 1, 8]),
        (lambda: L.Activation("hard_sigmoid"), [0.1, 0.4, 0.5, 0.7, 1]),
        (lambda: L.Activation(jnp.abs), [2, 0.5, 0, 1, 8]),
        (lambda: L.Activation("softsign"), [-2 / 3, -1 / 3, 0, 0.5, 8 / 9]),
    ],
)
def test_activations(layer, expected):
    x = np.array([[-2, -0.5, 0, 1, 8]], np.float32)
    np.testing.assert_allclose(call(layer(), x), [expected], atol=1e-6)


def test_softmax_along_an_axis():
    x = normal(2, 3, 4)
    expected = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    np.testing.assert_allclose(call(L.Softmax(axis=1), x), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "function", "expected"),
    [
        (L.Add, L.add, lambda a, b: a + b),
        (L.Subtract, L.subtract, lambda a, b: a - b),
        (L.Multiply, L.multiply, lambda a, b: a * b),
        (L.Average, L.average, lambda a, b: (a + b) / 2),
        (L.Maximum, L.maximum, np.maximum),
        (L.Minimum, L.minimum, np.minimum),
        (L.Concatenate, L.concatenate, lambda a, b: np.concatenate([a, b], -1)),
    ],
)
def test_merging(layer, function, expected):
    a, b = normal(2, 3), normal(2, 3)
    np.testing.assert_allclose(call(layer(), [a, b]), expected(a, b), atol=1e-6)
    inputs = [L.Input((3,)), L.Input((3,))]
    merged = function(inputs, name="merged")
    assert merged.name == "merged" and merged.shape == (None, expected(a, b).shape[1])


def test_merging_inputs_of_fewer_axes():
    a, b = normal(2, 4, 3), normal(2, 3)
    np.testing.assert_allclose(call(L.Add(), [a, b]), a + b[:, None], atol=1e-6)


def test_merging_refuses_what_does_not_fit():
    x = L.Input((3,))
    with pytest.raises(ValueError, match="'one'.*") as error:
        L.Add(name="one")([x])
    assert "at least 2 inputs" in str(error.value)
    with pytest.raises(ValueError, match="exactly 2 inputs; 'three'"):
        L.Subtract(name="three")([x, x, x])
    with pytest.raises(ValueError, match="concat axis 1; 'cat'"):
        L.Concatenate(axis=1, name="cat")([L.Input((3, 2)), L.Input((3, 4))])


def test_reshaping():
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    np.testing.assert_array_equal(call(L.Flatten(), x), x.reshape(2, 12))
    np.testing.assert_array_equal(call(L.Reshape((2, 6)), x), x.reshape(2, 2, 6))
    np.testing.assert_array_equal(call(L.Reshape((-1, 2)), x), x.reshape(2, 6, 2))
    np.testing.assert_array_equal(call(L.Permute((2, 1)), x), x.transpose(0, 2, 1))
    np.testing.assert_array_equal(call(L.RepeatVector(2), x[:, 0]), x[:, [0, 0]])


def test_reshaping_refuses_what_does_not_fit():
    x = L.Input((3, 4))
    with pytest.raises(ValueError, match=r"'r' cannot make rows of shape \(5,\).*\(3, 4\)"):
        L.Reshape((5,), name="r")(x)
    with pytest.raises(ValueError, match="one unknown dimension"):
        L.Reshape((-1, -1))
    with pytest.raises(ValueError, match="1 to 2 once"):
        L.Permute((0, 1))


def test_embedding_looks_up_and_masks_zero():
    table = normal(5, 2)
    x = np.array([[1.0, 0.0, 4.0]], np.float32)
    layer = L.Embedding(5, 2, mask_zero=True)
    np.testing.assert_array_equal(call(layer, x, [table]), table[[[1, 0, 4]]])
    assert layer.compute_mask(x).tolist() == [[True, False, True]]
    assert layer.output.mask_shape == (None, 3)


def test_dense_over_later_axes():
    x, kernel, bias = normal(2, 3, 4), normal(4, 5), normal(5)
    np.testing.assert_allclose(call(L.Dense(5), x, [kernel, bias]), x @ kernel + bias, atol=1e-5)


def test_images_of_bytes_are_convolved_in_float32():
    x = np.full((1, 3, 3, 1), 200, np.uint8)
    layer = L.Conv2D(1, 3)
    assert call(layer, x, [np.ones((3, 3, 1, 1)), np.zeros(1)]).item() == 1800


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: L.Conv2D(1, 3, padding="full", name="c"), "'c'.*'valid' or 'same'.*'full'"),
        (lambda: L.Conv2D(1, (3, 3, 3)), "kernel_size"),
        (lambda: L.Conv2D(1, 3, data_format="channels_first"), "leave it out"),
        (lambda: L.MaxPooling2D(0), "pool_size"),
        (lambda: L.UpSampling2D(interpolation="cubic"), "interpolation"),
        (lambda: L.ZeroPadding2D((1, 2, 3)), "padding"),
        (lambda: L.Dropout(1.5, name="d"), "'d'.*1.5"),
        (lambda: L.Dropout(0.5, noise_shape=(1, 3)), "noise_shape"),
        (lambda: L.Dense(0), "units"),
        (lambda: L.ReLU(-1), "max_value"),
    ],
)
def test_arguments_that_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_dropout_drops_whole_channels_by_noise_shape():
    layer = L.Dropout(0.5, noise_shape=(None, 1, 8), seed=3)
    keys = jax.random.split(jax.random.key(0), 4)
    out = layer(jnp.ones((4, 6, 8)), row_keys=keys)
    assert ((out == out[:, :1]).all()) and set(np.unique(out)) == {0.0, 2.0}
