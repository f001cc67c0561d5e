"""Keras's regularizers: penalties on a layer's weights, added to the loss."""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float


@dataclass(frozen=True)
class L1L2:
    """Penalises l1·Σ|w| + l2·Σw².

    Attributes:
        l1: factor of the absolute values.
        l2: factor of the squares (no ½).
    """

    l1: float = 0.0
    l2: float = 0.0

    def __call__(self, weights: Float[Array, "..."]) -> Float[Array, ""]:
        """Returns the penalty, in float32."""
        weights = jnp.asarray(weights, jnp.float32)
        penalty = jnp.zeros(())
        if self.l1:
            penalty = penalty + self.l1 * jnp.abs(weights).sum()
        if self.l2:
            penalty = penalty + self.l2 * jnp.square(weights).sum()
        return penalty


def l1(l: float = 0.01) -> L1L2:  # noqa: E741 - Keras's name for it
    """Returns the penalty l·Σ|w|."""
    return L1L2(l1=l)


def l2(l: float = 0.01) -> L1L2:  # noqa: E741 - Keras's name for it
    """Returns the penalty l·Σw²."""
    return L1L2(l2=l)


def l1_l2(l1: float = 0.01, l2: float = 0.01) -> L1L2:
    """Returns the penalty l1·Σ|w| + l2·Σw²."""
    return L1L2(l1, l2)
