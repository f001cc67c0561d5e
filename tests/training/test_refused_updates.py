"""A step that would spoil the weights is refused, and says which term was not finite."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from yolo_jax import Input, Model
from yolo_jax.callbacks import Callback, Checkpoint
from yolo_jax.layers import BatchNormalization, Dense, Lambda
from yolo_jax.model.refusals import OnNonfinite, Refusal

X = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
Y = X[:, :1]
ROWS = {"batch_size": 4, "shuffle": False, "verbose": 0}


def failing_at(steps: tuple[int, ...], factor: float) -> optax.Schedule:
    return lambda step: jnp.where(jnp.isin(step, jnp.asarray(steps)), factor, 0.1)


def line(optimizer: Any = "sgd", devices: int = 1) -> Model:
    inputs = Input((3,))
    model = Model(inputs, Dense(1)(inputs))
    model.compile(optimizer, "mse", devices=jax.devices()[:devices])
    return model


def batches(*bad: int, value: float = np.nan) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields batches without end, of which those numbers hold a value that is not finite."""
    number = 0
    while True:
        x = X[:8].copy()
        if number in bad:
            x[3, 1] = value
        yield x, Y[:8]
        number += 1


class Reads(Callback):
    """Asks for the loss of every batch, as a progress bar does now and then."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.losses.append(logs["loss"])


@pytest.mark.parametrize("factor", [np.nan, np.inf])
def test_an_update_that_is_not_finite_is_refused_and_named(factor: float):
    """Loss and gradient are finite here; the learning rate is not."""
    model = line(optax.sgd(failing_at((2, 3, 4), factor)))
    model.fit(X[:8], Y[:8], **ROWS, on_nonfinite="stop")
    good = model.get_weights()
    with pytest.raises(FloatingPointError, match="the update of step 2 "):
        model.fit(X, Y, **ROWS, on_nonfinite="stop")
    for before, after in zip(good, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("devices", [1, 8])
def test_a_batch_that_is_not_finite_leaves_everything_as_it_was(value: float, devices: int):
    clean, spoilt = (line(optax.adam(0.01), devices) for _ in range(2))
    spoilt.set_weights(clean.get_weights())
    clean.fit(batches(), steps_per_epoch=2, verbose=0)
    with pytest.warns(UserWarning, match="the loss of step 1 "):
        spoilt.fit(batches(1, value=value), steps_per_epoch=3, verbose=0, on_nonfinite="skip")
    assert int(spoilt.state.step) == 3
    for found, wanted in zip(
        jax.tree.leaves((spoilt.state.params, spoilt.state.opt_state)),
        jax.tree.leaves((clean.state.params, clean.state.opt_state)),
        strict=True,
    ):
        np.testing.assert_array_equal(found, wanted)


def test_a_gradient_that_is_infinite_is_named_where_the_loss_is_finite():
    inputs = Input((3,))
    root = Lambda(lambda t: jnp.sqrt(jnp.abs(t)))(Dense(1, kernel_initializer="zeros")(inputs))
    model = Model(inputs, root)
    model.compile("sgd", "mse")
    with pytest.raises(FloatingPointError, match="the gradient of step 0 "):
        model.fit(X, Y, **ROWS, on_nonfinite="stop")
    assert np.isfinite(np.concatenate([w.ravel() for w in model.get_weights()])).all()


def test_moving_statistics_that_overflow_are_refused():
    """A variance of (3e37)² is infinite, what it normalises 0, and loss and gradient are finite."""
    inputs = Input((3,))
    model = Model(inputs, Dense(1)(BatchNormalization()(inputs)))
    model.compile("sgd", "mse")
    huge = np.where(np.arange(12)[:, None] % 2, np.float32(3e37), np.float32(-3e37)) * np.ones_like(
        X
    )
    with pytest.raises(FloatingPointError, match="the moving statistics of step 0 "):
        model.fit(huge, Y, batch_size=12, verbose=0, on_nonfinite="stop")
    statistics = np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(model.state.batch_stats)])
    assert np.isfinite(statistics).all()


def test_a_fit_stops_when_somebody_reads_and_not_at_the_epochs_end():
    reads, model = Reads(), line()
    with pytest.raises(FloatingPointError, match=r"the loss of step 2 \(counted from 0\) was not"):
        model.fit(
            batches(2, 4), steps_per_epoch=50, verbose=0, callbacks=[reads], on_nonfinite="stop"
        )
    assert len(reads.losses) == 3
    assert model.run.refusals.seen == [Refusal(0, 2, 2, 2, "loss", 1)]


def test_skipping_tells_of_each_epoch_and_continuing_of_the_first_alone():
    cases: list[tuple[OnNonfinite, list[str]]] = [("skip", ["1", "4"]), ("continue", ["1"])]
    for action, steps in cases:
        model = line()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            model.fit(batches(1, 2, 4), steps_per_epoch=3, epochs=3, verbose=0, on_nonfinite=action)
        said = [str(one.message) for one in told if "not finite" in str(one.message)]
        assert [text.split("step ")[1].split()[0] for text in said] == steps
        assert "(and of 1 more since)" in said[0]
        assert model.run.refusals.seen == [
            Refusal(0, 1, 1, 1, "loss", 2),
            Refusal(1, 1, 4, 4, "loss", 1),
        ]


def test_skipping_ends_after_an_epoch_of_which_nothing_was_learned():
    model = line()
    with (
        pytest.warns(UserWarning, match="the loss of step 1 "),
        pytest.raises(FloatingPointError, match="epoch 1 .* had 2 updates, and all were refused"),
    ):
        model.fit(batches(1, 2, 3, 4), steps_per_epoch=2, epochs=5, verbose=0, on_nonfinite="skip")
    assert model.run.epoch == 1


def test_an_update_refused_before_a_stop_is_told_of_when_the_run_goes_on(tmp_path: Path):
    """The host had not looked when the checkpoint was written, amid the epoch."""

    class Killed(Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch == 3:
                raise KeyboardInterrupt

    model = line()
    given = {"steps_per_epoch": 6, "verbose": 0, "on_nonfinite": "stop"}
    with pytest.raises(KeyboardInterrupt):
        model.fit(batches(1), callbacks=[Checkpoint(tmp_path, every_steps=2), Killed()], **given)
    with pytest.raises(FloatingPointError, match="the loss of step 1 "):
        model.fit(batches(), callbacks=[Checkpoint(tmp_path)], resume=tmp_path, **given)
    assert model.run.refusals.seen[0][:2] == (0, 1)


def test_there_are_three_actions():
    with pytest.raises(ValueError, match="on_nonfinite is 'ignore'; expected one of stop, skip, c"):
        line().fit(X, Y, verbose=0, on_nonfinite="ignore")  # pyright: ignore[reportArgumentType]
