"""What layers make of their arguments: pairs, paddings, axes and activations."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Activation = Callable[[Array], Array]


def pair(layer: str, argument: str, value: int | Sequence[int]) -> tuple[int, int]:
    """Returns a number for rows and one for columns.

    Raises:
        ValueError: it is neither a positive number nor two of them.
    """
    found = tuple(value) if isinstance(value, Sequence) else (value, value)
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
    name = value.lower() if isinstance(value, str) else None
    if name not in ("valid", "same"):
        raise ValueError(f"layer {layer!r}: `padding` must be 'valid' or 'same'; found {value!r}")
    return name


def check_window(layer: str, sizes: Sequence[Any], window: tuple[int, int], padding: str) -> None:
    """Raises ValueError if nothing would be left of images that a window moves over.

    Args:
        layer: name of it.
        sizes: rows and columns of the images; symbolic ones may be any.
        window: the same, of the window.
        padding: `valid` or `same`.
    """
    pairs = zip(sizes, window, strict=True)
    if padding == "valid" and any(isinstance(size, int) and size < wide for size, wide in pairs):
        raise ValueError(
            f"layer {layer!r}: its window of {window[0]} × {window[1]} is larger than the images "
            f"of {sizes[0]} × {sizes[1]} (rows × columns), so that nothing would be left: take a "
            "smaller window, larger images, or padding='same'"
        )


def axis_of(layer: str, axis: Any, shape: Sequence[int | None]) -> int:
    """Returns an axis of the inputs, counted from 0.

    Raises:
        ValueError: it is no whole number, or the inputs have no such axis.
    """
    if not isinstance(axis, int) or not -len(shape) <= axis < len(shape):
        raise ValueError(
            f"layer {layer!r}: `axis` is a whole number from {-len(shape)} to {len(shape) - 1} "
            f"for an input of shape {tuple(shape)}; found {axis!r}"
        )
    return axis % len(shape)


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


def relu(
    x: Float[Array, "..."], alpha: float, max_value: float | None, threshold: float
) -> Float[Array, "..."]:
    """Returns Keras's rectifier: x above the threshold, alpha · (x − threshold) below it.

    Args:
        x: any numbers.
        alpha: slope below the threshold.
        max_value: largest output; None for no ceiling.
        threshold: where the rectifier opens.
    """
    outputs = jnp.where(x > threshold, x, alpha * (x - threshold))
    return outputs if max_value is None else jnp.minimum(outputs, max_value)


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
