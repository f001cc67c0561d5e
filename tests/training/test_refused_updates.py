"""A step that would spoil the weights is refused, and says which term was not finite."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from yolo_jax import Input, Model
from yolo_jax.layers import Dense

X = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)


def failing_after(steps: int, factor: float) -> optax.Schedule:
    return lambda step: jnp.where(step < steps, 0.1, factor)


@pytest.mark.parametrize("factor", [np.nan, np.inf])
def test_an_update_that_is_not_finite_is_refused_and_named(factor: float):
    """Loss and gradient are finite here; the learning rate is not."""
    inputs = Input((3,))
    model = Model(inputs, Dense(1)(inputs))
    model.compile(optax.sgd(failing_after(2, factor)), "mse")
    model.fit(X[:8], X[:8, :1], batch_size=4, shuffle=False, verbose=0, strict=True)
    good = model.get_weights()
    with pytest.raises(FloatingPointError, match="the update of step 2 "):
        model.fit(X, X[:, :1], batch_size=4, shuffle=False, verbose=0, strict=True)
    for before, after in zip(good, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
