"""Callbacks: Keras's decisions and order of hooks, files, printed lines, resumption."""

import csv
import json
import math
import os
import re
from collections.abc import Mapping
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

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

DECISIONS = json.loads(
    (Path(__file__).parents[1] / "golden" / "keras" / "10_callback_decisions.json").read_text()
)["cases"]


class Optimizer:
    """Holds its rate in float32, as ours on the device."""

    def __init__(self) -> None:
        self.lr = 0.1

    @property
    def lr(self) -> float:
        return float(self._lr)

    @lr.setter
    def lr(self, value: float) -> None:
        self._lr = np.float32(value)


class Tiny:
    """One weight, an optimizer and files: what callbacks act on."""

    def __init__(self, epoch: int = 0) -> None:
        self.stop_training, self.optimizer = False, Optimizer()
        self.weights = [np.zeros(1, np.float32)]
        self.run = SimpleNamespace(epoch=epoch)

    def get_weights(self):
        return [array.copy() for array in self.weights]

    def set_weights(self, weights):
        self.weights = [array.copy() for array in weights]

    averaged_layers = staticmethod(nullcontext)

    def save_weights(self, path):
        Path(path).write_text("weights")


def drive(callback, values, key="val_loss", *, model=None, first=0, end=True):
    """Calls the hooks as fit does; yields (logs, rate during the epoch) after each epoch."""
    model = model or Tiny()
    each = CallbackList([callback])
    each.set_params({"epochs": len(values), "steps": 1, "verbose": 0})
    each.set_model(model)
    each.on_train_begin()
    for epoch, value in enumerate(values, first):
        model.weights = [np.full(1, epoch, np.float32)]
        each.on_epoch_begin(epoch)
        rate = model.optimizer.lr
        logs = {"loss": 1.0}
        if value is not None:
            logs[key] = float(value)
        each.on_epoch_end(epoch, logs)
        yield logs, rate
        if model.stop_training:
            break
    if end:
        each.on_train_end()


@pytest.mark.parametrize("case", DECISIONS, ids=lambda c: f"{c['callback']}-{c['name']}")
@pytest.mark.filterwarnings("ignore:.*which is not available")
def test_decisions_are_keras_s(case):
    kind = {"EarlyStopping": EarlyStopping, "ReduceLROnPlateau": ReduceLROnPlateau}
    callback, model = kind[case["callback"]](**case["kwargs"]), Tiny()
    rows = case["expected"]["rows"]
    epochs = 0
    for epoch, (logs, rate) in enumerate(
        drive(callback, case["values"], case["monitored_key"], model=model)
    ):
        row = rows[epoch]
        assert rate == pytest.approx(row["lr_used"], rel=1e-8)
        assert model.optimizer.lr == pytest.approx(row["lr_after"], rel=1e-8)
        assert callback.wait == row["wait"]
        assert (callback.best if math.isfinite(callback.best) else None) == row["best"]
        assert model.stop_training == row["stop"]
        assert sorted(logs.keys() - {"loss", case["monitored_key"]}) == row["extra_logs"]
        assert getattr(callback, "cooldown_counter", None) == row.get("cooldown")
        epochs += 1
    assert epochs == len(rows)
    assert model.weights[0].item() == case["expected"]["weight_after_train_end"]
    assert getattr(callback, "stopped_epoch", None) == case["expected"]["stopped_epoch"]


@pytest.mark.parametrize("stop", [1, 4, 8])
@pytest.mark.parametrize(
    "make",
    [
        lambda: EarlyStopping(patience=3, restore_best_weights=True),
        lambda: ReduceLROnPlateau(factor=0.5, patience=2, cooldown=1),
    ],
)
def test_a_resumed_run_decides_as_if_it_had_never_stopped(make, stop):
    values = DECISIONS[3]["values"]
    whole, whole_model = make(), Tiny()
    rates = [rate for _, rate in drive(whole, values, model=whole_model)]
    first, model = make(), Tiny()
    head = [rate for _, rate in drive(first, values[:stop], model=model, end=False)]
    second = make()
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    tail = [rate for _, rate in drive(second, values[stop:], model=model, first=stop)]
    assert head + tail == rates
    assert second.state_dict() == whole.state_dict()
    np.testing.assert_array_equal(model.weights, whole_model.weights)
    # The next fit starts afresh.
    second.on_train_begin()
    assert second.wait == 0
    assert second.best == math.inf


