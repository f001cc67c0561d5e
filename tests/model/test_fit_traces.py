"""What fit, evaluate and predict tell their callbacks, against tf_keras; and what they fetch."""

import json
import math
from itertools import islice
from pathlib import Path

import jax
import numpy as np
import pytest

from yolo_jax import Input, Model
from yolo_jax.callbacks import (
    Callback,
    CSVLogger,
    EarlyStopping,
    ExponentialMovingAverage,
    LambdaCallback,
    LearningRateScheduler,
    Profile,
    ReduceLROnPlateau,
    TensorBoard,
)
from yolo_jax.layers import Dense
from yolo_jax.model.callbacks import HOOKS

TRACE = json.loads(
    (Path(__file__).parents[1] / "golden" / "keras" / "09_callback_trace.json").read_text()
)
TF_KERAS = TRACE["engines"]["tf_keras-2.21"]
ROWS, BATCH, EPOCHS, HELD_OUT = (
    TRACE["config"][key] for key in ("N", "batch_size", "epochs", "validation_rows")
)
X = np.random.default_rng(0).normal(size=(ROWS, 3)).astype(np.float32)
Y, VALIDATION = X[:, :1], (X[:HELD_OUT], X[:HELD_OUT, :1])
CLASSES = np.eye(3, dtype=np.float32)[np.arange(ROWS) % 3]


class Recorder(Callback):
    """Notes every call as the golden file has it, then does what the default does."""

    def __init__(self, stop_in=(None, None)):
        self.stop_in, self.seen, self.logs = stop_in, [], []

    def set_model(self, model):
        self.seen.append(["set_model", None, None])
        super().set_model(model)

    def set_params(self, params):
        self.seen.append(["set_params", None, sorted(params)])
        super().set_params(params)


def _record(hook):
    def method(self, *arguments, **named):
        logs = named.get("logs", arguments[-1])
        index = arguments[0] if len(arguments) + len(named) == 2 else None
        self.seen.append([hook, index, None if logs is None else sorted(logs)])
        self.logs.append((hook, index, dict(logs)))
        if (hook, index) == self.stop_in:
            self.model.stop_training = True
        getattr(Callback, hook)(self, *arguments, **named)

    return method


for _hook in HOOKS:
    setattr(Recorder, _hook, _record(_hook))


def make_model():
    x = Input((3,), name="x")
    model = Model(x, Dense(1, name="out")(x))
    model.compile("sgd", "mse", metrics=["mae"], devices=jax.devices()[:1])
    return model


def make_two():
    x = Input((3,), name="x")
    model = Model(x, [Dense(1, name="out")(x), Dense(3, activation="softmax", name="cls")(x)])
    model.compile(
        "sgd",
        {"out": "mse", "cls": "categorical_crossentropy"},
        metrics={"out": ["mae"], "cls": ["accuracy"]},
        devices=jax.devices()[:1],
    )
    return model


def batches(count=None):
    """Yields batches of 4 rows: so many, or for ever."""
    number = 0
    while count is None or number < count:
        yield X[:BATCH], Y[:BATCH]
        number += 1


def fit(recorder, x=X, y=Y, **given):
    given = {"batch_size": BATCH, "epochs": EPOCHS} | given
    if y is None:
        del given["batch_size"]
    return make_model().fit(x, y, verbose=0, callbacks=[recorder], **given)


def run(name, recorder):
    """Does what the golden file says of a scenario; returns the History, where there is one."""
    held_out = {"validation_data": VALIDATION}
    match name:
        case "arrays_with_validation":
            return fit(recorder, **held_out)
        case "arrays_no_validation":
            return fit(recorder)
        case "split_0.4_freq_2_initial_epoch_1":
            return fit(
                recorder, epochs=EPOCHS + 1, initial_epoch=1, validation_split=0.4,
                validation_freq=2,
            )  # fmt: skip
        case "two_outputs_with_validation":
            targets = {"out": Y, "cls": CLASSES}
            part = (X[:HELD_OUT], {key: array[:HELD_OUT] for key, array in targets.items()})
            return make_two().fit(
                X, targets, batch_size=BATCH, verbose=0, callbacks=[recorder], validation_data=part
            )
        case "generator_with_generator_validation":
            return fit(
                recorder, batches(), None, steps_per_epoch=3, validation_data=batches(),
                validation_steps=2,
            )  # fmt: skip
        case "evaluate":
            make_model().evaluate(X, Y, batch_size=BATCH, verbose=0, callbacks=[recorder])
        case "predict":
            make_model().predict(X, batch_size=BATCH, verbose=0, callbacks=[recorder])
        case _:
            hook, _, index = name.removeprefix("stop_in_").rpartition("_")
            recorder.stop_in = (hook, int(index))
            return fit(recorder, epochs=3, **held_out)
    return None


