"""Functions of the user's that do not work inside a model: which, where, and what to do."""

import numpy as np
import pytest

from yolo_jax import Input, Lambda, Model, losses
from yolo_jax.layers import Dense, Layer

X = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
Y = X[:, :1]


def forgetful(*_):
    """Forgets to return."""


def in_numpy(*arrays):
    return np.square(arrays[-1])


def as_text(*_):
    return "a"


def with_if(*arrays):
    return arrays[-1] if arrays[-1].mean() > 0 else -arrays[-1]


def in_float(*arrays):
    return float(arrays[-1].mean())


FUNCTIONS = [
    (forgetful, r"forgetful\(\) \(.*test_own_functions.py:\d+\), returned None; .*`return`"),
    (as_text, r"as_text\(\) .*, returned 'a'; it has to return an array"),
    (in_numpy, r"in_numpy\(\) .* asks for numbers; .*jax.numpy"),
    (with_if, r"with_if\(\) .* asks for numbers; .*jnp.where for `if`"),
    (in_float, r"in_float\(\) .* asks for numbers; .*leave out float"),
]


def fit(loss="mse", **given):
    x = Input((4,))
    model = Model(x, Dense(1, name="out")(x))
    model.compile("sgd", loss, **given)
    model.fit(X, Y, verbose=0)


@pytest.mark.parametrize(("function", "message"), FUNCTIONS)
def test_a_function_is_named(function, message):
    with pytest.raises(TypeError, match=f"the loss of output 'out', {message}"):
        fit(function)
    name = function.__name__
    with pytest.raises(TypeError, match=f"the metric '{name}', {message}"):
        fit(metrics=[function])
    with pytest.raises(TypeError, match=f"the function of Lambda 'mine', {message}"):
        Lambda(function, name="mine")(Input((4,)))


def test_joint_losses_and_own_metrics_and_layers_too():
    with pytest.raises(TypeError, match=r"the joint loss, forgetful\(\) .*, returned None"):
        fit(losses.Joint(forgetful))

    class Mine:
        name = "mine"

        def sums(self, y_true, y_pred, weight):
            return np.asarray(y_pred).sum()

        def result(self, sums):
            return float(sums)

    with pytest.raises(TypeError, match=r"the metric 'mine', sums\(\) .* asks for numbers"):
        fit(metrics=[Mine()])

    class Silent(Layer):
        def call(self, inputs):
            forgetful(inputs)

    with pytest.raises(TypeError, match="layer 'quiet' returned None: its call has to return"):
        Silent(name="quiet")(Input((4,)))


def test_other_errors_keep_their_words_and_are_told_whose_they_are():
    with pytest.raises(TypeError, match="takes 1 positional argument but 2") as error:
        fit(lambda y_pred: y_pred)
    assert any("in the loss of output 'out', <lambda>()" in note for note in error.value.__notes__)
