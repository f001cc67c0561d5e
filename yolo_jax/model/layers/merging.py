"""Layers that make one array of several."""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, Unpack

import jax.numpy as jnp
from jaxtyping import Array, Bool, Num

from yolo_jax.model.graph import Layer, LayerOptions, SymbolicTensor
from yolo_jax.model.layers.arguments import axis_of

Arrays = Sequence[Num[Array, "b ..."]]
Masks = Sequence[Bool[Array, "b ..."] | None]


class _Merge(Layer):
    """Takes a list of at least two inputs; where it has masks, a step counts if all keep it."""

    def build(self, input_shape: Any) -> None:
        """Checks that there are several inputs."""
        if not isinstance(input_shape, list) or len(input_shape) < 2:
            raise ValueError(
                f"A merge layer should be called on a list of at least 2 inputs; {self.name!r} "
                f"was called on {input_shape}"
            )

    def compute_mask(self, inputs: Arrays, mask: Any = None) -> Bool[Array, "b ..."] | None:
        """Returns where no mask leaves a step out."""
        masks = [one for one in mask or [] if one is not None]
        return reduce(jnp.logical_and, masks) if masks else None


class _Elementwise(_Merge):
    """Merges element by element; inputs of fewer axes get them after the batch's, as in Keras."""

    def build(self, input_shape: Any) -> None:
        """Checks that the inputs fit: sizes that are known are equal, or 1."""
        super().build(input_shape)
        axes = max(len(shape) for shape in input_shape)
        spread = [(*shape[:1], *(1,) * (axes - len(shape)), *shape[1:]) for shape in input_shape]
        if any(len(set(sizes) - {None, 1}) > 1 for sizes in zip(*spread, strict=True)):
            raise ValueError(
                f"Operands could not be broadcast together: layer {self.name!r} works element by "
                f"element, and was called on inputs of shapes {input_shape}"
            )

    def call(self, inputs: Arrays) -> Num[Array, "b ..."]:
        """Merges."""
        axes = max(array.ndim for array in inputs)
        return self.merge(
            [jnp.expand_dims(array, range(1, 1 + axes - array.ndim)) for array in inputs]
        )

    def merge(self, arrays: Arrays) -> Num[Array, "b ..."]:
        """Merges arrays of as many axes."""
        raise NotImplementedError


class Add(_Elementwise):
    """Adds the inputs."""

    def merge(self, arrays: Arrays) -> Num[Array, "b ..."]:
        """Adds."""
        return reduce(jnp.add, arrays)


class Subtract(_Elementwise):
    """Takes the second input from the first."""

    def build(self, input_shape: Any) -> None:
        """Checks that there are two inputs.

        Raises:
            ValueError: there are not.
        """
        super().build(input_shape)
        if len(input_shape) != 2:
            raise ValueError(
                f"A `Subtract` layer should be called on exactly 2 inputs; {self.name!r} was "
                f"called on {len(input_shape)}"
            )

    def merge(self, arrays: Arrays) -> Num[Array, "b ..."]:
        """Subtracts."""
        return arrays[0] - arrays[1]


class Multiply(_Elementwise):
    """Multiplies the inputs."""

    def merge(self, arrays: Arrays) -> Num[Array, "b ..."]:
        """Multiplies."""
        return reduce(jnp.multiply, arrays)


class Average(_Elementwise):
    """Takes the inputs' mean."""

    def merge(self, arrays: Arrays) -> Num[Array, "b ..."]:
        """Averages."""
        return reduce(jnp.add, arrays) / len(arrays)


class Maximum(_Elementwise):
    """Takes the largest of the inputs."""

    def merge(self, arrays: Arrays) -> Num[Array, "b ..."]:
        """Takes maxima."""
        return reduce(jnp.maximum, arrays)


class Minimum(_Elementwise):
    """Takes the smallest of the inputs."""

    def merge(self, arrays: Arrays) -> Num[Array, "b ..."]:
        """Takes minima."""
        return reduce(jnp.minimum, arrays)


class Concatenate(_Merge):
    """Puts the inputs one after another along an axis.

    Args:
        axis: along which, the batch's being 0.
        options: name, trainable, dtype, input_shape.

    Raises:
        ValueError: at the call, inputs without that axis, or whose other axes differ.
    """

    def __init__(self, axis: int = -1, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.axis = axis

    def build(self, input_shape: Any) -> None:
        """Checks that the inputs fit."""
        super().build(input_shape)
        ranks = {len(shape) for shape in input_shape}
        axis = axis_of(self.name, self.axis, max(input_shape, key=len))
        # What is unknown is believed to fit.
        known = [
            {shape[i] for shape in input_shape if len(shape) > i} - {None}
            for i in range(max(ranks))
            if i != axis
        ]
        if len(ranks) > 1 or any(len(sizes) > 1 for sizes in known):
            raise ValueError(
                f"A `Concatenate` layer requires inputs with matching shapes except for the "
                f"concat axis {self.axis}; {self.name!r} was called on {input_shape}"
            )

    def call(self, inputs: Arrays) -> Num[Array, "b ..."]:
        """Concatenates."""
        return jnp.concatenate(inputs, axis=self.axis)

    def compute_mask(self, inputs: Arrays, mask: Any = None) -> Bool[Array, "b ..."] | None:
        """Concatenates the masks too; an input without one counts as a whole."""
        masks = mask or []
        if all(one is None for one in masks):
            return None
        spread = [
            jnp.ones(array.shape, jnp.bool_) if one is None
            else jnp.broadcast_to(one.reshape(*one.shape, *(1,) * (array.ndim - one.ndim)),
                                  array.shape)
            for array, one in zip(inputs, masks, strict=True)
        ]  # fmt: skip
        return jnp.concatenate(spread, axis=self.axis).all(axis=-1)


def _function(layer: Callable[..., Layer], does: str) -> Callable[..., SymbolicTensor]:
    def function(inputs: Sequence[Any], **options: Unpack[LayerOptions]) -> SymbolicTensor:
        return layer(**options)(inputs)

    function.__doc__ = f"{does}; the layer's options are keywords."
    return function


add = _function(Add, "Adds tensors")
subtract = _function(Subtract, "Takes the second of two tensors from the first")
multiply = _function(Multiply, "Multiplies tensors")
average = _function(Average, "Takes tensors' mean")
maximum = _function(Maximum, "Takes the largest of tensors")
minimum = _function(Minimum, "Takes the smallest of tensors")


def concatenate(
    inputs: Sequence[Any], axis: int = -1, **options: Unpack[LayerOptions]
) -> SymbolicTensor:
    """Puts tensors one after another along an axis; the layer's options are keywords."""
    return Concatenate(axis, **options)(inputs)
