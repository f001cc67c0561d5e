"""What batch hooks see of the weights, and what becomes of those that they set."""

import jax
import numpy as np
import pytest
from line_model import LINE_X, LINE_Y, Watch, make_line

from yolo_jax import Input, Model
from yolo_jax.layers import Dense
from yolo_jax.model.callbacks import Callback


def kernels_by_step(**given):
    """Returns the kernel after each step, of a run that nobody watches."""
    found = []
    for steps in range(1, 7):
        model = make_line(**given)
        model.set_weights([np.ones((2, 1)), np.zeros(1)])
        for start in range(0, 2 * steps, 2):
            model.train_on_batch(LINE_X[start : start + 2], LINE_Y[start : start + 2])
        found.append(model.get_layer("line").get_weights()[0])
    return found


def saved(tmp_path):
    def look(model):
        model.save_weights(tmp_path / "w.h5")
        other = make_line()
        other.load_weights(tmp_path / "w.h5")
        return other.get_weights()[0]

    return look


@pytest.mark.parametrize(
    "look",
    [
        lambda model: model.get_weights()[0],
        lambda model: model.layers[1].get_weights()[0],
        lambda model: np.asarray(model.weights["line/kernel"][...]),
        lambda model: model(np.eye(2)) - model(np.zeros((2, 2))),
        saved,
    ],
)
def test_batch_hooks_see_the_weights_of_the_moment(look, tmp_path):
    watch = Watch(saved(tmp_path) if look is saved else look)
    model = make_line()
    model.set_weights([np.ones((2, 1)), np.zeros(1)])
    model.fit(LINE_X, LINE_Y, batch_size=2, shuffle=False, verbose=0, callbacks=[watch])
    assert len(watch.seen) == 6
    for found, expected in zip(watch.seen, kernels_by_step(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_nothing_is_written_back_for_steps_that_nobody_looks_at(monkeypatch):
    model, written = make_line(), []
    write_back = model.write_back
    monkeypatch.setattr(model, "write_back", lambda: written.append(write_back()))
    given = {"batch_size": 2, "verbose": 0, "epochs": 2}
    model.fit(LINE_X, LINE_Y, **given)
    assert len(written) == 2  # once an epoch
    model.fit(LINE_X, LINE_Y, callbacks=[Watch(lambda model: model.layers)], **given)
    assert len(written) == 2 + 12  # the last look of an epoch serves its end


def test_what_a_hook_sets_in_a_layer_counts_from_the_next_step():
    def clip(model):
        layer = model.layers[1]
        layer.set_weights([np.clip(array, -0.5, 0.5) for array in layer.get_weights()])
        return layer.get_weights()[0]

    model = make_line()
    model.set_weights([np.ones((2, 1)), np.zeros(1)])
    watch = Watch(clip)
    model.fit(LINE_X, LINE_Y, batch_size=2, epochs=3, verbose=0, callbacks=[watch])
    kernel, _ = model.get_weights()
    np.testing.assert_array_equal(kernel, watch.seen[-1])
    assert np.abs(kernel).max() == 0.5

    class Reset(Callback):
        def on_epoch_begin(self, epoch, logs=None):
            line.set_weights([np.full((2, 1), 7.0), np.zeros(1)])

    line = model.get_layer("line")
    seen = Watch(lambda model: model.get_weights()[0])
    model.fit(LINE_X, LINE_Y, batch_size=12, epochs=2, verbose=0, callbacks=[Reset(), seen])
    np.testing.assert_array_equal(*seen.seen)
    assert (seen.seen[0] > 5).all()


def test_of_two_layers_only_the_one_that_was_set_is_taken():
    """The other's variable still holds what it was before training."""
    x = Input((2,))
    first, second = Dense(2), Dense(1)
    model = Model(x, second(first(x)))
    model.compile("sgd", "mse", devices=jax.devices()[:1])
    start = first.get_weights()[0]

    class Set(Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 5:
                second.set_weights([np.zeros((2, 1)), np.zeros(1)])
                self.found = self.model.get_weights()

    hook = Set()
    model.fit(LINE_X, LINE_Y, batch_size=2, verbose=0, callbacks=[hook])
    assert (hook.found[0] != start).any()
    assert not hook.found[2].any()
    for found, expected in zip(model.get_weights(), hook.found, strict=True):
        np.testing.assert_array_equal(found, expected)
