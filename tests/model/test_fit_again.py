"""What one fit leaves to the next, and what a checkpoint holds of it."""

import warnings
from pathlib import Path

import jax
import numpy as np
import pytest
from line_model import LINE_X, LINE_Y, alike, make_line

from yolo_jax.callbacks import Callback, Checkpoint

NAN_X = np.full_like(LINE_X, np.nan)


class Pairs:
    """A data source of the line's rows that notes which were asked for."""

    def __init__(self):
        self.asked = []

    def __len__(self):
        return len(LINE_X)

    def __getitem__(self, index):
        self.asked.append(index)
        return LINE_X[index], LINE_Y[index]


def spoil_by_fit(model, folder):
    with pytest.warns(UserWarning, match="the loss of step 0 .* was not finite.*class ids"):
        model.fit(NAN_X, LINE_Y, verbose=0, callbacks=[Checkpoint(folder)])


def spoil_by_batch(model, folder):
    model.train_on_batch(NAN_X, LINE_Y)


@pytest.mark.parametrize("spoil", [spoil_by_fit, spoil_by_batch])
@pytest.mark.parametrize("devices", [1, 8])
def test_a_refused_step_is_told_of_in_its_own_fit_alone(tmp_path: Path, spoil, devices):
    model = make_line()
    model.compile("sgd", "mse", devices=jax.devices()[:devices])
    spoil(model, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(LINE_X, LINE_Y, verbose=0, strict=True)
        if spoil is spoil_by_fit:
            model.fit(LINE_X, LINE_Y, epochs=2, verbose=0, strict=True, resume=tmp_path)
    with pytest.warns(UserWarning, match="the loss of step 2 ") as told:
        model.fit(NAN_X, LINE_Y, verbose=0)
    assert told[0].filename == __file__


def orders(model, fits=3, folder=None, **given):
    """Returns the rows in the order of each fit."""
    found = []
    for number in range(fits):
        seen = Order()
        model.fit(
            LINE_X, LINE_Y, batch_size=4, verbose=0, callbacks=[seen], epochs=2,
            resume=None if folder is None else folder / str(number), **given,
        )  # fmt: skip
        found.append(seen.rows)
    return found


class Order(Callback):
    """Notes the rows of each epoch."""

    def on_train_begin(self, logs=None):
        self.rows = []

    def on_epoch_begin(self, epoch, logs=None):
        run = self.model.run
        self.rows.append(run.feed._rows(epoch, run.number).tolist())


@pytest.mark.parametrize("shuffle", [True, "batch"])
def test_every_fit_and_pass_has_its_own_order(shuffle):
    found = orders(make_line(), shuffle=shuffle)
    passes = [tuple(rows) for fit in found for rows in fit]
    # Of three batches there are six orders.
    assert len(set(passes)) > (5 if shuffle is True else 2)
    assert found == orders(make_line(), shuffle=shuffle)
    assert orders(make_line(), shuffle=False) == [[list(range(12))] * 2] * 3


def test_every_fit_reads_a_data_source_in_its_own_order():
    def asked():
        model, found = make_line(), []
        for _ in range(3):
            seen = []
            rows = Pairs()
            for fed in model_batches(model, rows):
                seen += fed.x[0][:, 0].tolist()
            found.append(seen)
        return found

    def model_batches(model, rows):
        model.fit(rows, batch_size=4, verbose=0)
        stream = model.run.feed.batches(0, model.run.number)
        return [next(stream) for _ in range(3)]

    found = asked()
    assert len({tuple(seen) for seen in found}) == 3
    assert all(sorted(seen) == sorted(LINE_X[:, 0].tolist()) for seen in found)
    assert found == asked()


def test_a_second_fit_resumes_in_its_own_order(tmp_path: Path):
    class Stop(Callback):
        def on_train_batch_end(self, batch, logs=None):
            if self.model.run.epoch == 1 and batch == 1:
                raise KeyboardInterrupt

    def second(model, folder, *callbacks):
        saver = Checkpoint(folder, every_steps=1)
        return model.fit(
            LINE_X, LINE_Y, batch_size=4, epochs=3, verbose=0, resume=folder,
            callbacks=[*callbacks, saver],
        ).history  # fmt: skip

    whole, broken, resumed = alike(make_line(), make_line(), make_line())
    for model in (whole, broken):
        model.fit(LINE_X, LINE_Y, verbose=0)
    history = second(whole, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        second(broken, tmp_path / "broken", Stop())
    assert second(resumed, tmp_path / "broken") == history
    for old, new in zip(jax.tree.leaves(whole.state), jax.tree.leaves(resumed.state), strict=True):
        np.testing.assert_array_equal(old, new)
    assert resumed.fits == whole.fits == 2


@pytest.mark.parametrize(
    ("given", "there", "here"),
    [
        ({"batch_size": 3}, "batch_size=4", "batch_size=3"),
        ({"x": LINE_X[:8], "y": LINE_Y[:8]}, "rows=12", "rows=8"),
        ({"shuffle": "batch"}, "shuffle=True", "shuffle='batch'"),
        ({"shuffle": False}, "shuffle=True", "shuffle=False"),
        ({"x": iter([]), "y": None, "batch_size": None, "steps_per_epoch": 1}, "12", "data's own"),
    ],
)
def test_a_run_goes_on_with_the_same_rows_alone(tmp_path: Path, given, there, here):
    saver, data = Checkpoint(tmp_path), {"x": LINE_X, "y": LINE_Y, "batch_size": 4, "verbose": 0}
    make_line().fit(**data, callbacks=[saver])
    model = make_line()
    before = model.get_weights()
    with pytest.raises(ValueError, match=f"another order.*{there}.* there, .*{here}.* here"):
        model.fit(**(data | given), epochs=2, resume=tmp_path)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert model.fit(**data, epochs=2, resume=tmp_path).epoch == [0, 1]
