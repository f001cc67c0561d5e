"""Layers: numbers against hand computation and golden Keras runs, weights, and what is refused."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from yolo_jax import layers as L  # noqa: N812 - as Keras's users write it
from yolo_jax.model.graph import Graph, clear_session

GOLDEN = Path(__file__).parents[1] / "golden" / "keras"
RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def call(layer, values, weights=None):
    """Calls through a graph, and checks the inferred shape against the array."""
    several = isinstance(values, list)
    inputs = [L.Input(v.shape[1:], dtype=v.dtype) for v in (values if several else [values])]
    out = layer(inputs if several else inputs[0])
    if weights is not None:
        layer.set_weights(weights)
    found = Graph(inputs, [out])(values if several else [values])[0]
    assert out.shape == (None, *found.shape[1:]) and out.dtype == found.dtype
    return np.asarray(found)


# Golden runs


def functions(name, scale):
    match name:
        case "row_loss":
            return lambda xs, scale: scale * jnp.square(xs[0] - xs[1]).sum(-1, keepdims=True)
        case "batch_loss":
            return lambda xs, scale: scale * jnp.square(xs[0] - xs[1]).mean()


def build(described):
    tensors = {one["name"]: L.Input(one["shape"], name=one["name"]) for one in described["inputs"]}
    inputs, made = list(tensors.values()), {}
    for one in described["layers"]:
        options = {k: v for k, v in one.items() if k not in ("type", "on", "function_meaning")}
        if one["type"] == "Lambda":
            options["function"] = functions(options["function"], options["arguments"])
        made[one["name"]] = layer = getattr(L, one["type"])(**options)
        on = [tensors[name] for name in one["on"]]
        tensors[one["name"]] = layer(on if len(on) > 1 else on[0])
    return Graph(inputs, [tensors[name] for name in described["outputs"]]), made


CASES = [path.stem for path in sorted(GOLDEN.glob("*.npz")) if "predict/0" in np.load(path)]


@pytest.mark.parametrize("case", CASES)
def test_predictions_of_golden_runs(case):
    described = json.loads((GOLDEN / f"{case}.json").read_text())
    arrays = np.load(GOLDEN / f"{case}.npz")
    graph, made = build(described["model"])
    for name, layer in made.items():
        layer.set_weights([arrays[f"w_final/{name}/{kind}"] for kind in layer.weights])
    x = described["evaluate"]["x"]
    match x:
        case dict():
            x = [x[tensor.name] for tensor in graph.inputs]
        case str():
            x = [x]
    outputs = graph([arrays[f"data/{name}"] for name in x])
    for index, found in enumerate(outputs):
        expected = arrays[f"predict/{index}"]
        if np.ndim(found) == 0:
            continue  # A scalar of the whole batch; what predict makes of it is the model's part.
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_there_are_golden_runs():
    assert len(CASES) >= 20


# Weights


def test_weights_stand_in_keras_order():
    x = L.Input((4, 4, 3))
    layers = {
        L.Conv2D(2, 3): ["kernel", "bias"],
        L.Conv2D(2, 3, use_bias=False): ["kernel"],
        L.BatchNormalization(): ["gamma", "beta", "moving_mean", "moving_variance"],
        L.BatchNormalization(center=False, scale=False): ["moving_mean", "moving_variance"],
        L.DepthwiseConv2D(3): ["depthwise_kernel", "bias"],
        L.SeparableConv2D(2, 3): ["depthwise_kernel", "pointwise_kernel", "bias"],
        L.LayerNormalization(): ["gamma", "beta"],
        L.Flatten(): [],
    }
    for layer, names in layers.items():
        with pytest.raises(ValueError, match="count_params"):
            layer.count_params()
        layer(x)
        assert list(layer.weights) == names
        assert [w.shape for w in layer.get_weights()] == [w.shape for w in layer.weights.values()]


def test_weights_are_set_and_counted():
    layer = L.Dense(2, name="d")
    layer(L.Input((3,)))
    assert layer.count_params() == 8
    layer.set_weights([np.ones((3, 2)), np.zeros(2)])
    np.testing.assert_array_equal(layer(jnp.ones((1, 3))), [[3, 3]])
    with pytest.raises(ValueError, match=r"'d' with 1 arrays.*2 weights"):
        layer.set_weights([np.ones((3, 2))])
    with pytest.raises(ValueError, match=r"'d'.*kernel.*\(3, 2\).*\(2, 3\)"):
        layer.set_weights([np.ones((2, 3)), np.zeros(2)])
    np.testing.assert_array_equal(layer.get_weights()[0], np.ones((3, 2)))


def test_regularizers_add_up_and_shared_layers_count_once():
    def l2(kernel):
        return 0.5 * jnp.sum(jnp.square(kernel))

    x = L.Input((3,))
    shared = L.Dense(3, kernel_regularizer=l2, bias_regularizer=l2)
    other = L.Dense(1, kernel_regularizer=l2)
    graph = Graph([x], [other(shared(shared(x)))])
    shared.set_weights([np.ones((3, 3)), np.full(3, 2.0)])
    other.set_weights([np.ones((3, 1)), np.ones(1)])
    assert float(graph.penalty()) == 0.5 * (9 + 12 + 3)
    with pytest.raises(TypeError, match="'r'.*regularizers.l2"):
        L.Dense(1, kernel_regularizer="l2", name="r")


@pytest.mark.parametrize(
    ("name", "limit", "deviation"),
    [
        ("glorot_uniform", np.sqrt(6 / (9 * 96)), np.sqrt(2 / (9 * 96))),
        ("he_uniform", np.sqrt(6 / (9 * 32)), np.sqrt(2 / (9 * 32))),
        ("lecun_uniform", np.sqrt(3 / (9 * 32)), np.sqrt(1 / (9 * 32))),
        ("glorot_normal", 2 * np.sqrt(2 / (9 * 96)) / 0.8796, np.sqrt(2 / (9 * 96))),
        ("he_normal", 2 * np.sqrt(2 / (9 * 32)) / 0.8796, np.sqrt(2 / (9 * 32))),
        ("random_uniform", 0.05, 0.05 / np.sqrt(3)),
        ("random_normal", 1.0, 0.05),
        ("truncated_normal", 0.1, 0.05 * 0.8796),
    ],
)
def test_initializers_have_keras_distributions(name, limit, deviation):
    layer = L.Conv2D(64, 3, kernel_initializer=name)
    layer(L.Input((8, 8, 32)))
    kernel, bias = layer.get_weights()
    assert np.abs(kernel).max() <= limit * 1.001
    assert abs(kernel.std() / deviation - 1) < 0.03 and abs(kernel.mean()) < 0.05 * deviation
    assert not bias.any()


def test_an_initializer_is_a_function_of_jax_too():
    layer = L.Dense(4, kernel_initializer=jax.nn.initializers.constant(3.0))
    layer(L.Input((2,)))
    np.testing.assert_array_equal(layer.get_weights()[0], np.full((2, 4), 3.0))


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="'a'.*Unknown activation function:nope"):
        L.Dense(1, activation="nope", name="a")
    with pytest.raises(ValueError, match="'b'.*Unknown initializer: nope"):
        L.Conv2D(1, 3, kernel_initializer="nope", name="b")


def test_names_are_keras_names():
    clear_session()
    found = [
        layer.name
        for layer in (
            L.Conv2D(1, 1), L.LeakyReLU(), L.ReLU(), L.MaxPooling2D(), L.UpSampling2D(),
            L.ZeroPadding2D(), L.GlobalAveragePooling2D(), L.BatchNormalization(),
            L.SeparableConv2D(1, 1), L.DepthwiseConv2D(1), L.Lambda(abs), L.Conv2D(1, 1),
        )
    ]  # fmt: skip
    assert found == [
        "conv2d_1", "leaky_re_lu_1", "re_lu_1", "max_pooling2d_1", "up_sampling2d_1",
        "zero_padding2d_1", "global_average_pooling2d_1", "batch_normalization_1",
        "separable_conv2d_1", "depthwise_conv2d_1", "lambda_1", "conv2d_2",
    ]  # fmt: skip


# Numbers


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
