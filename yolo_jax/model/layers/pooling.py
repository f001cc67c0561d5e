"""Layers that change the height and width of images: pooling, upsampling, padding."""

from collections.abc import Sequence
from typing import Any, Unpack

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Num

from yolo_jax.model.layers.arguments import check_window, padding_name, pair
from yolo_jax.model.layers.images import ImageLayer, ImageOptions
from yolo_jax.networks.convolution import max_pool

Pair = int | Sequence[int]


class _Pooling(ImageLayer):
    """A window that moves over the image."""

    def __init__(
        self,
        pool_size: Pair = 2,
        strides: Pair | None = None,
        padding: str = "valid",
        **options: Unpack[ImageOptions],
    ) -> None:
        super().__init__(**options)
        self.pool_size = pair(self.name, "pool_size", pool_size)
        self.strides = pair(self.name, "strides", pool_size if strides is None else strides)
        self.padding = padding_name(self.name, padding)


class MaxPooling2D(_Pooling):
    """Takes the largest in each window.

    Args:
        pool_size: rows and columns of the window, or one number for both.
        strides: the same, of its steps; None takes the window's size.
        padding: `valid` for none, `same` for an output of the input's size / strides; what is
            padded counts for nothing.
        options: name, trainable, dtype, input_shape, data_format.

    Raises:
        ValueError: an argument that is none of these.
    """

    def call(self, inputs: Num[Array, "b h w c"]) -> Num[Array, "b h2 w2 c"]:
        """Takes the maxima; those of 2×2 windows as `networks.convolution` does."""
        height, width = inputs.shape[1:3]
        check_window(self.name, (height, width), self.pool_size, self.padding)
        even = not any(isinstance(size, int) and size % 2 for size in (height, width))
        match self.pool_size, self.strides, self.padding:
            # Symbolic sizes are neither even nor odd: shapes are inferred the general way.
            case (2, 2), (2, 2), _ if even and isinstance(height, int) and isinstance(width, int):
                return max_pool(inputs, 2, 2)
            case (2, 2), (1, 1), "same":
                return max_pool(inputs, 2, 1)
        return nnx.max_pool(inputs, self.pool_size, self.strides, self.padding.upper())


class AveragePooling2D(_Pooling):
    """Takes the mean of each window.

    Args:
        pool_size: rows and columns of the window, or one number for both.
        strides: the same, of its steps; None takes the window's size.
        padding: `valid` for none, `same` for an output of the input's size / strides; what is
            padded counts for nothing.
        options: name, trainable, dtype, input_shape, data_format.

    Raises:
        ValueError: an argument that is none of these.
    """

    def call(self, inputs: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
        """Takes the means."""
        check_window(self.name, inputs.shape[1:3], self.pool_size, self.padding)
        padding = self.padding.upper()
        return nnx.avg_pool(inputs, self.pool_size, self.strides, padding, count_include_pad=False)


class GlobalAveragePooling2D(ImageLayer):
    """Takes each channel's mean over the image."""

    def call(self, inputs: Float[Array, "b h w c"]) -> Float[Array, "b c"]:
        """Takes the means."""
        return inputs.mean((1, 2))


class GlobalMaxPooling2D(ImageLayer):
    """Takes each channel's largest value over the image."""

    def call(self, inputs: Num[Array, "b h w c"]) -> Num[Array, "b c"]:
        """Takes the maxima."""
        return inputs.max((1, 2))


class UpSampling2D(ImageLayer):
    """Enlarges images.

    Args:
        size: factors of rows and columns, or one number for both.
        interpolation: `nearest` repeats pixels, `bilinear` blends them (pixel centres at halves).
        options: name, trainable, dtype, input_shape, data_format.

    Raises:
        ValueError: an argument that is none of these.
    """

    def __init__(
        self, size: Pair = 2, interpolation: str = "nearest", **options: Unpack[ImageOptions]
    ) -> None:
        super().__init__(**options)
        self.size = pair(self.name, "size", size)
        if interpolation not in ("nearest", "bilinear"):
            raise ValueError(
                f"layer {self.name!r}: `interpolation` must be 'nearest' or 'bilinear'; found "
                f"{interpolation!r}"
            )
        self.interpolation = interpolation

    def call(self, inputs: Num[Array, "b h w c"]) -> Num[Array, "b h2 w2 c"]:
        """Enlarges."""
        return enlarge(inputs, *self.size, self.interpolation)


def enlarge(
    images: Num[Array, "b h w c"], rows: int, columns: int, interpolation: str
) -> Num[Array, "b h2 w2 c"]:
    """Enlarges images by whole factors of their rows and columns.

    Args:
        images: of any kind of numbers.
        rows: factor of the height.
        columns: factor of the width.
        interpolation: `nearest` repeats pixels, `bilinear` blends them (pixel centres at halves).
    """
    if interpolation == "nearest":
        return jnp.repeat(jnp.repeat(images, rows, axis=1), columns, axis=2)
    batch, height, width, channels = images.shape
    shape = (batch, height * rows, width * columns, channels)
    return jax.image.resize(images, shape, "bilinear")


class ZeroPadding2D(ImageLayer):
    """Puts zeros around images.

    Args:
        padding: one number for all sides; or (rows, columns), the same before and after; or
            ((top, bottom), (left, right)).
        options: name, trainable, dtype, input_shape, data_format.

    Raises:
        ValueError: the padding is none of these.
    """

    def __init__(self, padding: Any = 1, **options: Unpack[ImageOptions]) -> None:
        super().__init__(**options)
        both = (padding, padding) if isinstance(padding, int) else padding
        sides = tuple((n, n) if isinstance(n, int) else tuple(n) for n in both)
        if len(sides) != 2 or not all(len(side) == 2 and min(side) >= 0 for side in sides):
            raise ValueError(
                f"layer {self.name!r}: `padding` must be a number, two, or ((top, bottom), "
                f"(left, right)); found {padding!r}"
            )
        self.padding = sides

    def call(self, inputs: Num[Array, "b h w c"]) -> Num[Array, "b h2 w2 c"]:
        """Pads."""
        return jnp.pad(inputs, ((0, 0), *self.padding, (0, 0)))
