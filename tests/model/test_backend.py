"""`K`: Keras's functions against NumPy's, and the learning rate through it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from yolo_jax import Input, K, Lambda, Model
from yolo_jax.callbacks import Callback
from yolo_jax.layers import Dense
from yolo_jax.optimizers import SGD

X = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
Y = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)


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
    with pytest.raises(TypeError, match="model.optimizer.lr or a layer's variable"):
        K.set_value(jnp.zeros(2), 1)


def test_clear_session_numbers_layers_from_one():
    K.clear_session()
    assert [Dense(1).name for _ in range(2)] == ["dense_1", "dense_2"]
    K.clear_session()
    assert Dense(1).name == "dense_1"


def test_there_is_no_learning_phase():
    with pytest.raises(NotImplementedError, match="row_keys"):
        K.learning_phase()
