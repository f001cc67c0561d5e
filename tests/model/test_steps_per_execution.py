"""Several training steps in one call: the same numbers, and hooks once a call."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_detector import Stream, flat, make_batches, make_model

from yolo_jax import Input, Lambda, Model
from yolo_jax.callbacks import Callback, Profile, ProgbarLogger, TerminateOnNaN
from yolo_jax.layers import Dense
from yolo_jax.model.callbacks import Checkpoint
from yolo_jax.training.step import Fed

ROWS = 71  # 18 batches of 4, the last of 3


class Batches(Callback):
    def __init__(self):
        self.begun, self.ended, self.rows = [], [], []

    def on_train_batch_begin(self, batch, logs=None):
        self.begun.append(batch)

    def on_train_batch_end(self, batch, logs=None):
        self.ended.append(batch)
        self.rows.append(logs["size"])


class Epochs(Callback):
    def on_epoch_end(self, epoch, logs=None):
        pass


def make_line(**options) -> Model:
    rows = Input((3,))
    model = Model(rows, Dense(1, name="line")(rows))
    model.set_weights([np.ones((3, 1)), np.zeros(1)])
    options = {"devices": jax.devices()[:1]} | options
    model.compile("adam", "mse", metrics=["mae"], **options)
    return model


def data() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    return generator.normal(size=(ROWS, 3)), generator.normal(size=(ROWS, 1))


def calls_of(model: Model, monkeypatch) -> list[int]:
    """Returns a list that grows by the steps of each call."""
    calls, compiled = [], model.require_compiled()
    train = compiled.train
    monkeypatch.setattr(
        compiled,
        "train",
        lambda s, t, feds, *n, **room: calls.append(len(feds)) or train(s, t, feds, *n, **room),
    )
    return calls


def test_batch_hooks_run_once_a_call(monkeypatch):
    model, hooks = make_line(steps_per_execution=5), Batches()
    calls = calls_of(model, monkeypatch)
    history = model.fit(*data(), batch_size=4, epochs=2, callbacks=[hooks], verbose=0).history
    assert calls == [5, 5, 5, 2, 1] * 2
    assert hooks.begun == [0, 5, 10, 15, 17] * 2
    assert hooks.ended == [4, 9, 14, 16, 17] * 2
    assert hooks.rows == [20, 20, 20, 8, 3] * 2
    one = make_line(steps_per_execution=1)
    expected = one.fit(*data(), batch_size=4, epochs=2, verbose=0).history
    assert len(model.require_compiled()._steps) == 2  # the one of a batch is never run
    for name, values in expected.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-5)
    np.testing.assert_allclose(
        flat(model.get_weights()), flat(one.get_weights()), rtol=1e-5, atol=1e-6
    )


def test_small_steps_are_taken_together_where_nothing_looks(monkeypatch):
    for callbacks, expected in (
        ([], [17, 1]),
        ([Epochs()], [17, 1]),
        ([Batches()], [1] * 18),
    ):
        model = make_line()
        calls = calls_of(model, monkeypatch)
        model.fit(*data(), batch_size=4, callbacks=callbacks, verbose=0)
        assert calls == expected


def test_a_generators_batches_are_asked_for_one_by_one(monkeypatch):
    model = make_line()
    calls = calls_of(model, monkeypatch)

    def batches():
        while True:
            yield np.ones((4, 3)), np.ones((4, 1))

    model.fit(batches(), steps_per_epoch=6, verbose=0)
    assert calls == [1] * 6


def test_long_steps_are_taken_one_by_one(monkeypatch):
    """However small their batches, so that nothing waits for 64 of them."""
    rows = Input((3,))
    model = Model(rows, Dense(1)(Dense(4096)(Dense(4096)(rows))))
    model.compile("sgd", "mse", devices=jax.devices()[:1])
    batch = Fed([np.ones((8, 3), np.float32)], [np.ones((8, 1), np.float32)], None, None)
    assert model.require_compiled().steps_at_once(model.state, batch) == 1
    assert make_line().require_compiled().steps_at_once(make_line().state, batch) == 64


def test_a_generator_is_read_so_many_batches_ahead(monkeypatch):
    """Its last call is shorter; where it ends too soon, the fit does as well."""
    model = make_line(steps_per_execution=4)
    calls = calls_of(model, monkeypatch)
    rows = ((np.ones((3 if n == 6 else 4, 3)), np.ones((3 if n == 6 else 4, 1))) for n in range(9))
    with pytest.warns(UserWarning, match="ran out of data"):
        model.fit(rows, steps_per_epoch=5, epochs=2, verbose=0)
    # The second epoch's batches have 4, 3, 4, 4 rows.
    assert calls == [4, 1, 1, 1, 2]
    assert int(model.state.step) == 9


def test_what_a_call_is_does_not_matter_to_a_run_that_goes_on(tmp_path: Path):
    """Bitwise, wherever within an epoch it broke off; saved as soon as a call passes the number."""

    class Stop(Callback):
        def on_train_batch_end(self, batch, logs=None):
            if self.model.run.epoch == 1 and batch == 9:
                raise KeyboardInterrupt

    def fit(folder, *callbacks, k=5):
        model = make_line(steps_per_execution=k, ema_decay=0.9)
        saver = Checkpoint(folder, monitor=None, every_steps=4)
        history = model.fit(
            *data(), batch_size=4, epochs=3, callbacks=[saver, *callbacks], verbose=0, resume=folder
        )
        return model, history.history

    whole, expected = fit(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "broken", Stop())
    first = Batches()
    resumed, found = fit(tmp_path / "broken", first)
    assert first.begun[:2] == [5, 10]  # of the second epoch
    assert found == expected
    for old, new in zip(jax.tree.leaves(whole.state), jax.tree.leaves(resumed.state), strict=True):
        np.testing.assert_array_equal(old, new)


def test_the_step_that_is_not_finite_is_named_within_a_call():
    x, y = data()
    x[4 * 7 + 1] = np.inf
    model = make_line(steps_per_execution=5)
    with pytest.warns(UserWarning, match=r"the loss of step 7 \(counted from 0\)"):
        model.fit(x, y, batch_size=4, shuffle=False, verbose=0)
    assert np.isfinite(flat(model.get_weights())).all()
    assert int(model.state.step) == 18
    hooks = Batches()
    with pytest.warns(UserWarning, match="the loss of step 7"):
        make_line(steps_per_execution=5).fit(
            x, y, batch_size=4, shuffle=False, callbacks=[hooks, TerminateOnNaN()], verbose=0
        )
    assert hooks.ended == [4, 9]  # behind the call


def test_the_bar_counts_steps(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr(ProgbarLogger, "pace", 0)
    make_line(steps_per_execution=5).fit(*data(), batch_size=4, verbose=1)
    shown = capsys.readouterr().out
    counted = [line.split("/")[0].strip() for line in shown.split("\r")[1:]]
    assert counted == ["5", "10", "15", "17", "18", "18"]


def test_a_trace_counts_steps(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda _: seen.append("start"))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: seen.append("stop"))
    hooks = Batches()
    hooks.on_train_batch_end = lambda batch, logs=None: seen.append(batch)
    model, trace = make_line(steps_per_execution=5), Profile(tmp_path, first_step=7, steps=4)
    model.fit(*data(), batch_size=4, callbacks=[trace, hooks], verbose=0)
    assert seen == [4, 9, "start", "stop", 14, 16, 17]


def test_a_loss_of_one_number_whose_rows_do_not_divide():
    """Every device takes the batch whole, and so one by one."""
    x, ends = np.random.default_rng(0).normal(size=(18, 3)).astype(np.float32), []
    for devices, k in ((1, 1), (8, 4)):
        rows = Input((3,))
        model = Model(rows, Lambda(lambda y: jnp.mean(y**2))(Dense(2)(rows)))
        model.set_weights([np.ones((3, 2)), np.zeros(2)])
        model.compile(
            "sgd", lambda y_true, y_pred: y_pred, steps_per_execution=k,
            devices=jax.devices()[:devices],
        )  # fmt: skip
        model.fit(x, np.zeros(18), batch_size=6, epochs=2, shuffle=False, verbose=0)
        ends.append(flat(model.get_weights()))
    np.testing.assert_allclose(*ends, rtol=1e-5, atol=1e-7)


def test_parts_of_several_batches():
    ends = []
    for options in ({"steps_per_execution": 1}, {"steps_per_execution": 3, "accumulate": 3}):
        model = make_line(**options)
        model.fit(*data(), batch_size=4, shuffle=False, verbose=0)
        ends.append(flat(model.get_weights()))
    np.testing.assert_allclose(*ends, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("devices", [1, 8])
def test_a_detector_learns_the_same(devices):
    """With keys, moving statistics, an average of the weights and rows that do not divide."""
    models = [make_model(devices=devices, ema_decay=0.9, steps_per_execution=k) for k in (1, 3)]
    start = flat(models[0].state.params)
    losses = [m.fit(Stream(make_batches(39)), epochs=2, verbose=0).history["loss"] for m in models]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    for part in ("params", "ema"):
        ends = [flat(getattr(m.state, part)) for m in models]
        assert np.linalg.norm(ends[1] - ends[0]) <= 1e-4 * np.linalg.norm(ends[0] - start)
    assert int(models[1].state.step) == 10


def test_several_augmentations_take_a_step_a_call():
    class Sizes:
        transforms = (lambda keys, image, boxes, classes: (image, boxes, classes),)

        def at(self, step):
            return self.transforms[0]

    model = make_line(steps_per_execution=4, augment=Sizes())
    batch = Fed([np.ones((8, 3), np.float32)], [np.ones((8, 1), np.float32)], None, None)
    assert model.require_compiled().steps_at_once(model.state, batch) == 1


@pytest.mark.parametrize("steps", [0, -1, True, 2.0, "auto"])
def test_no_number_of_steps(steps):
    with pytest.raises(ValueError, match=r"steps_per_execution \(or None\) is a whole number, 1"):
        make_line(steps_per_execution=steps)
