"""Compiling again: what stays with the same optimizer, and what a new one starts with."""

import jax
import numpy as np
import optax
import pytest

from yolo_jax import Input, K, Model
from yolo_jax.layers import Dense
from yolo_jax.optimizers import SGD, Adam

X = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
Y = X[:, :1]


def make(optimizer) -> Model:
    x = Input((3,), name="x")
    model = Model(x, Dense(1, name="head")(Dense(2, name="body")(x)))
    model.compile(optimizer, "mse", devices=jax.devices()[:1])
    return model


def again(model: Model, optimizer) -> None:
    model.compile(optimizer, "mse", devices=jax.devices()[:1])


def slots(model: Model) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(model.state.opt_state)
    return {jax.tree_util.keystr(path): np.array(leaf) for path, leaf in leaves}


def fit(model: Model) -> None:
    model.fit(X, Y, batch_size=5, epochs=2, verbose=0)


def test_the_same_optimizer_keeps_all_that_still_has_a_place():
    optimizer = Adam(0.1)
    model = make(optimizer)
    fit(model)
    model.optimizer.lr = 0.001
    before = slots(model)
    model.get_layer("body").trainable = False
    again(model, optimizer)
    kept = slots(model)
    assert len(kept) < len(before)
    for name, value in kept.items():
        np.testing.assert_array_equal(value, before[name], name)
    assert any("head" in name and value.any() for name, value in kept.items())
    assert (model.optimizer.lr, model.optimizer.iterations) == (pytest.approx(0.001), 4)
    fit(model)
    # What is trained from now on starts with nothing.
    before = slots(model)
    model.get_layer("body").trainable = True
    again(model, optimizer)
    for name, value in slots(model).items():
        np.testing.assert_array_equal(value, before.get(name, 0), name)
    assert (model.optimizer.lr, model.optimizer.iterations) == (pytest.approx(0.001), 8)
    fit(model)


@pytest.mark.parametrize("new", ["adam", Adam(0.1), SGD(0.1, momentum=0.9)])
def test_a_new_optimizer_counts_from_0_with_its_own_rate(new):
    model = make(Adam(0.1))
    fit(model)
    model.optimizer.lr = 0.5
    again(model, new)
    assert model.optimizer.iterations == 0
    assert model.optimizer.lr < 0.2
    assert not any(value.any() for name, value in slots(model).items() if "slots" in name)
    fit(model)
    assert model.optimizer.iterations == K.get_value(model.optimizer.iterations) == 4


def test_the_models_own_optimizer_is_compiled_again():
    """A common idiom, also of a name and of a transformation that counts nothing."""
    for optimizer in (Adam(0.1), "adam", optax.sgd(0.1)):
        model = make(optimizer)
        fit(model)
        before = slots(model)
        again(model, model.optimizer)
        for name, value in slots(model).items():
            np.testing.assert_array_equal(value, before[name])
        assert model.optimizer.iterations == 4
    other = make(model.optimizer)
    assert other.optimizer.transformation is model.optimizer.transformation


def test_numbers_of_an_optimizer_that_are_not_there_say_where_they_are():
    optimizer = Adam(0.1)
    with pytest.raises(AttributeError, match=r"no 'lr' of its own.*model\.optimizer\.lr"):
        K.get_value(optimizer.lr)
    model = make(optimizer)
    for name in ("get_config", "decay", "momentum"):
        assert not hasattr(model.optimizer, name)
        with pytest.raises(AttributeError, match=f"no '{name}': it has lr .* and iterations"):
            getattr(model.optimizer, name)


def test_what_was_frozen_since_is_told_once_a_fit(recwarn):
    model = make("sgd")
    model.get_layer("body").trainable = False
    for call in (
        lambda: model.fit(X, Y, epochs=3, validation_data=(X, Y), verbose=0),
        lambda: model.train_on_batch(X, Y),
    ):
        recwarn.clear()
        call()
        told = [one for one in recwarn if "Discrepancy between trainable" in str(one.message)]
        assert [one.filename for one in told] == [__file__]
    recwarn.clear()
    model.evaluate(X, Y)
    model.optimizer.lr = 0.1
    assert not recwarn
