"""Errors that name the argument, what was found and what is expected; and what None stands for."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from yolo_jax import Input, Lambda, Model, callbacks, metrics
from yolo_jax.layers import Activation, Conv2D, Dense, Flatten

X = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
Y = (X[:, :1] > 0).astype(np.float32)


def row():
    return Input((3,), name="row")


def compiled(loss="mse", names=("out",), **given) -> Model:
    x = row()
    model = Model(x, [Dense(1, name=name)(x) for name in names])
    model.compile("sgd", loss, **{"devices": jax.devices()[:1], **given})
    return model


def fit(y=Y, loss="mse", metrics=None, **given):
    compiled(loss, metrics=metrics).fit(X, y, verbose=0, **given)


def first_three(y_true, y_pred):
    return jnp.square(y_pred - y_true)[:3, 0]


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (
            lambda: fit(class_weight={0: 1, 1: "x"}), ValueError,
            r"class_weight\[1\] of output 'out' is a finite number; found 'x'",
        ),
        (lambda: fit(X[:, :1], class_weight={}), ValueError, "class_weight is empty: .*'out'"),
        (lambda: compiled(devices=3), TypeError, "devices is a list of JAX's.*; found 3"),
        (lambda: compiled(devices=[]), TypeError, r"devices is a list of JAX's.*; found \[\]"),
        (lambda: fit(resume=3), TypeError, "resume is the folder of a Checkpoint .*; found 3"),
        (
            lambda: callbacks.EarlyStopping(baseline="s"), ValueError,
            "baseline is a finite number; found 's'",
        ),
        (
            lambda: callbacks.TensorBoard(histogram_freq="a"), ValueError,
            "TensorBoard's histogram_freq is a whole number, 0 or more; found 'a'",
        ),
        (
            lambda: callbacks.TensorBoard(update_freq=0), ValueError,
            "update_freq is 'epoch', 'batch' or a number of samples, 1 or more; found 0",
        ),
        (
            lambda: compiled().summary(line_length="a"), ValueError,
            "summary's line_length is a whole number, 1 or more; found 'a'",
        ),
        (lambda: Lambda(abs, arguments=3), TypeError, "arguments is a dict of keywords .*found 3"),
        (lambda: Lambda(abs, mask=3), TypeError, "mask is a function .*, or an array .*found 3"),
        (lambda: Lambda(abs, output_shape=(-1,)), ValueError, r"output_shape .*; found \(-1,\)"),
        (lambda: Lambda(abs, output_shape=("a",)), TypeError, r"output_shape .*found \('a',\)"),
        (lambda: Dense(1, name="d")([row(), row()]), ValueError, "'d' expects 1 input, .*ed 2"),
        (lambda: Activation("relu")([row(), row()]), ValueError, "expects 1 input"),
        (lambda: Flatten()([row(), row()]), ValueError, "expects 1 input"),
        (lambda: Conv2D(1, 1)([Input((2, 2, 1)), Input((2, 2, 1))]), ValueError, "expects 1 inp"),
        (
            lambda: fit(loss=first_three), ValueError,
            r"the loss of output 'out', first_three\(\) .*shape \(3,\); .*the 7 rows",
        ),
        (
            lambda: fit(metrics=[metrics.AUC(name="area")]), ValueError,
            "the metric 'area': .* do not lie between 0 and 1",
        ),
        (lambda: copy.deepcopy(compiled()), TypeError, "cannot be copied .*set_weights"),
        (lambda: pickle.dumps(compiled()), TypeError, "cannot be copied or pickled"),
    ],
)  # fmt: skip
def test_it_is_named(wrong, error, message):
    with pytest.raises(error, match=message):
        wrong()


def test_a_lambda_that_fails_on_shapes_is_named_beside_jaxs_words():
    with pytest.raises(TypeError, match="contracting dimensions") as error:
        Lambda(lambda x: x @ x, name="square")(row())
    assert any("the function of Lambda 'square'" in note for note in error.value.__notes__)


def test_long_lists_of_labels_are_cut():
    labels = np.arange(1000.0)[:, None]
    with pytest.raises(ValueError, match="must contain all classes.* …") as error:
        compiled().fit(np.zeros((1000, 3)), labels, class_weight={0: 1.0}, verbose=0)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("given", [[{0: 2.0, 1: 3.0}, None], {"a": {0: 2.0, 1: 3.0}, "b": None}])
def test_none_among_class_weights_is_no_weights(given):
    model, plain = compiled(names="ab"), compiled(names="ab")
    plain.set_weights(model.get_weights())
    arguments = {"batch_size": 7, "shuffle": False, "verbose": 0}
    found = model.fit(X, [Y, Y], class_weight=given, **arguments).history
    weight = np.where(Y[:, 0] > 0, 3.0, 2.0)
    expected = plain.fit(X, [Y, Y], sample_weight={"a": weight}, **arguments).history
    for key, values in expected.items():
        assert found[key] == pytest.approx(values, rel=1e-6), key
    with pytest.raises(ValueError, match=r"or None for no weights; found \{'a': 3\}"):
        model.fit(X, [Y, Y], class_weight={"a": 3}, **arguments)
