"""What layers make of their arguments: pairs, paddings and activations."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Activation = Callable[[Array], Array]


def pair(layer: str, argument: str, value: int | Sequence[int]) -> tuple[int, int]:
    """Returns a number for rows and one for columns.

    Raises:
        ValueError: it is neither a positive number nor two of them.
    """
    found = (value, value) if isinstance(value, int) else tuple(value)
    if len(found) != 2 or not all(isinstance(size, int) and size > 0 for size in found):
        raise ValueError(
            f"layer {layer!r}: `{argument}` must be a positive integer or two of them; "
            f"found {value!r}"
        )
    return found[0], found[1]


def padding_name(layer: str, value: str) -> str:
    """Returns `valid` or `same`.

    Raises:
        ValueError: it is another.
    """
    name = value.lower()
    if name not in ("valid", "same"):
        raise ValueError(f"layer {layer!r}: `padding` must be 'valid' or 'same'; found {value!r}")
    return name


def activation(layer: str, given: str | Activation | None) -> Activation:
    """Returns an activation by Keras's name, or the function that is given; None changes nothing.

    Raises:
        ValueError: an unknown name, or no function.
    """
    found = ACTIVATIONS.get(given or "linear") if not callable(given) else given
    if not callable(found):
        raise ValueError(
            f"layer {layer!r}: Unknown activation function:{given}; known are "
            f"{sorted(ACTIVATIONS)}, or a function of an array"
        )
    return found


def _linear(x: Array) -> Array:
    return x


def hard_sigmoid(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns Keras 2's line, which is not that of `jax.nn.hard_sigmoid`."""
    return jnp.clip(0.2 * x + 0.5, 0, 1)


ACTIVATIONS: dict[str, Activation] = {
    "elu": jax.nn.elu,
    "exponential": jnp.exp,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "hard_sigmoid": hard_sigmoid,
    "linear": _linear,
    "relu": jax.nn.relu,
    "selu": jax.nn.selu,
    "sigmoid": jax.nn.sigmoid,
    "softmax": jax.nn.softmax,
    "softplus": jax.nn.softplus,
    "softsign": jax.nn.soft_sign,
    "swish": jax.nn.swish,
    "tanh": jnp.tanh,
}