def test_a_missing_monitor_warns_and_an_unknown_mode_falls_back():
    for callback in (EarlyStopping(), ReduceLROnPlateau(), ModelCheckpoint("x", save_best_only=1)):
        with pytest.warns(RuntimeWarning, match="`val_loss` which is not available.*loss"):
            list(drive(callback, [None]))
    with pytest.warns(RuntimeWarning, match="fallback to auto"):
        assert EarlyStopping("val_acc", mode="best").mode == "max"
    with pytest.raises(ValueError, match="factor >= 1.0"):
        ReduceLROnPlateau(factor=1.0)
    with pytest.warns(UserWarning, match="use `min_delta`"):
        assert ReduceLROnPlateau(epsilon=0.5).min_delta == 0.5


def test_model_checkpoint_names_files_and_counts_periods(tmp_path: Path, capsys):
    pattern = tmp_path / "made" / "ep{epoch:03d}-loss{loss:.3f}-{val_loss:.2f}.h5"
    list(drive(ModelCheckpoint(pattern, save_weights_only=True, period=2), [3, 2, 1, 0.5, 9]))
    found = {path.name: path.read_text() for path in (tmp_path / "made").iterdir()}
    assert found == {"ep002-loss1.000-2.00.h5": "weights", "ep004-loss1.000-0.50.h5": "weights"}
    best = ModelCheckpoint(tmp_path / "best{epoch}.h5", save_best_only=True, verbose=1)
    list(drive(best, [2, 3, 1, 1, math.nan]))
    assert {path.name for path in tmp_path.glob("best*")} == {"best1.h5", "best3.h5"}
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    assert lines[0].startswith("Epoch 00001: val_loss improved from inf to 2.00000, saving model")
    assert lines[1] == "Epoch 00002: val_loss did not improve from 2.00000"
    with pytest.raises(KeyError, match="names 'mae'; the logs have epoch, loss, val_loss"):
        list(drive(ModelCheckpoint("{mae}.h5"), [1]))


