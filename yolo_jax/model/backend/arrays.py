"""`K`'s arrays: making them, reckoning with them, and giving them other shapes.

The names are Keras's, some of which hide Python's own: `builtins` has those. Each function makes
arrays of its arguments first, by `jnp.asarray`: a symbolic tensor says then who takes it.
"""

import builtins
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array

Axis = int | Sequence[int] | None


def cast(x: ArrayLike, dtype: DTypeLike) -> Array:
    """Converts to an element type."""
    return jnp.asarray(x).astype(dtype)


def cast_to_floatx(x: ArrayLike) -> Array:
    """Converts to float32."""
    return cast(x, jnp.float32)


def constant(
    value: Any, dtype: DTypeLike | None = None, shape: Sequence[int] | None = None
) -> Array:
    """Returns an array, filled up to a shape."""
    made = jnp.array(value, dtype or jnp.float32)
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


def eye(size: int, dtype: DTypeLike = "float32") -> Array:
    """Returns the identity matrix."""
    return jnp.eye(size, dtype=dtype)


def one_hot(indices: ArrayLike, num_classes: int) -> Array:
    """Returns a row of zeros with one 1 for each index."""
    return jax.nn.one_hot(jnp.asarray(indices), num_classes)


def zeros_like(x: ArrayLike, dtype: DTypeLike | None = None) -> Array:
    """Returns zeros in the shape of an array."""
    return jnp.zeros_like(jnp.asarray(x), dtype)


def ones_like(x: ArrayLike, dtype: DTypeLike | None = None) -> Array:
    """Returns ones in the shape of an array."""
    return jnp.ones_like(jnp.asarray(x), dtype)


def _called(form: Any, function: Any, how: str) -> Any:
    """Names Keras's form of a function of JAX's after that function, and says what it returns."""
    form.__name__ = form.__qualname__ = function.__name__
    form.__doc__ = f"Returns JAX's `{function.__name__}`, {how}."
    return form


def _reduction(function: Any) -> Any:
    """Makes Keras's form of a reduction."""

    def reduce(x: ArrayLike, axis: Axis = None, keepdims: bool = False) -> Array:
        axes = tuple(axis) if isinstance(axis, list | tuple) else axis
        return function(jnp.asarray(x), axis=axes, keepdims=keepdims)

    return _called(reduce, function, "over an axis, a list of them, or all")


sum = _reduction(jnp.sum)
mean = _reduction(jnp.mean)
prod = _reduction(jnp.prod)
max = _reduction(jnp.max)
min = _reduction(jnp.min)
var = _reduction(jnp.var)
std = _reduction(jnp.std)
any = _reduction(jnp.any)
all = _reduction(jnp.all)
logsumexp = _reduction(jax.nn.logsumexp)


def argmax(x: ArrayLike, axis: int = -1) -> Array:
    """Returns the index of the largest along an axis."""
    return jnp.argmax(x, axis)


def argmin(x: ArrayLike, axis: int = -1) -> Array:
    """Returns the index of the least along an axis."""
    return jnp.argmin(x, axis)


def cumsum(x: ArrayLike, axis: int = 0) -> Array:
    """Returns running sums along an axis."""
    return jnp.cumsum(jnp.asarray(x), axis)


def cumprod(x: ArrayLike, axis: int = 0) -> Array:
    """Returns running products along an axis."""
    return jnp.cumprod(jnp.asarray(x), axis)


def elementwise(function: Any) -> Any:
    """Makes Keras's form of a function of one array."""

    def compute(x: ArrayLike) -> Array:
        return function(jnp.asarray(x))

    return _called(compute, function, "element by element")


def _of_two(function: Any) -> Any:
    """Makes Keras's form of a function of two arrays."""

    def compute(x: ArrayLike, y: ArrayLike) -> Array:
        return function(jnp.asarray(x), jnp.asarray(y))

    return _called(compute, function, "element by element")


