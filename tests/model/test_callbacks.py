"""Callbacks: order of hooks, lists, learning rates, and no value fetched unasked."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from driven_callbacks import Tiny, drive

from yolo_jax import callbacks as door
from yolo_jax.model.callbacks import (
    HOOKS,
    Callback,
    CallbackList,
    CSVLogger,
    EarlyStopping,
    LambdaCallback,
    LearningRateScheduler,
    ModelCheckpoint,
    ProgbarLogger,
    ReduceLROnPlateau,
    TensorBoard,
    TerminateOnNaN,
)


def test_learning_rate_scheduler(capsys):
    rates = [rate for _, rate in drive(LearningRateScheduler(lambda epoch: 0.5**epoch), [1, 1, 1])]
    assert rates == [1.0, 0.5, 0.25]
    halve = LearningRateScheduler(lambda epoch, lr: lr / 2, verbose=1)
    found = list(drive(halve, [1, 1]))
    assert [logs["lr"] for logs, _ in found] == [np.float32(0.05), np.float32(0.025)]
    assert "Epoch 00001: LearningRateScheduler setting learning rate to 0.05" in (
        capsys.readouterr().out
    )
    with pytest.raises(ValueError, match="should be float; found 1 .int. at epoch 0"):
        list(drive(LearningRateScheduler(lambda epoch: 1), [1]))
    with pytest.raises(TypeError, match="can only concatenate"):
        list(drive(LearningRateScheduler(lambda epoch, lr: "a" + lr), [1]))
    with pytest.raises(TypeError, match="must be a function; found float"):
        LearningRateScheduler(0.1)


def test_terminate_on_nan(capsys):
    model, callback = Tiny(), TerminateOnNaN()
    callback.set_model(model)
    callback.on_train_batch_end(0, {"loss": 1.0})
    assert not model.stop_training
    callback.on_train_batch_end(1, {"loss": math.inf})
    assert model.stop_training
    assert capsys.readouterr().out == "Batch 1: Invalid loss, terminating training\n"


class Recorder(Callback):
    """Notes every hook, then does what the default does."""

    def __init__(self) -> None:
        self.seen = []


def _record(hook):
    def method(self, *arguments, **named):
        logs = named.get("logs", arguments[-1])
        index = arguments[0] if len(arguments) + len(named) == 2 else None
        self.seen.append([hook, index, None if logs is None else sorted(logs)])
        getattr(Callback, hook)(self, *arguments, **named)

    return method


for _hook in HOOKS:
    setattr(Recorder, _hook, _record(_hook))


def test_hooks_and_logs_come_as_in_the_golden_trace(golden: Path):
    """Calls the list's hooks as the trace has them, and finds each alias in its place."""
    engine = json.loads((golden / "keras" / "09_callback_trace.json").read_text())["engines"]
    for name, scenario in engine["tf_keras-2.21"].items():
        recorder = Recorder()
        each = CallbackList([recorder])
        for hook, index, keys in scenario["trace"]:
            if hook.startswith("set_") or hook.startswith("on_batch"):
                continue
            arguments = [] if index is None else [index]
            logs = dict.fromkeys(keys, 1.0)
            getattr(each, hook)(*arguments, *([logs] if logs else []))
        assert recorder.seen == [row for row in scenario["trace"] if row[0] in HOOKS], name


def test_all_callbacks_are_called_in_their_order_and_others_refused():
    order = []
    each = CallbackList(
        [LambdaCallback(on_epoch_end=lambda epoch, logs, i=i: order.append(i)) for i in range(3)]
    )
    each.on_epoch_end(0)
    assert order == [0, 1, 2]
    with pytest.raises(TypeError, match="the class EarlyStopping: make one by"):
        CallbackList([EarlyStopping])
    with pytest.raises(TypeError, match="found function: derive it from"):
        CallbackList([lambda: None])
    with pytest.raises(TypeError, match="callbacks must be a list; found one EarlyStopping"):
        CallbackList(EarlyStopping())


def test_lambda_callback_takes_every_hook():
    seen = []
    callback = LambdaCallback(
        on_epoch_begin=lambda epoch, logs: seen.append(("epoch", epoch)),
        on_batch_end=lambda batch, logs: seen.append(("batch", batch, logs)),
        on_test_begin=lambda logs: seen.append("test"),
    )
    each = CallbackList([callback])
    each.on_epoch_begin(3)
    each.on_train_batch_begin(0)
    each.on_train_batch_end(0, {"loss": 1.0})
    each.on_test_begin()
    assert seen == [("epoch", 3), ("batch", 0, {"loss": 1.0}), "test"]
    with pytest.raises(TypeError, match="found on_epoch_start"):
        LambdaCallback(on_epoch_start=print)
    with pytest.raises(TypeError, match="on_train_end must be a function; found int"):
        LambdaCallback(on_train_end=3)


class Unread(Mapping):
    """Logs of which only the size is known without asking the device."""

    def __init__(self, **known):
        self._known = known

    def __getitem__(self, key):
        assert key in ("batch", "size"), f"{key} was fetched from the device"
        return self._known[key]

    def __iter__(self):
        return iter([*self._known, "loss"])

    def __len__(self):
        return len(self._known) + 1


def test_no_callback_fetches_a_batch_s_values_unasked(tmp_path: Path, capsys):
    each = CallbackList(
        [
            ProgbarLogger(),
            CSVLogger(tmp_path / "log.csv"),
            TensorBoard(tmp_path / "board"),
            EarlyStopping(),
            ReduceLROnPlateau(),
            LearningRateScheduler(lambda epoch: 0.1),
            ModelCheckpoint(tmp_path / "model"),
            LambdaCallback(),
        ]
    )
    each.set_model(Tiny())
    each.set_params({"epochs": 1, "steps": 2, "verbose": 1})
    each.on_train_begin()
    each.on_epoch_begin(0)
    for batch in range(2):
        each.on_train_batch_begin(batch)
        each.on_train_batch_end(batch, Unread(batch=batch, size=4))
    each.on_epoch_end(0, {"loss": 1.0, "val_loss": 1.0})
    each.on_train_end()
    assert "loss: 1.0000" in capsys.readouterr().out


def test_the_public_door_has_them_all():
    assert {"History", "EarlyStopping", "ModelCheckpoint", "Callback"} <= set(door.__all__)
    assert all(hasattr(door, name) for name in door.__all__)
