"""`K`: Keras's functions against NumPy's, and the learning rate through it."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from yolo_jax import Input, K, Lambda, Model
from yolo_jax.callbacks import Callback
from yolo_jax.layers import Dense, UpSampling2D
from yolo_jax.optimizers import SGD

X = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
Y = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)
IMAGE = np.random.default_rng(2).random((2, 3, 4, 1), np.float32)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (lambda: K.sum(X, axis=[0, 1]), X.sum()),
        (lambda: K.mean(X, axis=-1, keepdims=True), X.mean(-1, keepdims=True)),
        (lambda: K.max(X), X.max()),
        (lambda: K.std(X, 0), X.std(0)),
        (lambda: K.any(X > 1, axis=0), (X > 1).any(0)),
        (lambda: K.argmax(X), X.argmax(-1)),
        (lambda: K.clip(X, -0.5, 0.5), X.clip(-0.5, 0.5)),
        (lambda: K.relu(X, alpha=0.1, max_value=1.0), np.minimum(np.where(X > 0, X, 0.1 * X), 1)),
        (
            lambda: K.relu(X, alpha=0.1, threshold=0.5),
            np.where(X > 0.5, X, 0.1 * (X - 0.5)),
        ),
        (lambda: K.elu(X, alpha=0.5), np.where(X > 0, X, 0.5 * np.expm1(X))),
        (lambda: K.sqrt(X), np.sqrt(np.maximum(X, 0))),
        (lambda: K.pow(X, 2), X**2),
        (lambda: K.zeros_like(X, dtype="int32"), np.zeros(X.shape)),
        (lambda: K.dot(X, Y.T), X @ Y.T),
        (lambda: K.switch(X[:, 0] > 0, X, Y), np.where(X[:, :1] > 0, X, Y)),
        (lambda: K.permute_dimensions(X, (1, 0)), X.T),
        (lambda: K.concatenate([X, Y]), np.concatenate([X, Y], -1)),
        (lambda: K.concatenate([X, Y], axis=0), np.concatenate([X, Y])),
        (lambda: K.stack([X, Y]), np.stack([X, Y])),
        (lambda: K.expand_dims(X), X[..., None]),
        (lambda: K.squeeze(X[None], 0), X),
        (lambda: K.tile(X, [1, 2]), np.tile(X, (1, 2))),
        (lambda: K.repeat_elements(X, 2, axis=1), X.repeat(2, 1)),
        (lambda: K.gather(X, [2, 0]), X[[2, 0]]),
        (lambda: K.batch_flatten(X.reshape(3, 2, 2)), X),
        (lambda: K.reshape(X, (2, -1)), X.reshape(2, -1)),
        (lambda: K.cast(X > 0, "float32"), (X > 0).astype(np.float32)),
        (lambda: K.one_hot([1, 0], 3), np.eye(3)[[1, 0]]),
        (lambda: K.constant(2, shape=(2,)), [2.0, 2.0]),
        (lambda: K.arange(0, 4, 2), [0, 2]),
        (lambda: K.softmax(X), np.exp(X) / np.exp(X).sum(-1, keepdims=True)),
        (lambda: K.cumsum(X, axis=1), X.cumsum(1)),
        (lambda: K.cumprod(X), X.cumprod(0)),
        (lambda: K.logsumexp(X, axis=[0, 1]), np.log(np.exp(X).sum())),
        (lambda: K.l2_normalize(X, axis=-1), X / np.linalg.norm(X, axis=-1, keepdims=True)),
        (lambda: K.l2_normalize(X), X / np.linalg.norm(X)),
        (lambda: K.reverse(X, axes=[0]), X[::-1]),
        (lambda: K.slice(X, [1, 0], [2, -1]), X[1:3]),
        (lambda: K.repeat(X, 5), np.repeat(X[:, None], 5, 1)),
        (lambda: K.eye(3), np.eye(3)),
        (lambda: K.identity(X), X),
        (lambda: K.cast_to_floatx(X > 0), (X > 0).astype(np.float32)),
        (lambda: K.map_fn(lambda row: 2 * row.sum(), X), 2 * X.sum(1)),
        (lambda: K.map_fn(lambda pair: pair[0] @ pair[1], (X, Y)), (X * Y).sum(1)),
        (lambda: K.switch(X.sum() > 0, lambda: X, lambda: Y), X if X.sum() > 0 else Y),
        (lambda: K.elu(X), np.where(X > 0, X, np.exp(X) - 1)),
        (lambda: K.hard_sigmoid(X), np.clip(0.2 * X + 0.5, 0, 1)),
        (lambda: K.softsign(X), X / (1 + np.abs(X))),
        (lambda: K.in_top_k(X, X.argmin(1), 3), [False] * 3),
        (lambda: K.in_top_k(X, X.argmax(1), 1), [True] * 3),
        (lambda: K.resize_images(IMAGE, 2, 3, "channels_last"), IMAGE.repeat(2, 1).repeat(3, 2)),
        (
            lambda: K.resize_images(IMAGE, 2, 2, interpolation="bilinear"),
            UpSampling2D(2, interpolation="bilinear")(IMAGE),
        ),
        (
            lambda: K.spatial_2d_padding(IMAGE, ((1, 0), (0, 2))),
            np.pad(IMAGE, ((0, 0), (1, 0), (0, 2), (0, 0))),
        ),
        (lambda: K.maximum(X, Y) + K.pow(K.abs(X), 2), np.maximum(X, Y) + np.abs(X) ** 2),
    ],
)
def test_functions_are_numpys(found, expected):
    np.testing.assert_allclose(found(), expected, rtol=1e-5, atol=1e-6)


def test_shapes_are_known_of_symbols_too():
    tensor = Input((None, 3))
    assert K.int_shape(tensor) == (None, None, 3)
    assert (K.ndim(tensor), K.ndim(X)) == (3, 2)
    assert K.shape(X) == (3, 4)
    assert (K.dtype(X), K.floatx(), K.epsilon()) == ("float32", "float32", 1e-7)


def test_no_gradient_passes_stop_gradient():
    assert jax.grad(lambda x: x * K.stop_gradient(x))(3.0) == 3.0


def make_model():
    x = Input((4,))
    model = Model(x, Lambda(lambda x: K.square(x))(Dense(1)(x)))
    model.compile(SGD(lr=0.1), "mse")
    return model


def test_a_callback_written_for_keras_sets_the_rate():
    class Halve(Callback):
        def on_epoch_begin(self, epoch, logs=None):
            rate = K.get_value(self.model.optimizer.lr)
            K.set_value(self.model.optimizer.lr, rate / 2)

    model = make_model()
    model.fit(X, Y[:, :1], epochs=3, verbose=0, callbacks=[Halve()])
    assert model.optimizer.lr == pytest.approx(0.1 / 8)


def test_variables_are_read_and_set():
    layer = make_model().layers[1]
    K.set_value(layer.weights["bias"], [3.0])
    np.testing.assert_array_equal(K.get_value(layer.weights["bias"][...]), [3.0])
    with pytest.raises(TypeError, match="model.optimizer.lr, a layer's variable .* K.variable"):
        K.set_value(jnp.zeros(2), 1)


def test_clear_session_numbers_layers_from_one():
    K.clear_session()
    assert [Dense(1).name for _ in range(2)] == ["dense_1", "dense_2"]
    K.clear_session()
    assert Dense(1).name == "dense_1"


PROBABILITIES = np.exp(X) / np.exp(X).sum(-1, keepdims=True)


def test_crossentropies_reduce_what_keras_s_reduce():
    bits = (Y > 0).astype(np.float32)
    binary = -(bits * np.log(PROBABILITIES) + (1 - bits) * np.log(1 - PROBABILITIES))
    found = K.binary_crossentropy(bits, PROBABILITIES)
    np.testing.assert_allclose(found, binary, rtol=1e-5)
    logits = np.log(PROBABILITIES) - np.log(1 - PROBABILITIES)
    np.testing.assert_allclose(K.binary_crossentropy(bits, logits, True), binary, rtol=1e-4)
    ids = Y.argmax(-1)
    rows = -np.log(PROBABILITIES[range(3), ids])
    one_hot = np.eye(4)[ids]
    np.testing.assert_allclose(K.categorical_crossentropy(one_hot, PROBABILITIES), rows, rtol=1e-5)
    for found in (
        K.categorical_crossentropy(one_hot, X, from_logits=True),
        K.categorical_crossentropy(one_hot.T, X.T, from_logits=True, axis=0),
        K.sparse_categorical_crossentropy(ids, PROBABILITIES),
        K.sparse_categorical_crossentropy(ids, X.T, from_logits=True, axis=0),
    ):
        np.testing.assert_allclose(found, rows, rtol=1e-5)


def test_settings_take_the_one_value_that_there_is():
    assert K.image_data_format() == "channels_last"
    K.set_image_data_format("channels_last")
    K.set_floatx("float32")
    K.set_epsilon(1e-7)
    with pytest.raises(ValueError, match=r"'channels_first': .*permute_dimensions"):
        K.set_image_data_format("channels_first")
    with pytest.raises(ValueError, match="'channels_first'"):
        K.resize_images(IMAGE, 2, 2, "channels_first")
    with pytest.raises(ValueError, match="found 'cubic'"):
        K.resize_images(IMAGE, 2, 2, interpolation="cubic")
    with pytest.raises(ValueError, match="found 'float16'"):
        K.set_floatx("float16")
    with pytest.raises(ValueError, match="found 0.001"):
        K.set_epsilon(1e-3)


def test_variables_compute_and_change():
    variable = K.variable([[1, 2], [3, 4]], name="v")
    assert (K.dtype(variable), K.int_shape(variable), K.ndim(variable)) == ("float32", (2, 2), 2)
    np.testing.assert_array_equal(K.eval(K.sum(variable * 2, axis=0)), [8, 12])
    K.set_value(variable, np.zeros((2, 2)))
    np.testing.assert_array_equal(K.get_value(variable), np.zeros((2, 2)))
    other = K.variable(1)
    K.batch_set_value([(variable, np.ones((2, 2))), (other, 5)])
    ones, five = K.batch_get_value([variable, other])
    assert (ones.sum(), five, K.count_params(variable)) == (4, 5, 4)
    assert K.is_tensor(variable)
    assert not K.is_keras_tensor(variable)
    assert K.is_keras_tensor(Input((2,), name="asked"))
    with pytest.raises(TypeError, match=r"'asked' has no value: K.function"):
        K.eval(Input((2,), name="asked"))


def test_functions_compute_inner_layers_by_the_weights_of_the_moment():
    x = Input((4,))
    inner = Dense(2, name="inner")
    hidden = inner(x)
    model = Model(x, Dense(1)(hidden))
    both = K.function([model.input], [hidden, model.output])
    found = both([X])
    assert all(isinstance(array, np.ndarray) for array in found)
    np.testing.assert_allclose(found[0], X @ inner.get_weights()[0], rtol=1e-5)
    np.testing.assert_allclose(found[1], model.predict(X), rtol=1e-5)
    inner.set_weights([np.ones((4, 2)), np.zeros(2)])
    np.testing.assert_allclose(K.function(x, hidden)(X), X @ np.ones((4, 2)), rtol=1e-5)
    np.testing.assert_allclose(both([X])[0], X @ np.ones((4, 2)), rtol=1e-5)
    with pytest.raises(ValueError, match="of 1 inputs; found 2 arrays"):
        both([X, X])
    with pytest.raises(TypeError, match="takes Inputs and outputs of layers; found ndarray"):
        K.function([x], [X])
    with pytest.raises(ValueError, match="has no updates"):
        K.function([x], [hidden], updates=[1])


def test_a_tensor_is_printed_where_it_is_computed(capfd):
    np.testing.assert_array_equal(jax.jit(lambda x: K.print_tensor(x, "x: "))(2.0), 2)
    jax.effects_barrier()
    assert "x: 2.0" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("placeholder", "by `Input.shape.`"),
        ("learning_phase", "no learning phase: .*row_keys"),
        ("get_session", "no session"),
        ("gradients", "jax.grad"),
        ("rnn", "jax.lax"),
        ("pool2d", "there is a layer"),
        ("random_normal", "jax.random"),
    ],
)
def test_what_keras_has_and_k_has_not_is_told(name, hint):
    with pytest.raises(AttributeError, match=f"K.{name}, which keras.backend has.*{hint}.*docs"):
        getattr(K, name)
    assert not hasattr(K, name)


def test_what_nobody_has_is_told_too():
    with pytest.raises(AttributeError, match=r"no 'smu', nor has Keras 2.3; docs/keras.md"):
        _ = K.smu


def test_the_gradient_of_a_negative_numbers_root_is_zero():
    gradient = jax.grad(lambda x: K.sum(K.sqrt(x)))(jnp.array([-1.0, 4.0]))
    np.testing.assert_array_equal(gradient, [0.0, 0.25])


def test_every_function_of_arrays_says_that_layers_take_symbolic_tensors():
    """All of K but what asks for settings, values and shapes."""
    asks = {
        "backend", "epsilon", "floatx", "image_data_format", "set_epsilon", "set_floatx",
        "set_image_data_format", "clear_session", "function", "eval", "get_value", "set_value",
        "shape", "int_shape", "ndim", "dtype", "count_params", "is_tensor", "is_keras_tensor",
        "eye", "zeros", "ones",
    }  # fmt: skip
    x = Input((4,), name="pixels")
    for name in set(K.__all__) - asks:
        function = getattr(K, name)
        needed = [
            p for p in inspect.signature(function).parameters.values() if p.default is p.empty
        ]
        with pytest.raises(
            TypeError, match=r"'pixels' is a symbolic tensor|symbolic tensor 'pixel"
        ):
            function(*[x] * len(needed))
            pytest.fail(f"K.{name} took it")
