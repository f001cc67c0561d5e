"""No two numbers of the logs have one name."""

import jax
import numpy as np
import pytest

from yolo_jax import Input, Model, metrics
from yolo_jax.layers import Dense

X = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
Y = X[:, :1]


def compiled(outputs: str, **given) -> Model:
    x = Input((3,), name="x")
    model = Model(x, [Dense(1, name=name)(x) for name in outputs])
    model.compile("sgd", "mse", devices=jax.devices()[:1], **given)
    return model


def mae(name: str) -> metrics.MeanAbsoluteError:
    return metrics.MeanAbsoluteError(name=name)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["loss"], ["loss_1"]),
        (["val_loss"], ["val_loss_1"]),
        (["mae", "mae_1", "mae"], ["mae", "mae_1", "mae_2"]),
        (["mae", "val_mae"], ["mae", "val_mae_1"]),
        (["val_mae", "mae"], ["val_mae", "mae_1"]),
        (["size", "epoch"], ["size_1", "epoch_1"]),
    ],
)
def test_a_metric_takes_no_name_that_is_taken(names, expected):
    model = compiled("a", metrics=[mae(name) for name in names])
    assert model.metrics_names == ["loss", *expected]
    history = model.fit(X, Y, validation_data=(X, Y), verbose=0).history
    assert set(history) == {f"{v}{n}" for v in ("", "val_") for n in ("loss", *expected)}


def test_nor_that_of_an_outputs_loss():
    model = compiled("ab", metrics={"a": [mae("loss")]}, weighted_metrics={"a": [mae("loss")]})
    assert model.metrics_names == ["loss", "a_loss", "b_loss", "a_loss_1", "a_loss_2"]
    found = model.evaluate(X, [Y, Y], return_dict=True)
    assert found["loss"] == pytest.approx(found["a_loss"] + found["b_loss"])
    assert found["a_loss_1"] == pytest.approx(np.abs(model.predict(X)[0] - Y).mean(), rel=1e-5)
