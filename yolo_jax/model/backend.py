"""`K`: what scripts use of `keras.backend`, over jax.numpy.

Functions take and return arrays; inside a `Lambda` those are the layer's inputs. Losses and metrics
under Keras's names are in `yolo_jax.losses` and `yolo_jax.metrics`.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array

from yolo_jax.model.graph.session import clear_session  # noqa: F401 - K.clear_session
from yolo_jax.model.graph.tensor import SymbolicTensor
from yolo_jax.model.optimizer import LearningRate

Axis = int | Sequence[int] | None


def backend() -> str:
    """Returns `jax`."""
    return "jax"


def floatx() -> str:
    """Returns the type of parameters and losses."""
    return "float32"


def epsilon() -> float:
    """Returns Keras's small number."""
    return 1e-7


def learning_phase() -> int:
    """Says that there is no such thing here.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError(
        "there is no learning phase: a layer whose `call` names `row_keys` gets keys in training "
        "and None elsewhere"
    )


def get_value(x: Any) -> Any:
    """Returns a NumPy array, or a number for the learning rate (`model.optimizer.lr`)."""
    return float(x) if isinstance(x, LearningRate) else np.asarray(x)


def set_value(x: Any, value: Any) -> None:
    """Sets the learning rate (`K.set_value(model.optimizer.lr, 1e-4)`) or a layer's variable.

    Raises:
        TypeError: `x` is neither.
    """
    if isinstance(x, LearningRate):
        x.assign(float(value))
    elif hasattr(x, "set_value"):
        x.set_value(jnp.asarray(value, x.dtype))
    else:
        raise TypeError(
            "set_value takes model.optimizer.lr or a layer's variable (layer.weights[name]); found "
            f"{type(x).__name__}"
        )


def int_shape(x: Any) -> tuple[int | None, ...]:
    """Returns the shape, of symbolic tensors too, with None for unknown sizes."""
    return tuple(x.shape)


def shape(x: Any) -> tuple[int, ...]:
    """Returns the shape: inside a step all sizes are known."""
    return jnp.shape(x)


def ndim(x: Any) -> int:
    """Returns the number of axes, of symbolic tensors too."""
    return len(x.shape) if isinstance(x, SymbolicTensor) else jnp.ndim(x)


def dtype(x: Any) -> str:
    """Returns the name of the element type."""
    return jnp.dtype(x.dtype).name


def cast(x: ArrayLike, dtype: DTypeLike) -> Array:
    """Converts to an element type."""
    return jnp.asarray(x).astype(dtype)


def constant(
    value: Any, dtype: DTypeLike | None = None, shape: Sequence[int] | None = None
) -> Array:
    """Returns an array, filled up to a shape."""
    made = jnp.asarray(value, dtype or floatx())
    return made if shape is None else jnp.broadcast_to(made, tuple(shape))


def zeros(shape: Sequence[int], dtype: DTypeLike = "float32") -> Array:
    """Returns zeros."""
    return jnp.zeros(tuple(shape), dtype)


def ones(shape: Sequence[int], dtype: DTypeLike = "float32") -> Array:
    """Returns ones."""
    return jnp.ones(tuple(shape), dtype)


def arange(start: int, stop: int | None = None, step: int = 1, dtype: str = "int32") -> Array:
    """Returns a range of numbers."""
    return jnp.arange(start, stop, step, dtype)


def one_hot(indices: ArrayLike, num_classes: int) -> Array:
    """Returns a row of zeros with one 1 for each index."""
    return jax.nn.one_hot(indices, num_classes)


def _reduction(function: Any) -> Any:
    """Makes Keras's form of a reduction."""

    def reduce(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> Array:
        axes = tuple(axis) if isinstance(axis, list | tuple) else axis
        return function(jnp.asarray(x), axis=axes, keepdims=keepdims)

    reduce.__name__ = reduce.__qualname__ = function.__name__
    reduce.__doc__ = (
        f"Reduces over an axis, a list of them, or all: `jax.numpy.{function.__name__}`."
    )
    return reduce


sum = _reduction(jnp.sum)  # noqa: A001 - Keras's names are what this module is for
mean = _reduction(jnp.mean)
prod = _reduction(jnp.prod)
max = _reduction(jnp.max)  # noqa: A001
min = _reduction(jnp.min)  # noqa: A001
var = _reduction(jnp.var)
std = _reduction(jnp.std)
any = _reduction(jnp.any)  # noqa: A001
all = _reduction(jnp.all)  # noqa: A001


def argmax(x: ArrayLike, axis: int = -1) -> Array:
    """Returns the index of the largest along an axis."""
    return jnp.argmax(x, axis)


def argmin(x: ArrayLike, axis: int = -1) -> Array:
    """Returns the index of the least along an axis."""
    return jnp.argmin(x, axis)


# One array in, one out, element by element.
abs = jnp.abs  # noqa: A001
exp = jnp.exp
log = jnp.log
sqrt = jnp.sqrt
square = jnp.square
sign = jnp.sign
sin = jnp.sin
cos = jnp.cos
tanh = jnp.tanh
sigmoid = jax.nn.sigmoid
softplus = jax.nn.softplus
round = jnp.round  # noqa: A001
zeros_like = jnp.zeros_like
ones_like = jnp.ones_like
stop_gradient = jax.lax.stop_gradient
# Two in, one out.
pow = jnp.power  # noqa: A001
maximum = jnp.maximum
minimum = jnp.minimum
equal = jnp.equal
not_equal = jnp.not_equal
greater = jnp.greater
greater_equal = jnp.greater_equal
less = jnp.less
less_equal = jnp.less_equal


def clip(x: ArrayLike, min_value: ArrayLike, max_value: ArrayLike) -> Array:
    """Holds values within limits."""
    return jnp.clip(x, min_value, max_value)


def relu(x: ArrayLike, alpha: float = 0.0, max_value: float | None = None) -> Array:
    """Returns max(x, 0) + alpha · min(x, 0), at most `max_value`."""
    x = jnp.asarray(x)
    found = jnp.where(x > 0, x, alpha * x)
    return found if max_value is None else jnp.minimum(found, max_value)


def softmax(x: ArrayLike, axis: int = -1) -> Array:
    """Returns exp(x), divided by its sum along an axis."""
    return jax.nn.softmax(x, axis)


def dot(x: ArrayLike, y: ArrayLike) -> Array:
    """Multiplies matrices: the last axis of x with the last but one of y."""
    return jnp.dot(x, y)


def switch(condition: ArrayLike, then_expression: ArrayLike, else_expression: ArrayLike) -> Array:
    """Chooses element by element; the condition spreads over further axes."""
    condition = jnp.asarray(condition)
    axes = jnp.ndim(then_expression) - condition.ndim
    condition = condition.reshape(*condition.shape, *(1,) * axes)
    return jnp.where(condition, then_expression, else_expression)


def reshape(x: ArrayLike, shape: Sequence[int]) -> Array:
    """Gives another shape to the same elements."""
    return jnp.reshape(x, tuple(shape))


def flatten(x: ArrayLike) -> Array:
    """Returns all elements in one axis."""
    return jnp.ravel(x)


def batch_flatten(x: ArrayLike) -> Array:
    """Returns a row of elements for each row."""
    return jnp.reshape(x, (jnp.shape(x)[0], -1))


def expand_dims(x: ArrayLike, axis: int = -1) -> Array:
    """Adds an axis of size 1."""
    return jnp.expand_dims(x, axis)


def squeeze(x: ArrayLike, axis: int) -> Array:
    """Takes away an axis of size 1."""
    return jnp.squeeze(x, axis)


def transpose(x: ArrayLike) -> Array:
    """Reverses the axes."""
    return jnp.transpose(x)


def permute_dimensions(x: ArrayLike, pattern: Sequence[int]) -> Array:
    """Orders the axes anew."""
    return jnp.transpose(x, tuple(pattern))


def concatenate(tensors: Sequence[ArrayLike], axis: int = -1) -> Array:
    """Joins arrays along an axis."""
    return jnp.concatenate([jnp.asarray(tensor) for tensor in tensors], axis)


def stack(x: Sequence[ArrayLike], axis: int = 0) -> Array:
    """Joins arrays along a new axis."""
    return jnp.stack([jnp.asarray(tensor) for tensor in x], axis)


def tile(x: ArrayLike, n: int | Sequence[int]) -> Array:
    """Repeats an array as a whole."""
    return jnp.tile(x, n if isinstance(n, int) else tuple(n))


def repeat_elements(x: ArrayLike, rep: int, axis: int) -> Array:
    """Repeats each element along an axis."""
    return jnp.repeat(x, rep, axis)


def gather(reference: ArrayLike, indices: ArrayLike) -> Array:
    """Returns the rows of the indices."""
    return jnp.asarray(reference)[jnp.asarray(indices)]
