"""What Keras users write by habit: it works here, or an error says what to write."""

from pathlib import Path

import numpy as np
import optax
import pytest

from yolo_jax import Input, K, Lambda, Model
from yolo_jax.layers import Activation, BatchNormalization, Dense, Layer, LayerNormalization
from yolo_jax.metrics import Metric

X = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
Y = X[:, :1]


def dense() -> Model:
    inputs = Input((3,))
    return Model(inputs, Dense(1)(inputs))


class Noisy(Layer):
    """Ten times the inputs in training."""

    def call(self, inputs, training=None):
        assert training in (True, False)
        return inputs * (10.0 if training else 1.0)


def test_a_layer_that_names_training_is_told():
    inputs = Input((3,))
    model = Model(inputs, Noisy()(inputs))
    model.compile(optax.sgd(0.0), "mse")
    zeros = np.zeros_like(X)
    history = model.fit(X, zeros, batch_size=10, verbose=0)
    assert history.history["loss"] == pytest.approx([100 * np.mean(X**2)], rel=1e-5)
    assert model.evaluate(X, zeros) == pytest.approx(np.mean(X**2), rel=1e-5)
    np.testing.assert_allclose(model.predict(X), X)


@pytest.mark.parametrize("frozen", ["no weights", "all frozen"])
def test_a_model_with_nothing_to_train_is_evaluated(frozen: str):
    inputs = Input((3,))
    if frozen == "no weights":
        model = Model(inputs, Activation("relu")(inputs))
    else:
        model = Model(inputs, BatchNormalization()(Dense(3)(inputs)))
        model.trainable = False
    model.compile("sgd", "mse")
    before = model.get_weights()
    found = model.predict(X)
    assert model.evaluate(X, X) == pytest.approx(np.mean((found - X) ** 2), rel=1e-5)
    model.fit(X, X, verbose=0)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_arithmetic_on_symbolic_tensors_says_to_use_a_lambda():
    x = Input((3,), name="pixels")
    for wrong in (
        lambda: x + 1,
        lambda: 2 * x,
        lambda: x[:, 0],
        lambda: -x,
        lambda: K.mean(x),
        lambda: K.concatenate([x, x]),
        lambda: np.asarray(x),
    ):
        with pytest.raises(TypeError, match=r"'pixels' is a symbolic tensor.*such as Lambda"):
            wrong()
    mean = Lambda(lambda x: K.mean(x, axis=1))(x)
    np.testing.assert_allclose(Model(x, mean).predict(X), X.mean(1), rtol=1e-6)


class KerasMetric(Metric):
    """As Keras has them."""

    def update_state(self, y_true, y_pred):
        raise AssertionError("it is not called")

    def result(self):
        return 0.0


class KerasLayer(Layer):
    def build(self, input_shape):
        self.add_weight(name="w", shape=(3, 2), initializer="ones")

    def call(self, inputs):
        return inputs @ self.w


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda _: dense().compile("sgd", "mse", ema_decay=1.5), ValueError, "below 1.*found 1.5"),
        (lambda _: dense().compile("sgd", "mse", frozen="*/no/*"), ValueError, "'\\*/no/\\*' matc"),
        (lambda _: LayerNormalization(axis=(1, 2)), ValueError, r"one axis.*found \(1, 2\)"),
        (lambda _: KerasLayer()(Input((3,))), TypeError, "a function .*found 'ones'"),
    ],
)
def test_what_is_not_taken_is_named(wrong, error, message, tmp_path: Path):
    with pytest.raises(error, match=message):
        wrong(tmp_path)


def test_a_metric_of_kerass_kind_is_refused():
    message = "a name, `sums` and `result`; the name of this KerasMetric is None"
    with pytest.raises(TypeError, match=message):
        dense().compile("sgd", "mse", metrics=[KerasMetric()])


def test_a_file_is_no_folder_to_resume_from(tmp_path: Path):
    model = dense()
    model.compile("sgd", "mse")
    model.save_weights(tmp_path / "w.h5")
    with pytest.raises(ValueError, match=r"w\.h5 is a file; expected a Checkpoint callback's"):
        model.fit(X, Y, resume=tmp_path / "w.h5", verbose=0)
