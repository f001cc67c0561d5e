"""`compile(target_tensors=…)`: checked there, and never beside y."""

import jax
import numpy as np
import pytest

from yolo_jax import Input, Model
from yolo_jax.layers import Dense

X = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
Y = X[:, :1]


def compiled(target_tensors, *, outputs=1, loss="mse") -> Model:
    x = Input((3,), name="x")
    made = [Dense(1, name=name)(x) for name in "ab"[:outputs]]
    model = Model(x, made)
    model.compile("sgd", loss, target_tensors=target_tensors, devices=jax.devices()[:1])
    return model


@pytest.mark.parametrize("call", ["fit", "evaluate", "train_on_batch", "test_on_batch"])
def test_y_beside_them_is_refused(call: str):
    model = compiled(Y)
    with pytest.raises(ValueError, match="y is given beside compile's target_tensors"):
        getattr(model, call)(X, Y)
    assert int(model.state.step) == 0
    assert np.isfinite(getattr(model, call)(X) if call != "fit" else 0.0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"nope": Y}, r"names \['nope'\]; the outputs with a loss are \['a', 'b'\]"),
        ({"a": Y}, r"names \['a'\]; the outputs with a loss are \['a', 'b'\]"),
        ([Y], r"each output with a loss, \['a', 'b'\]; found 1"),
        ([Y, Y, Y], "found 3"),
        (Y, "found 1"),
    ],
)
def test_names_and_number_are_checked_at_compile(given, message: str):
    with pytest.raises(ValueError, match=message):
        compiled(given, outputs=2)


def test_an_output_without_a_loss_needs_none():
    for given in ([Y, None], [Y], Y, {"a": Y}):
        with pytest.warns(UserWarning, match="missing from loss dictionary"):
            model = compiled(given, outputs=2, loss={"a": "mse"})
        model.fit(X, verbose=0)
