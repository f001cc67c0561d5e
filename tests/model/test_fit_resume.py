"""Runs that go on from a checkpoint, and those that are refused."""

import os
import signal
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from line_model import LINE_X, LINE_Y
from small_detector import Stream, flat, make_batches, make_model

from yolo_jax import Input, K, Model
from yolo_jax.layers import Dense
from yolo_jax.model.callbacks import Callback, Checkpoint, EarlyStopping
from yolo_jax.training.distributed import Preempted


@pytest.mark.parametrize("every_steps", [None, 1])
def test_resuming_is_bitwise(tmp_path: Path, every_steps):
    class Stop(Callback):
        """Breaks off amid the second epoch."""

        def on_train_batch_end(self, batch, logs):
            if self.model.run.epoch == 1 and batch == 1:
                raise KeyboardInterrupt

    def fit(folder: Path, *callbacks):
        model = make_model(optax.adam(1e-3), ema_decay=0.9)
        history = model.fit(
            Stream(make_batches(24)),
            epochs=3,
            verbose=0,
            callbacks=[Checkpoint(folder, monitor="loss", every_steps=every_steps), *callbacks],
            resume=folder,
        )
        return model, history

    whole, whole_history = fit(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "broken", Stop())
    resumed, history = fit(tmp_path / "broken")
    for old, new in zip(jax.tree.leaves(whole.state), jax.tree.leaves(resumed.state), strict=True):
        np.testing.assert_array_equal(old, new)
    assert history.history == whole_history.history
    assert history.epoch == [0, 1, 2]


@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_test_batch_end"])
def test_stopped_behind_an_epochs_last_batch_it_ends_that_epoch(hook, tmp_path: Path):
    def stop(self, batch, logs):
        """Asks for the end at the last batch of the second epoch, or amid its validation."""
        if self.model.run.epoch == 1 and batch == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    asking = type("Asking", (Callback,), {hook: stop})()

    def fit(folder: Path, *callbacks):
        model = make_model(optax.adam(1e-3))
        rows = Stream(make_batches(24))
        options = {"validation_data": rows, "epochs": 3, "verbose": 0, "resume": folder}
        return model, model.fit(rows, callbacks=[*callbacks, Checkpoint(folder)], **options)

    whole, whole_history = fit(tmp_path / "whole")
    with pytest.raises(Preempted):
        fit(tmp_path / "stopped", asking)
    resumed, history = fit(tmp_path / "stopped")
    np.testing.assert_array_equal(flat(whole.state), flat(resumed.state))
    assert history.history == whole_history.history


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path):
    saver = Checkpoint(tmp_path, monitor=None)
    make_model().fit(Stream(make_batches(8)), epochs=1, verbose=0, callbacks=[saver])
    other = make_model(optax.adam(1e-3))
    with pytest.raises(ValueError, match="another model or optimizer"):
        other.fit(Stream(make_batches(8)), epochs=2, verbose=0, resume=tmp_path)


def test_initial_epoch_is_where_a_run_starts_that_has_no_checkpoint_yet(tmp_path: Path):
    def fit(initial_epoch, epochs):
        saver = Checkpoint(tmp_path, monitor=None)
        return make_model().fit(
            Stream(make_batches(8)), epochs=epochs, initial_epoch=initial_epoch, verbose=0,
            callbacks=[saver], resume=tmp_path,
        ).epoch  # fmt: skip

    assert fit(2, 3) == [2]
    assert fit(2, 5) == [2, 3, 4]
    with pytest.raises(ValueError, match="stands at epoch 5, before initial_epoch 6"):
        fit(6, 7)


def test_a_run_of_a_model_built_again_is_refused_for_its_names(tmp_path):
    def build():
        x = Input((2,))
        model = Model(x, Dense(1)(x))
        model.compile("sgd", "mse", devices=jax.devices()[:1])
        return model

    K.clear_session()
    build().fit(LINE_X, LINE_Y, verbose=0, callbacks=[Checkpoint(tmp_path, monitor=None)])
    with pytest.raises(ValueError, match=r"another model or optimizer.*dense_2.*clear_session\(\)"):
        build().fit(LINE_X, LINE_Y, verbose=0, resume=tmp_path)
    K.clear_session()
    assert build().fit(LINE_X, LINE_Y, epochs=2, verbose=0, resume=tmp_path).epoch == [0, 1]


@pytest.mark.parametrize("baseline", [None, 0.0])
def test_behind_an_early_stop_it_trains_no_further_unless_patience_is_longer(tmp_path, baseline):
    """By a baseline that no loss reaches, it stops in the very first epoch."""

    def fit(patience):
        x = Input((2,), name="x")
        model = Model(x, Dense(1, name="line")(x))
        model.compile("sgd", "mse", devices=jax.devices()[:1])
        stopping = EarlyStopping("loss", min_delta=1e9, patience=patience, baseline=baseline)
        callbacks = [stopping, Checkpoint(tmp_path, monitor=None)]
        fitted = model.fit(
            LINE_X, LINE_Y, epochs=9, verbose=0, callbacks=callbacks, resume=tmp_path
        )
        return fitted.epoch, model.get_weights()

    first = 1 if baseline is not None else 2
    epochs, weights = fit(1)
    assert epochs == list(range(first))
    epochs, again = fit(1)
    assert epochs == list(range(first))
    np.testing.assert_array_equal(weights[0], again[0])
    assert fit(3)[0] == list(range(first + 2))
