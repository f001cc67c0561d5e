"""Keras's initializers by name, in the signature of `jax.nn.initializers`.

They draw on the host: JAX compiles a program for every shape that it draws, a second or two each
on CPU, which is a minute for a network of Darknet's size. So the numbers are the same on every
kind of device, too.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import initializers
from jax.typing import DTypeLike
from jaxtyping import Array, Key

Initializer = Callable[..., Array]
# Standard deviation of a normal distribution that is cut off two of them from its mean.
_TRUNCATED = 0.87962566103423978


def initializer(layer: str, given: str | Initializer) -> Initializer:
    """Returns an initializer (key, shape, dtype) by Keras's name, or the function that is given.

    Args:
        layer: name of who asks, for the error.
        given: what it was given.

    Raises:
        ValueError: an unknown name, or no function.
    """
    found = INITIALIZERS.get(given) if isinstance(given, str) else given
    if not callable(found):
        raise ValueError(
            f"layer {layer!r}: Unknown initializer: {given}; known are {sorted(INITIALIZERS)}, or "
            "a function (key, shape, dtype) as those of jax.nn.initializers"
        )
    return found


def uniform(limit: float) -> Initializer:
    """Returns an initializer that draws from −limit to limit."""

    def draw(key: Key[Array, ""], shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> Array:
        return jnp.asarray(_generator(key).uniform(-limit, limit, shape), dtype)

    return draw


def normal(deviation: float, *, truncated: bool = False) -> Initializer:
    """Returns an initializer of mean 0 and a deviation, which `truncated` cuts off at two."""

    def draw(key: Key[Array, ""], shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> Array:
        generator = _generator(key)
        found = generator.standard_normal(shape)
        while truncated and (outside := np.abs(found) > 2).any():
            found[outside] = generator.standard_normal(outside.sum())
        return jnp.asarray(found * deviation, dtype)

    return draw


def variance_scaling(
    scale: float,
    mode: Literal["fan_in", "fan_avg"],
    distribution: Literal["uniform", "truncated_normal"],
) -> Initializer:
    """Returns an initializer whose variance is `scale` / the number of a unit's connections.

    Args:
        scale: see above.
        mode: connections in, or the mean of those in and out. Of a shape `[..., i, o]` each of
            the i inputs counts as often as the leading axes have elements; so does each output.
        distribution: uniform, or normal cut off at two deviations.
    """

    def draw(key: Key[Array, ""], shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> Array:
        fan_in, fan_out = (math.prod(shape[:-2]) * size for size in shape[-2:])
        connections = fan_in if mode == "fan_in" else (fan_in + fan_out) / 2
        variance = scale / max(connections, 1)
        if distribution == "uniform":
            return uniform(math.sqrt(3 * variance))(key, shape, dtype)
        return normal(math.sqrt(variance) / _TRUNCATED, truncated=True)(key, shape, dtype)

    return draw


def _generator(key: Key[Array, ""]) -> np.random.Generator:
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))


INITIALIZERS: dict[str, Initializer] = {
    "glorot_normal": variance_scaling(1, "fan_avg", "truncated_normal"),
    "glorot_uniform": variance_scaling(1, "fan_avg", "uniform"),
    "he_normal": variance_scaling(2, "fan_in", "truncated_normal"),
    "he_uniform": variance_scaling(2, "fan_in", "uniform"),
    "lecun_normal": variance_scaling(1, "fan_in", "truncated_normal"),
    "lecun_uniform": variance_scaling(1, "fan_in", "uniform"),
    "ones": initializers.ones,
    "orthogonal": initializers.orthogonal(),
    "random_normal": normal(0.05),
    "random_uniform": uniform(0.05),
    # Keras cuts the distribution of this deviation, and does not widen it again.
    "truncated_normal": normal(0.05, truncated=True),
    "uniform": uniform(0.05),
    "zeros": initializers.zeros,
}