abs = elementwise(jnp.abs)
exp = elementwise(jnp.exp)
log = elementwise(jnp.log)
square = elementwise(jnp.square)
sign = elementwise(jnp.sign)
sin = elementwise(jnp.sin)
cos = elementwise(jnp.cos)
tanh = elementwise(jnp.tanh)
round = elementwise(jnp.round)
identity = elementwise(jnp.asarray)
maximum = _of_two(jnp.maximum)
minimum = _of_two(jnp.minimum)
equal = _of_two(jnp.equal)
not_equal = _of_two(jnp.not_equal)
greater = _of_two(jnp.greater)
greater_equal = _of_two(jnp.greater_equal)
less = _of_two(jnp.less)
less_equal = _of_two(jnp.less_equal)


def pow(x: ArrayLike, a: ArrayLike) -> Array:
    """Raises to a power, element by element."""
    return jnp.power(jnp.asarray(x), jnp.asarray(a))


def sqrt(x: ArrayLike) -> Array:
    """Returns square roots; of negative numbers 0, as Keras does."""
    x = jnp.asarray(x)
    # By `where`, not `maximum`, whose gradient there would be 0 times infinity.
    return jnp.sqrt(jnp.where(x < 0, 0, x))


def stop_gradient(variables: Any) -> Any:
    """Returns arrays, or a list of them, that count as constants in gradients."""
    return jax.lax.stop_gradient(jax.tree.map(jnp.asarray, variables))


def clip(x: ArrayLike, min_value: ArrayLike, max_value: ArrayLike) -> Array:
    """Holds values within limits."""
    return jnp.clip(jnp.asarray(x), min_value, max_value)


def dot(x: ArrayLike, y: ArrayLike) -> Array:
    """Multiplies matrices: the last axis of x with the last but one of y."""
    return jnp.dot(jnp.asarray(x), jnp.asarray(y))


def switch(condition: ArrayLike, then_expression: Any, else_expression: Any) -> Array:
    """Chooses element by element; the condition spreads over further axes.

    Both sides are arrays, or functions without arguments that return them; both are computed.
    """
    chosen, other = (
        jnp.asarray(side() if callable(side) else side)
        for side in (then_expression, else_expression)
    )
    condition = jnp.asarray(condition)
    axes = builtins.max(chosen.ndim, other.ndim) - condition.ndim
    condition = condition.reshape(*condition.shape, *(1,) * builtins.max(axes, 0))
    return jnp.where(condition, chosen, other)


def map_fn(fn: Callable[[Any], Any], elems: Any) -> Any:
    """Calls a function with each row in turn and stacks what it returns; trees of arrays too."""
    return jax.lax.map(fn, jax.tree.map(jnp.asarray, elems))


def print_tensor(x: ArrayLike, message: str = "") -> Array:
    """Prints a message and an array whenever it is computed, and returns the array."""
    x = jnp.asarray(x)
    jax.debug.print("{}{}", message, x)
    return x


def reshape(x: ArrayLike, shape: Sequence[int]) -> Array:
    """Gives another shape to the same elements."""
    return jnp.reshape(x, tuple(shape))


def flatten(x: ArrayLike) -> Array:
    """Returns all elements in one axis."""
    return jnp.ravel(jnp.asarray(x))


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


def repeat(x: ArrayLike, n: int) -> Array:
    """Repeats each row of (rows, values) to (rows, n, values)."""
    return jnp.repeat(jnp.asarray(x)[:, None], n, axis=1)


def reverse(x: ArrayLike, axes: int | Sequence[int]) -> Array:
    """Turns an array around along axes."""
    return jnp.flip(jnp.asarray(x), axes if isinstance(axes, int) else tuple(axes))


def slice(x: ArrayLike, start: Sequence[int], size: Sequence[int]) -> Array:
    """Returns a block: where it starts and its size by axis, −1 being all that follows."""
    ends = [None if wide == -1 else low + wide for low, wide in zip(start, size, strict=True)]
    found = jnp.asarray(x)
    return found[tuple(builtins.slice(low, end) for low, end in zip(start, ends, strict=True))]
