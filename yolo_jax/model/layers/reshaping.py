"""Layers that order the same numbers otherwise."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Unpack

import jax.numpy as jnp
from jaxtyping import Array, Num

from yolo_jax.core.numbers import whole_number
from yolo_jax.model.graph import LayerOptions
from yolo_jax.model.layers.single_input import SingleInput


class Flatten(SingleInput):
    """Makes each row one-dimensional."""

    def call(self, inputs: Num[Array, "b ..."]) -> Num[Array, "b n"]:
        """Flattens."""
        return inputs.reshape(inputs.shape[0], math.prod(inputs.shape[1:]))


class Reshape(SingleInput):
    """Gives each row another shape.

    Args:
        target_shape: of a row, without the batch axis; one size may be −1: what is left.
        options: name, trainable, dtype, input_shape.

    Raises:
        ValueError: more than one −1; at the call, a shape of another number of elements.
    """

    def __init__(self, target_shape: Sequence[int], **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.target_shape = tuple(target_shape)
        if sum(size == -1 for size in self.target_shape) > 1:
            raise ValueError(
                f"layer {self.name!r}: can only specify one unknown dimension; found "
                f"{self.target_shape}"
            )

    def build(self, input_shape: Any) -> None:
        """Checks that the number of elements stays."""
        if None in input_shape[1:]:
            return
        size, target = math.prod(input_shape[1:]), math.prod(self.target_shape)
        if size != target and (target >= 0 or size % target):
            raise ValueError(
                f"total size of new array must be unchanged: layer {self.name!r} cannot make rows "
                f"of shape {self.target_shape} of rows of shape {tuple(input_shape[1:])}"
            )

    def call(self, inputs: Num[Array, "b ..."]) -> Num[Array, "b ..."]:
        """Reshapes."""
        return inputs.reshape(inputs.shape[0], *self.target_shape)


class Permute(SingleInput):
    """Puts the axes of each row in another order.

    Args:
        dims: numbers of the input's axes in the output's order, from 1; the batch's is left out.
        options: name, trainable, dtype, input_shape.

    Raises:
        ValueError: the numbers are not 1 to n.
    """

    def __init__(self, dims: Sequence[int], **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.dims = tuple(dims)
        if sorted(self.dims) != list(range(1, len(self.dims) + 1)):
            raise ValueError(
                f"layer {self.name!r}: `dims` must hold each of 1 to {len(self.dims)} once; found "
                f"{self.dims}"
            )

    def build(self, input_shape: Any) -> None:
        """Checks the number of axes."""
        if len(input_shape) != len(self.dims) + 1:
            raise ValueError(
                f"Input is incompatible with layer {self.name!r}: expected "
                f"ndim={len(self.dims) + 1}, found an input of shape {input_shape}"
            )

    def call(self, inputs: Num[Array, "b ..."]) -> Num[Array, "b ..."]:
        """Transposes."""
        return inputs.transpose(0, *self.dims)


class RepeatVector(SingleInput):
    """Repeats each row along a new axis.

    Args:
        n: how often.
        options: name, trainable, dtype, input_shape.

    Raises:
        ValueError: `n` is no whole number above 0.
    """

    rank: ClassVar[int | None] = 2

    def __init__(self, n: int, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.n = whole_number(f"layer {self.name!r}: n", n, 1)

    def call(self, inputs: Num[Array, "b c"]) -> Num[Array, "b n c"]:
        """Repeats."""
        return jnp.repeat(inputs[:, None], self.n, axis=1)
