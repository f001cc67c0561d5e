"""Layers that leave something out: steps by a mask, and elements at random."""

from collections.abc import Sequence
from typing import Any, Unpack

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, Num

from yolo_jax.model.graph import Layer, LayerOptions
from yolo_jax.model.layers.single_input import SingleInput


class Masking(SingleInput):
    """Leaves out the steps whose every feature is `mask_value`; they become 0.

    Args:
        mask_value: what marks a step.
        options: name, trainable, dtype, input_shape.
    """

    def __init__(self, mask_value: float = 0.0, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.mask_value = float(mask_value)

    def call(self, inputs: Num[Array, "b ... c"]) -> Num[Array, "b ... c"]:
        """Sets the steps that are left out to 0."""
        return inputs * self.compute_mask(inputs)[..., None].astype(inputs.dtype)

    def compute_mask(self, inputs: Array, mask: Any = None) -> Bool[Array, "b ..."]:
        """Returns the steps that stay."""
        return (inputs != self.mask_value).any(axis=-1)


class Dropout(Layer):
    """Drops elements at random in training and enlarges the others; else does nothing.

    What a row loses is a function of its own key, so it is the same on any number of devices.

    Args:
        rate: part that is dropped.
        noise_shape: of one draw, with the batch axis (None): 1 where all drop together.
        seed: sets the draws apart from those of other seeds.
        options: name, trainable, dtype, input_shape.

    Raises:
        ValueError: a rate outside [0, 1), or a noise shape that rows share.
    """

    supports_masking = True

    def __init__(
        self,
        rate: float,
        noise_shape: Sequence[int | None] | None = None,
        seed: int | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        if not 0 <= rate < 1:
            raise ValueError(f"layer {self.name!r}: `rate` must lie in [0, 1); found {rate}")
        if noise_shape is not None and noise_shape[0] == 1:
            raise ValueError(
                f"layer {self.name!r}: rows are dropped each by itself, so `noise_shape` starts "
                f"with None; found {tuple(noise_shape)}"
            )
        self.rate, self.seed = float(rate), seed
        self.noise_shape = None if noise_shape is None else tuple(noise_shape)

    def call(
        self, inputs: Float[Array, "b ..."], row_keys: Key[Array, "b"] | None = None
    ) -> Float[Array, "b ..."]:
        """Drops where there are keys."""
        if row_keys is None or self.rate == 0:
            return inputs
        shape = inputs.shape[1:]
        if self.noise_shape is not None:
            shape = tuple(
                full if size is None else size
                for size, full in zip(self.noise_shape[1:], shape, strict=True)
            )

        def draw(key: Key[Array, ""]) -> Bool[Array, "..."]:
            if self.seed is not None:
                key = jax.random.fold_in(key, self.seed)
            return jax.random.bernoulli(key, 1 - self.rate, shape)

        return jnp.where(jax.vmap(draw)(row_keys), inputs / (1 - self.rate), 0)
