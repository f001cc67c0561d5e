"""What `compile`, `fit` and single batches refuse rather than pass over in silence."""

import warnings

import numpy as np
import pytest

from yolo_jax import Input, K, Lambda, Model, losses
from yolo_jax.callbacks import Checkpoint, LearningRateScheduler
from yolo_jax.layers import Activation, Dense
from yolo_jax.regularizers import l2

X = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
Y = X[:, :1]


VALID = {"validation_data": (X, Y)}
STREAM = {"x": iter([(X, Y)]), "y": None, "steps_per_epoch": 1}


class Rows:
    """A data source."""

    def __len__(self):
        return len(X)

    def __getitem__(self, index):
        return X[index], Y[index]


class Looped:
    """What can be looped over, and is no iterator."""

    def __iter__(self):
        yield X, Y


def dense(loss="mse", units=1, **given):
    x = Input((4,), name="x")
    model = Model(x, Dense(units, name="out")(x))
    model.compile("sgd", loss, **given)
    return model


@pytest.mark.parametrize(
    "loss",
    [
        lambda true, found: K.mean(true),
        lambda true, found: K.mean(K.stop_gradient(found) - true),
        lambda true, found: K.mean(K.cast(K.argmax(found), "float32")),
        lambda true, found: K.round(found),
        lambda true, found: K.cast(K.greater(found, true), "float32"),
    ],
    ids=["targets", "stopped", "argmax", "round", "comparison"],
)
def test_a_loss_that_depends_on_no_weight(loss):
    """It would train nothing: Keras 2.3 says that gradients are None."""
    model = dense(loss)
    for train in (lambda: model.fit(X, Y, verbose=0), lambda: model.train_on_batch(X, Y)):
        with pytest.raises(ValueError, match="the loss depends on no weight that is trained"):
            train()
    assert int(model.state.step) == 0
    assert np.isfinite(model.evaluate(X, Y))


def test_a_loss_that_depends_on_some_weight_trains():
    x = Input((4,))
    stopped = Lambda(lambda v: K.stop_gradient(v))(Dense(3)(x))
    model = Model(x, [Dense(1)(stopped), Activation("relu")(x)])
    model.compile("sgd", "mse")
    model.fit(X, [Y, X], verbose=0)
    # A penalty is a part of the loss, as in Keras.
    model = Model(x, Dense(1, kernel_regularizer=l2(0.1))(x))
    model.compile("sgd", lambda true, found: K.mean(true))
    model.fit(X, Y, verbose=0)


