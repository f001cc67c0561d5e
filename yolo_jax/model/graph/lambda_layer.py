"""`Lambda`: a function as a layer."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from yolo_jax.model.graph.layer import Layer, LayerOptions
from yolo_jax.model.graph.tensor import row_shape
from yolo_jax.model.own_functions import call_own

PyTree = Any


class Lambda(Layer):
    """Wraps a function as a layer.

    Args:
        function: called as `function(inputs, **arguments)`, with a list where inputs are several;
            with `mask=` as well where it names it.
        output_shape: shape of one row of the output, without the batch axis; or a function that
            gets the full shape of the inputs (None for unknown sizes; a list of shapes where they
            are several) and returns the full shape of the output, or a list of them. Believed
            over the inferred one: `(1,)` may declare a scalar. None infers.
        mask: of the output: a function (inputs, mask of the inputs) that returns it, or an array
            that it is whatever the inputs, `[1, steps]` or `[steps]` for all rows alike; None drops
            the inputs' mask.
        arguments: keywords for the function.
        options: name, trainable, dtype, input_shape.

    Raises:
        TypeError: the function cannot be called, `output_shape`, `mask` or `arguments` is none of
            these, or, at a call, the function returns no array.
        ValueError: an `output_shape` with a size below 1; at a call, if the `output_shape` function
            returns no shape, or the mask has not as many rows as the batch.
    """

    def __init__(
        self,
        function: Callable[..., PyTree],
        output_shape: Sequence[int | None] | Callable[[Any], Any] | None = None,
        mask: Any = None,
        arguments: Mapping[str, Any] | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        if not callable(function):
            raise TypeError(
                f"Lambda takes a function; {self.name!r} found {type(function).__name__}"
            )
        if not (output_shape is None or isinstance(output_shape, tuple | list)) and not callable(
            output_shape
        ):
            raise TypeError(
                f"Lambda {self.name!r}: output_shape must be a list, a tuple, or a function; found "
                f"{output_shape!r}"
            )
        if isinstance(output_shape, tuple | list):
            output_shape = row_shape(f"Lambda {self.name!r}: output_shape", output_shape)
        if not isinstance(arguments, Mapping | None):
            raise TypeError(
                f"Lambda {self.name!r}: arguments is a dict of keywords for the function; found "
                f"{arguments!r}"
            )
        given = dict(arguments or {})
        # Functions in static fields: anchors and other arrays must not become parameters.
        self.function = nnx.static(function)
        what = f"the function of Lambda {self.name!r}"
        self.bound = nnx.static(
            lambda inputs, **more: call_own(what, function, inputs, **{**given, **more})
        )
        self.declared = nnx.static(output_shape)
        own = mask is None or callable(mask)
        self.mask = nnx.static(mask if own else _constant(self.name, mask))

    def call(self, inputs: PyTree, mask: PyTree = None) -> PyTree:
        """Calls the function."""
        return self.bound(inputs, mask=mask) if _names_mask(self.function) else self.bound(inputs)

    def compute_mask(self, inputs: PyTree, mask: PyTree = None) -> PyTree:
        """Returns what `mask` says."""
        return None if self.mask is None else self.mask(inputs, mask)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the full declared shape, or None."""
        if self.declared is None:
            return None
        if not callable(self.declared):
            batch = (input_shape[0] if isinstance(input_shape, list) else input_shape)[0]
            return (batch, *self.declared)
        shape = self.declared(input_shape)
        if not isinstance(shape, tuple | list):
            raise ValueError(
                f"Lambda {self.name!r}: the output_shape function must return a tuple or a list of "
                f"tuples; found {shape!r}"
            )
        return tuple(shape) if all(d is None or isinstance(d, int) for d in shape) else list(shape)


def _constant(name: str, mask: Any) -> Callable[[PyTree, PyTree], jax.Array]:
    """Returns a function that gives the mask, repeated where it is one for all rows."""
    marks = np.asarray(mask)
    if marks.dtype.kind not in "biuf" or not marks.ndim:
        raise TypeError(
            f"Lambda {name!r}: mask is a function (inputs, mask), or an array of True and False; "
            f"found {mask!r}"
        )

    def function(inputs: PyTree, _: PyTree) -> jax.Array:
        first = jax.tree.leaves(inputs)[0].shape
        # Of rows of steps a mask without the batch axis is of the steps, as Keras broadcasts it.
        found = marks[None] if marks.ndim == 1 and len(first) > 2 else marks
        if found.ndim and found.shape[0] not in (1, first[0]):
            raise ValueError(
                f"Lambda {name!r}: the first axis of its mask, of shape {marks.shape}, is of rows: "
                "1 for all alike, or the batch_size that Input declares"
            )
        return jnp.broadcast_to(jnp.asarray(found, jnp.bool_), (first[0], *found.shape[1:]))

    return function


def _names_mask(function: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:
        # Some built-in functions have no signature; none of them takes a mask.
        return False
    found = parameters.get("mask")
    return found is not None and found.kind is not inspect.Parameter.VAR_KEYWORD