@pytest.mark.parametrize("name", TF_KERAS)
def test_hooks_and_logs_are_tf_keras_s(name):
    expected, recorder = TF_KERAS[name], Recorder()
    history = run(name, recorder)
    assert recorder.seen == expected["trace"]
    assert recorder.params == expected["params"]
    if history is not None:
        assert history.epoch == expected["history_epoch"]
        lengths = {key: len(values) for key, values in history.history.items()}
        assert lengths == expected["history_lengths"]


def test_values_run_through_an_epoch_and_end_in_history():
    """A batch's logs are means over the epoch so far, and the last ones are the epoch's."""
    recorder = Recorder()
    history = fit(recorder, shuffle=False, validation_data=VALIDATION).history
    ends = [logs for hook, _, logs in recorder.logs if hook == "on_train_batch_end"]
    epochs = [logs for hook, _, logs in recorder.logs if hook == "on_epoch_end"]
    for key in ("loss", "mae"):
        assert [ends[2][key], ends[5][key]] == history[key] == [logs[key] for logs in epochs]
    tested = [logs for hook, _, logs in recorder.logs if hook == "on_test_end"]
    assert [logs["loss"] for logs in tested] == history["val_loss"]
    assert recorder.logs[-1] == ("on_train_end", None, epochs[-1])


def epoch_rows(epoch, steps, begun, tested=()):
    """Returns the rows of an epoch: `steps` batches of `begun`, and an evaluation."""
    keys = ["loss", "mae"]
    rows = [["on_epoch_begin", epoch, []]]
    for step in range(begun):
        rows += [["on_train_batch_begin", step, []], ["on_batch_begin", step, []]]
        if step < steps:
            rows += [["on_train_batch_end", step, keys], ["on_batch_end", step, keys]]
    values = [f"val_{key}" for key in keys] if tested else []
    return [*rows, *tested, ["on_epoch_end", epoch, keys + values]]


def test_a_generator_that_ends_amid_an_epoch_ends_the_fit_as_in_tf_keras():
    """As recorded of tf_keras 2.21: the batch that got no data has begun."""
    recorder = Recorder()
    with pytest.warns(UserWarning, match=r"ran out of data; interrupting .* \(in this case, 9"):
        history = fit(recorder, batches(4), None, steps_per_epoch=3, epochs=3)
    assert recorder.seen[2:] == [
        ["on_train_begin", None, []],
        *epoch_rows(0, 3, 3),
        *epoch_rows(1, 1, 2),
        ["on_train_end", None, ["loss", "mae"]],
    ]
    assert history.epoch == [0, 1]
    last_batch = [logs for hook, _, logs in recorder.logs if hook == "on_train_batch_end"][-1]
    assert history.history["loss"][-1] == last_batch["loss"]


def test_a_generator_that_ends_with_an_epoch_is_noticed_in_the_next():
    """Hooks and keys as recorded of tf_keras 2.21, which logs a loss of 0, the best there is."""
    recorder, best = Recorder(), EarlyStopping("loss")
    with pytest.warns(UserWarning, match="ran out of data"):
        history = make_model().fit(
            batches(6), steps_per_epoch=3, epochs=3, validation_data=VALIDATION, verbose=0,
            callbacks=[recorder, best],
        )  # fmt: skip
    tested = [
        ["on_test_begin", None, []],
        ["on_test_batch_begin", 0, []],
        ["on_test_batch_end", 0, ["loss", "mae"]],
        ["on_test_end", None, ["loss", "mae"]],
    ]
    assert recorder.seen[2:] == [
        ["on_train_begin", None, []],
        *epoch_rows(0, 3, 3, tested),
        *epoch_rows(1, 3, 3, tested),
        *epoch_rows(2, 0, 1, tested),
        ["on_train_end", None, ["loss", "mae", "val_loss", "val_mae"]],
    ]
    assert history.epoch == [0, 1, 2]
    assert [math.isnan(loss) for loss in history.history["loss"]] == [False, False, True]
    assert best.best == min(history.history["loss"][:2])
    assert history.history["val_loss"][2] == history.history["val_loss"][1]