@pytest.mark.parametrize(
    "loss",
    [
        "categorical_crossentropy",
        "sparse_categorical_crossentropy",
        losses.categorical_crossentropy,
        losses.CategoricalCrossentropy(from_logits=True),
    ],
)
def test_classes_need_a_unit_each(loss):
    message = "of output 'out', which has one unit: .* For yes or no take binary_crossentropy"
    with pytest.raises(ValueError, match=message):
        dense(loss)
    dense(loss, units=2)
    dense("binary_crossentropy")


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"validation_steps": 2}, ValueError, "validation_steps=2 is given without validation_dat"),
        ({"validation_freq": 2}, ValueError, "validation_freq=2 is given without validation_data"),
        ({"validation_freq": [1]}, ValueError, r"validation_freq=\[1\] is given without"),
        ({"verbose": "auto"}, ValueError, "verbose is 0 .silent., 1 .* found 'auto'"),
        ({"workers": "2"}, ValueError, "workers is a whole number, 0 or more; found '2'"),
        ({"workers": -1}, ValueError, "workers is a whole number, 0 or more; found -1"),
        ({"steps_per_epoch": 1.5}, ValueError, "steps_per_epoch is a whole number, 1 or more"),
        ({"validation_split": "a"}, ValueError, "validation_split is a finite number; found 'a'"),
        ({"validation_split": True}, ValueError, "validation_split is a finite number; found True"),
        ({**VALID, "validation_freq": []}, ValueError, "validation_freq lists the epochs .*empty"),
        (
            {**VALID, "validation_freq": [0]},
            ValueError,
            "in validation_freq .*, 1 or more; found 0",
        ),
        ({**VALID, "validation_freq": ["2"]}, ValueError, "in validation_freq .* found '2'"),
        ({"shuffle": 2}, ValueError, "shuffle is True, False or 'batch'; found 2"),
        ({"shuffle": "batch", **STREAM}, ValueError, "shuffle='batch' .* with a list_iterator le"),
        (
            {"shuffle": "batch", "x": Rows(), "y": None},
            ValueError,
            "shuffle='batch' .* with a Rows",
        ),
        (
            {"batch_size": 0, "x": Rows(), "y": None},
            ValueError,
            "batch_size is .* 1 or more; found 0",
        ),
        ({"use_multiprocessing": 3}, TypeError, "use_multiprocessing is True or False; found 3"),
        ({"max_queue_size": 0}, ValueError, "max_queue_size is a whole number, 1 or more; found 0"),
        ({"strict": 3}, TypeError, "strict is True or False; found 3"),
        ({"strict": "no"}, TypeError, "strict is True or False; found 'no'"),
        ({"x": "abc"}, ValueError, "the data of input 'x' is a str; expected an array of numbers"),
        ({"x": Looped()}, ValueError, "input 'x' is a Looped; expected .*iter.it. makes one"),
        ({"x": Looped(), "y": None}, ValueError, "input 'x' is a Looped; expected an array"),
        ({"x": X.astype(complex)}, ValueError, "input 'x' is .* complex128 .take its .real"),
        ({"y": Y.astype(complex)}, ValueError, "output 'out' is no array of numbers: .*complex"),
        ({"x": X.tolist()}, ValueError, "found 12 arrays. .* rows in one are np.asarray.rows."),
        ({"x": (X, Y), "y": None}, ValueError, "found 2 arrays. .* their own, fit.x, y."),
        ({"x": [(X, Y)], "y": None}, ValueError, "input 'x', a tuple, make no array: .*Batches"),
        ({"x": [[[1.0, 2.0], [3.0]]]}, ValueError, "input 'x', a list, make no array: their part"),
    ],
)
def test_fit_refuses(given, error, message):
    model = dense()
    with pytest.raises(error, match=message):
        model.fit(**({"x": X, "y": Y, "verbose": 0} | given))
    assert int(model.state.step) == 0


def test_validation_is_asked_for_with_data_alone():
    given = {"x": X, "y": Y, "epochs": 2, "verbose": 0}
    history = dense().fit(**given, validation_split=0.25, validation_freq=2).history
    assert len(history["val_loss"]) == 1
    assert list(dense().fit(**given, validation_freq=1, validation_steps=None).history) == ["loss"]


@pytest.mark.parametrize("weights", [["a"], {"out": None}, [float("nan")], [True]])
def test_loss_weights_are_numbers(weights):
    with pytest.raises(ValueError, match="loss_weights of output 'out' is a finite number; found"):
        dense(loss_weights=weights)


def test_a_batch_has_a_row():
    model = dense()
    for call in (model.train_on_batch, model.test_on_batch):
        with pytest.raises(ValueError, match="a batch has a row at least; found arrays of 0"):
            call(X[:0], Y[:0])
    with pytest.raises(ValueError, match="a batch has a row at least; found arrays of 0"):
        model.predict_on_batch(X[:0])


@pytest.mark.parametrize("rate", [float("nan"), float("inf"), -1.0, "fast"])
def test_a_learning_rate_is_a_number(rate):
    model = dense()
    message = f"the learning rate is a finite number, 0 or more; found {rate!r}"
    with pytest.raises(ValueError, match=message):
        model.optimizer.lr = rate
    with pytest.raises(ValueError, match=message):
        K.set_value(model.optimizer.lr, rate)
    if isinstance(rate, float):
        with pytest.raises(ValueError, match=message):
            model.fit(X, Y, verbose=0, callbacks=[LearningRateScheduler(lambda epoch: rate)])
    assert model.optimizer.lr == pytest.approx(0.01)


def test_a_monitor_that_no_epoch_logs_is_told_of(tmp_path):
    """Other callbacks may add keys, so it is known only when the epochs are over."""
    model = dense()
    with pytest.warns(RuntimeWarning, match="monitor 'val_los' was in no epoch's logs.*: loss"):
        model.fit(X, Y, verbose=0, callbacks=[Checkpoint(tmp_path / "a", monitor="val_los")])
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        for name, monitor in (("b", "loss"), ("c", None), ("d", "val_loss")):
            saver = Checkpoint(tmp_path / name, monitor=monitor)
            model.fit(X, Y, verbose=0, callbacks=[saver])
