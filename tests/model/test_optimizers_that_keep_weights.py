import jax
import numpy as np
import optax
import pytest

from yolo_jax import Input, Model
from yolo_jax.layers import Dense


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.contrib.dog(1.0),
        optax.contrib.prodigy(),
        optax.contrib.mechanize(optax.sgd(0.1)),
        optax.scale_by_lbfgs(),
    ],
    ids=["dog", "prodigy", "mechanize", "lbfgs"],
)
def test_an_optimizer_that_keeps_the_first_weights_trains(optimizer):
    """The step donates weights and slots, and an array can be donated once."""
    rows = Input((3,))
    model = Model(rows, Dense(1)(rows))
    model.compile(optimizer, "mse", devices=jax.devices()[:1])
    first = [np.array(leaf) for leaf in jax.tree.leaves(model.state.params)]
    model.fit(np.ones((8, 3)), np.ones((8, 1)), epochs=2, verbose=0)
    assert int(model.state.step) == 2
    now = [np.array(leaf) for leaf in jax.tree.leaves(model.state.params)]
    assert any((before != after).any() for before, after in zip(first, now, strict=True))
