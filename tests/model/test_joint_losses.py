"""`losses.Joint`: what its function may return, and what is refused by its name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from yolo_jax import Input, Model, losses
from yolo_jax.layers import Dense

X = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
Y = X[:, :1]


def by_row(targets, outputs):
    return jnp.square(outputs[0] - targets)[:, 0] + jnp.abs(outputs[1] - targets)[:, 0]


def as_number(targets, outputs):
    return by_row(targets, outputs).mean()


def with_terms(targets, outputs):
    return losses.RowLosses(by_row(targets, outputs), {"l1": jnp.abs(outputs[1] - targets)[:, 0]})


def compiled(function, names=(), devices=1) -> Model:
    x = Input((3,), name="x")
    model = Model(x, [Dense(1, kernel_initializer="ones")(x) for _ in range(2)])
    joint = losses.Joint(function, names)
    model.compile("sgd", joint, devices=jax.devices()[:devices])
    return model


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize(
    ("function", "names"), [(by_row, ()), (as_number, ()), (with_terms, ("l1",))]
)
def test_rows_a_number_or_row_losses(function, names, devices):
    """10 rows do not divide among 8 devices: a number is then computed of all of them."""
    model = compiled(function, names, devices)
    outputs = model.predict(X)
    rows = np.square(outputs[0] - Y) + np.abs(outputs[1] - Y)
    found = model.evaluate(X, Y, batch_size=10, return_dict=True)
    assert found["loss"] == pytest.approx(rows.mean(), rel=1e-5)
    assert list(found) == ["loss", *names]
    loss = model.fit(X, Y, batch_size=10, verbose=0).history["loss"]
    assert loss == pytest.approx([rows.mean()], rel=1e-5)


@pytest.mark.parametrize(
    ("function", "names", "error", "message"),
    [
        (lambda y, o: (by_row(y, o), {}), (), TypeError, "<lambda>.*returned a tuple; .*RowLosses"),
        (lambda y, o: {"total": by_row(y, o)}, (), TypeError, "returned a dict; it has to"),
        (lambda y, o: by_row(y, o)[:7], (), ValueError, r"total of shape \(7,\); .* the 10 rows"),
        (by_row, ("l1",), ValueError, r"by_row\(\).*returned the terms \[\]; .*names \['l1'\]"),
        (with_terms, (), ValueError, r"returned the terms \['l1'\]; .*names \[\]"),
    ],
)
def test_anything_else_is_named(function, names, error, message):
    with pytest.raises(error, match=message):
        compiled(function, names).fit(X, Y, verbose=0)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ((3,), TypeError, r"Joint takes a function \(targets, outputs\); found int 3"),
        ((by_row, "l1"), TypeError, "names are a tuple of texts; found 'l1'"),
        ((by_row, ("loss",)), ValueError, r"than 'loss'; found \['loss'\]"),
        ((by_row, ("a", "a")), ValueError, "each another than the rest"),
    ],
)
def test_arguments_are_checked_at_once(given, error, message):
    with pytest.raises(error, match=message):
        losses.Joint(*given)
