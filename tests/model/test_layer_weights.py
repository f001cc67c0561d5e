"""Layers' weights: order, numbers, penalties, initializers, names."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from yolo_jax import layers as L  # noqa: N812 - as Keras's users write it
from yolo_jax.model.graph import Graph, clear_session


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