def test_an_evaluation_that_lacks_data_has_begun_its_batch_as_in_tf_keras():
    recorder = Recorder()
    with pytest.warns(UserWarning, match="ran out of data after 1 of 2 batches"):
        make_model().evaluate(batches(1), steps=2, verbose=0, callbacks=[recorder])
    assert recorder.seen[2:] == [
        ["on_test_begin", None, []],
        ["on_test_batch_begin", 0, []],
        ["on_test_batch_end", 0, ["loss", "mae"]],
        ["on_test_batch_begin", 1, []],
        ["on_test_end", None, ["loss", "mae"]],
    ]


@pytest.fixture
def fetches(monkeypatch):
    """Lists the shapes of the arrays that are copied from a device to the host.

    On the CPU `jax.transfer_guard` lets everything pass: such an array is in the host's memory
    already. So every way to its values is watched: `float`, `np.asarray`, `jax.device_get`.
    """
    found = []
    kind = type(jax.numpy.zeros(1))
    fetch, asarray = kind._value.fget, np.asarray

    def watched(array):
        found.append(array.shape)
        return fetch(array)

    def watched_asarray(value, *arguments, **named):
        # NumPy reads an array of the CPU through its buffer, which asks nobody.
        if isinstance(value, kind):
            found.append(value.shape)
        return asarray(value, *arguments, **named)

    monkeypatch.setattr(kind, "_value", property(watched))
    monkeypatch.setattr(np, "asarray", watched_asarray)
    return found


@pytest.mark.parametrize(
    "read", [float, lambda a: np.asarray(a), jax.device_get, lambda a: a.item()]
)
def test_every_way_to_a_value_is_watched(fetches, read):
    read(jax.numpy.ones(()))
    assert fetches
    assert set(fetches) == {()}


def fetched(found, tmp_path, steps, *more):
    """Returns how many arrays a fit of 2 epochs copies to the host."""
    model = make_model()
    callbacks = [
        CSVLogger(tmp_path / "log.csv"),
        EarlyStopping("loss", patience=9),
        ExponentialMovingAverage(0.9),
        LambdaCallback(on_batch_end=lambda batch, logs: logs["size"]),
        LearningRateScheduler(lambda epoch: 0.01),
        Profile(tmp_path / "trace", first_step=10**6),
        ReduceLROnPlateau("loss"),
        TensorBoard(tmp_path / "board"),
        *more,
    ]
    arguments = {"steps_per_epoch": steps, "epochs": 2, "verbose": 2, "workers": 0}
    data = islice(batches(), 2 * steps)
    before = len(found)
    model.fit((batch for batch in data), callbacks=callbacks, **arguments)
    return len(found) - before


def test_a_step_fetches_nothing(fetches, tmp_path):
    """What comes to the host does not grow with the steps, unless a callback reads their logs."""
    few, many = (fetched(fetches, tmp_path, steps) for steps in (5, 40))
    assert few == many
    reader = LambdaCallback(on_batch_end=lambda batch, logs: logs["loss"])
    assert fetched(fetches, tmp_path, 40, reader) >= many + 2 * 40


def test_nothing_is_fetched_between_the_begin_of_an_epoch_and_its_end(fetches):
    counts = []
    note = LambdaCallback(
        on_epoch_begin=lambda epoch, logs: counts.append([]),
        on_train_batch_begin=lambda batch, logs: counts[-1].append(len(fetches)),
        on_train_batch_end=lambda batch, logs: counts[-1].append(len(fetches)),
    )
    fit(note, batches(), None, steps_per_epoch=6, epochs=3, workers=0)
    assert [len(epoch) for epoch in counts] == [12] * 3
    # The first step of all is compiled within, for which constants may be read.
    assert [len(set(epoch)) for epoch in counts[1:]] == [1, 1]