def test_model_checkpoints_best_survives_resuming(tmp_path: Path):
    def make():
        return ModelCheckpoint(tmp_path / "{epoch}", save_best_only=True)

    first, second = make(), make()
    list(drive(first, [2, 1]))
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    list(drive(second, [1.5, 0.5], first=2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2", "4"]


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


def read(path: Path, **options):
    with path.open(newline="") as file:
        return list(csv.reader(file, **options))


def test_csv_logger_writes_sorted_keys_and_na(tmp_path: Path):
    path = tmp_path / "made" / "log.csv"
    logger, model = CSVLogger(path, separator=";"), Tiny()
    logger.set_model(model)
    logger.on_train_begin()
    logger.on_epoch_end(0, {"mae": 0.5, "loss": 1.0})
    logger.on_epoch_end(1, {"mae": 0.5, "loss": 0.1, "val_loss": 2.0})
    assert read(path, delimiter=";") == [
        ["epoch", "loss", "mae", "val_loss"],
        ["0", "1.0", "0.5", "NA"],
        ["1", "0.1", "0.5", "2.0"],
    ]


@pytest.mark.parametrize("append", [False, True])
def test_csv_logger_is_exact_under_resume(tmp_path: Path, append):
    def fit(path, epochs, first=0, state=None):
        logger = CSVLogger(path, append=append)
        if state is not None:
            logger.load_state_dict(state)
        logger.set_model(Tiny(first))
        logger.on_train_begin()
        states = []
        for epoch in range(first, epochs):
            logger.on_epoch_end(epoch, {"loss": 1 / (epoch + 3)})
            states.append(logger.state_dict())
        return states

    whole, broken = tmp_path / "whole.csv", tmp_path / "broken.csv"
    fit(whole, 4)
    # The checkpoint is that of epoch 1; epoch 2 was written, and the run killed.
    states = fit(broken, 3)
    fit(broken, 4, first=2, state=states[1])
    assert broken.read_bytes() == whole.read_bytes()


def test_csv_logger_appends_or_starts_anew(tmp_path: Path):
    path = tmp_path / "log.csv"
    for append in (False, True, True):
        list(drive(CSVLogger(path, append=append), [1, 2]))
    assert [row[0] for row in read(path)] == ["epoch", "0", "1", "0", "1", "0", "1"]
    list(drive(CSVLogger(path), [1]))
    assert [row[0] for row in read(path)] == ["epoch", "0"]


def test_tensorboard_writes_scalars_and_histograms(tmp_path: Path):
    model = Tiny()
    model.state = SimpleNamespace(params={"dense": {"kernel": np.arange(6.0)}})
    list(drive(TensorBoard(tmp_path / "epochs", histogram_freq=2), [3, 2], model=model))
    (events,) = (tmp_path / "epochs").iterdir()
    for tag in (b"val_loss", b"loss", b"dense/kernel"):
        assert tag in events.read_bytes()
    board = TensorBoard(tmp_path / "batches", update_freq=8)
    board.set_model(model)
    for batch in range(4):
        board.on_train_batch_end(batch, {"batch": batch, "size": 4, "loss": 0.5})
    board.on_epoch_end(0, {"loss": 0.5})
    board.on_train_end()
    (events,) = (tmp_path / "batches").iterdir()
    assert events.read_bytes().count(b"loss") == 3
    list(drive(TensorBoard(tmp_path / "none"), []))
    assert not (tmp_path / "none").exists()
    with pytest.raises(ValueError, match="write_images is not supported"):
        TensorBoard(write_images=True)
    with pytest.raises(ValueError, match="update_freq is 'epoch'"):
        TensorBoard(update_freq="step")


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


def fit_printing(verbose, epochs=2, pace=1.0):
    bar = ProgbarLogger()
    bar.pace = pace
    bar.set_params({"epochs": epochs, "steps": 10, "verbose": verbose})
    bar.on_train_begin()
    for epoch in range(epochs):
        bar.on_epoch_begin(epoch)
        for batch in range(10):
            bar.on_train_batch_end(batch, {"batch": batch, "size": 4, "loss": 9.0})
        bar.on_test_begin()
        bar.on_test_batch_end(0, {})
        bar.on_test_end()
        bar.on_epoch_end(epoch, {"loss": 1.21111, "val_loss": 0.00012})
    bar.on_train_end()


def test_on_a_pipe_an_epoch_is_one_line(capsys):
    values = r" - loss: 1\.2111 - val_loss: 1\.2000e-04"
    fit_printing(1)
    out = capsys.readouterr().out
    assert "\r" not in out
    assert re.fullmatch(
        rf"Epoch 1/2 - 0s - \d+\.\d images/s{values}\nEpoch 2/2 - 0s - \d+\.\d images/s{values}\n",
        out,
    )
    fit_printing(2)
    out = capsys.readouterr().out
    assert re.fullmatch(rf"Epoch 1/2 - 0s{values}\nEpoch 2/2 - 0s{values}\n", out)
    fit_printing(0)
    assert capsys.readouterr().out == ""
    fit_printing(3)
    assert capsys.readouterr().out == "Epoch 1/2\nEpoch 2/2\n"


@contextmanager
def terminal(printed):
    """Makes a terminal of the standard output, and notes what arrives there."""
    master, slave = os.openpty()
    with os.fdopen(slave, "w") as file, redirect_stdout(file):
        yield
    found = b""
    # A terminal whose other end is closed gives what is left, piece by piece, and then an error.
    with suppress(OSError):
        while piece := os.read(master, 10_000):
            found += piece
    os.close(master)
    printed.append(found.decode().replace("\r\n", "\n"))


def test_on_a_terminal_the_lines_are_keras_s():
    printed = []
    with terminal(printed):
        fit_printing(1, epochs=1, pace=0.0)
    title, drawn, nothing = printed[0].split("\n")
    assert (title, nothing) == ("Epoch 1/1", "")
    frames = drawn.split("\r")[1:]
    assert len(frames) == 11
    assert re.match(
        r" 4/10 \[===========>\.{18}\] - ETA: 0s - \d+\.\d images/s - loss: 9", frames[3]
    )
    assert re.fullmatch(
        r"10/10 \[={30}\] - 0s \d+(ms|us)/step - \d+\.\d images/s - loss: 1\.2111"
        r" - val_loss: 1\.2000e-04 *",
        frames[-1],
    )
    with terminal(printed):
        fit_printing(2, epochs=1)
    assert printed[1] == "Epoch 1/1\n - 0s - loss: 1.2111 - val_loss: 1.2000e-04\n"


def test_evaluate_shows_a_bar_without_values(capsys):
    bar = ProgbarLogger()
    bar.set_params({"steps": 3, "verbose": 1, "epochs": 1})
    bar.on_test_begin()
    for batch in range(3):
        bar.on_test_batch_end(batch, {"loss": 1.0})
    bar.on_test_end()
    assert re.fullmatch(r"3/3 \[={30}\] - 0s \d+(ms|us)/step\n", capsys.readouterr().out)
    bar.set_params({"steps": None, "verbose": 1, "epochs": 1})
    bar.on_predict_begin()
    bar.on_predict_batch_end(0, {})
    bar.on_predict_end()
    assert re.fullmatch(r" +1/Unknown - 0s .*\n", capsys.readouterr().out)


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
