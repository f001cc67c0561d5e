"""How a fit ends: validation data that run out, exceptions, Ctrl-C, callbacks that are closed."""

import os
import signal
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from line_model import LINE_X, LINE_Y, alike, make_line

from yolo_jax.callbacks import Callback, Checkpoint, LambdaCallback, TensorBoard
from yolo_jax.core.caller import warn_caller
from yolo_jax.core.interrupts import raise_terminated


def held_out(batches):
    return iter([(LINE_X, LINE_Y)] * batches)


@pytest.mark.parametrize("batches", [0, 2, 3])
def test_validation_data_that_run_out_are_named_and_the_epochs_kept(batches):
    model, data = make_line(), {"validation_steps": 2, "epochs": 4, "verbose": 0}
    with pytest.warns(UserWarning, match="ran out of data") as told:
        history = model.fit(LINE_X, LINE_Y, validation_data=held_out(batches), **data)
    evaluations = -(-batches // 2)
    messages = [str(one.message) for one in told]
    if batches == 3:
        assert "validation_data ran out of data after 1 of 2 batches" in messages.pop(0)
    (message,) = messages
    assert f"validation_data ran out of data: epoch {evaluations + 1} and those" in message
    assert "`validation_steps` batches (in this case, 2) for each evaluation" in message
    assert history.epoch == [0, 1, 2, 3]
    assert len(history.history["loss"]) == 4
    assert len(history.history.get("val_loss", [])) == evaluations
    assert {one.filename for one in told} == {__file__}


def test_warnings_are_of_the_callers_line():
    with pytest.warns(UserWarning) as told:
        warn_caller("here")
        make_line().fit(held_out(1), steps_per_epoch=2, verbose=0)
        make_line().evaluate(held_out(1), steps=2)
    assert [one.filename for one in told] == [__file__] * 3
    assert len({one.lineno for one in told}) == 3


class Ended(Callback):
    """Notes how it ended, and fails then where asked to."""

    def __init__(self, *fail):
        self.fail, self.seen = fail, []

    def _note(self, what):
        self.seen.append(what)
        if what in self.fail:
            raise OSError(f"{what} failed")

    def on_train_end(self, logs=None):
        self._note("end")

    def close(self):
        self._note("close")


def raising(error):
    def fail(*_, **__):
        raise error

    return fail


@pytest.mark.parametrize("hook", ["on_train_begin", "on_batch_end", "on_epoch_end"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("disk full")])
def test_an_exception_closes_callbacks_and_is_not_hidden(hook, error):
    ends = [Ended("close"), Ended("end")]
    failing = LambdaCallback(**{hook: raising(error)})
    with pytest.raises(type(error)) as caught:
        make_line().fit(LINE_X, LINE_Y, verbose=0, callbacks=[ends[0], failing, ends[1]])
    assert caught.value is error
    assert any("Ended.close() failed: OSError" in note for note in caught.value.__notes__)
    assert [end.seen for end in ends] == [["close"], ["close"]]
    del error.__notes__


def test_a_step_that_failed_with_the_states_arrays_is_told_of():
    model, at_epoch = make_line(), []

    def fail(batch, logs):
        if len(at_epoch) == 2 and batch == 1:
            for array in jax.tree.leaves(model.state):
                array.delete()
            raise RuntimeError("out of memory")

    begin = LambdaCallback(
        on_epoch_begin=lambda *_: at_epoch.append(model.layers[-1].get_weights()),
        on_batch_begin=fail,
    )
    with pytest.raises(RuntimeError, match="out of memory"):
        model.fit(LINE_X, LINE_Y, batch_size=2, epochs=3, verbose=0, callbacks=[begin])
    for kept, before in zip(model.layers[-1].get_weights(), at_epoch[-1], strict=True):
        np.testing.assert_array_equal(kept, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_amid_a_step_waits_for_its_result(number):
    """Such as Ctrl-C: the model has taken that step then, and can be trained further."""
    third = iter([False, False, True])

    def squares(target, output):
        def interrupt():
            if next(third, False):
                os.kill(os.getpid(), number)

        jax.debug.callback(interrupt)
        return jnp.mean((target - output) ** 2, axis=-1)

    cut, whole = alike(make_line(), make_line())
    cut.compile("sgd", squares, devices=jax.devices()[:1], steps_per_execution=1)
    data = {"batch_size": 2, "shuffle": False, "verbose": 0}
    usual = signal.signal(number, raise_terminated)
    try:
        with pytest.raises(KeyboardInterrupt):
            cut.fit(LINE_X, LINE_Y, **data)
        assert signal.getsignal(number) is raise_terminated
    finally:
        signal.signal(number, usual)
    whole.fit(LINE_X[:6], LINE_Y[:6], **data)
    for model in (cut, whole):
        model.fit(LINE_X[6:], LINE_Y[6:], **data)
    for one, other in zip(cut.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    assert cut.state.step == 6


@pytest.mark.parametrize("fail", ["end", "close"])
def test_what_a_callback_raises_at_a_normal_end_is_raised(fail):
    ends = [Ended(fail), Ended()]
    with pytest.raises(OSError, match=f"{fail} failed"):
        make_line().fit(LINE_X, LINE_Y, verbose=0, callbacks=ends)
    assert ends[1].seen[-1] == "close"
    assert ends[0].seen == ["end", "close"]


def test_a_fit_that_is_stopped_or_out_of_data_has_ended_by_itself():
    model, end = make_line(), Ended()
    stop = LambdaCallback(on_batch_end=lambda *_, **__: setattr(model, "stop_training", True))
    model.fit(LINE_X, LINE_Y, verbose=0, callbacks=[stop, end])
    with pytest.warns(UserWarning, match="ran out of data"):
        model.fit(held_out(1), steps_per_epoch=2, verbose=0, callbacks=[end])
    assert end.seen == ["end", "close"] * 2


def test_an_interrupted_fit_has_written_what_it_began(tmp_path: Path):
    """Such as the checkpoint whose save goes on in the background."""

    def interrupt(epoch, logs):
        if epoch == 2:
            raise KeyboardInterrupt

    board = TensorBoard(tmp_path / "board")
    saver = Checkpoint(tmp_path / "run")
    callbacks = [board, saver, LambdaCallback(on_epoch_begin=interrupt)]
    with pytest.raises(KeyboardInterrupt):
        make_line().fit(LINE_X, LINE_Y, epochs=3, verbose=0, callbacks=callbacks)
    assert board._writer is saver._checkpoints is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        resumed = make_line().fit(LINE_X, LINE_Y, epochs=2, verbose=0, resume=tmp_path / "run")
    assert resumed.epoch == [0, 1]


def test_a_callback_that_never_began_is_closed_as_well(tmp_path: Path):
    first = LambdaCallback(on_train_begin=raising(RuntimeError("first")))
    with pytest.raises(RuntimeError, match="first") as caught:
        make_line().fit(
            LINE_X,
            LINE_Y,
            verbose=1,
            callbacks=[first, TensorBoard(tmp_path), Checkpoint(tmp_path)],
        )
    assert not hasattr(caught.value, "__notes__"), caught.value.__notes__
