"""Darknet's building blocks: batch-normalised convolutions, residuals and the plain output."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Num

from yolo_jax.core.precision import Precision
from yolo_jax.networks.convolution import (
    conv2d,
    darknet_padding,
    forward_by_xla,
    inference_tile,
)
from yolo_jax.networks.normalisation import BatchNorm, Bias, RowMask, Shift
from yolo_jax.networks.winograd import convolve_transformed, transform_kernel

LEAKY_SLOPE = 0.1  # Darknet's

# By Darknet's names.
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "leaky": lambda values: jnp.maximum(values, LEAKY_SLOPE * values),
    "linear": lambda values: values,
    "logistic": jax.nn.sigmoid,
    "mish": jax.nn.mish,
    "relu": jax.nn.relu,
    "swish": jax.nn.silu,
}

ModuleT = TypeVar("ModuleT", bound=nnx.Module)


def activate(values: Float[Array, "..."], activation: str) -> Float[Array, "..."]:
    """Applies one of `ACTIVATIONS`, in float32; the result has the values' dtype."""
    return ACTIVATIONS[activation](values.astype(jnp.float32)).astype(values.dtype)


def image_to_unit(image: Num[Array, "b h w 3"], precision: Precision) -> Float[Array, "b h w 3"]:
    """Scales uint8 pixels to 0–1; floating-point images are taken to be 0–1 already."""
    if jnp.issubdtype(image.dtype, jnp.integer):
        return image.astype(precision.compute) / 255
    return image.astype(precision.compute)


class ConvBlock(nnx.Module):
    """Convolution, batch normalisation or a bias, activation: Darknet's [convolutional].

    Args:
        channels: of the inputs.
        filters: channels of the outputs.
        kernel_size: rows and columns of the kernel.
        stride: along rows and columns.
        padding: zeros on each side; None: half the kernel's size.
        groups: of channels, each of which has its own share of the filters.
        batch_normalize: False has a bias instead.
        activation: one of `ACTIVATIONS`.
        precision: number formats.
        rngs: `params` is drawn from.

    Attributes:
        tile: of Winograd's way, into whose domain `prepare_to_infer` has brought the kernel; None:
            the kernel is as it was.
    """

    def __init__(
        self,
        channels: int,
        filters: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
        batch_normalize: bool = True,
        activation: str = "leaky",
        precision: Precision,
        rngs: nnx.Rngs,
    ) -> None:
        shape = (kernel_size, kernel_size, channels // groups, filters)
        initialise = jax.nn.initializers.he_normal()
        self.kernel = nnx.Param(initialise(rngs.params(), shape, precision.params))
        norm = BatchNorm if batch_normalize else Bias
        self.norm: BatchNorm | Shift = norm(filters, precision=precision)
        self.stride, self.padding, self.groups = stride, padding, groups
        self.activation = activation
        self.tile: int | None = None

    def __call__(
        self, inputs: Float[Array, "b h w c"], row_mask: RowMask = None
    ) -> Float[Array, "b h2 w2 d"]:
        """Applies the three in turn."""
        kernel = self.kernel[...]
        if self.tile is None:
            kernel = jnp.asarray(kernel, inputs.dtype)
            _, height, width, _ = inputs.shape
            sides = height, width
            padding = darknet_padding(kernel.shape[0], self.stride, sides, self.padding)
            if self.groups == 1:
                outputs = conv2d(inputs, kernel, self.stride, padding)
            else:
                outputs = forward_by_xla(inputs, kernel, self.stride, padding, self.groups)
        else:
            outputs = convolve_transformed(inputs, kernel, darknet_padding(3, 1), self.tile)
        if self.activation == "leaky":  # which the normalisation takes along
            return self.norm(outputs, row_mask, slope=LEAKY_SLOPE)
        return activate(self.norm(outputs, row_mask), self.activation)

    def darknet_parts(self) -> list[nnx.Variable]:
        """Returns the variables in the order of Darknet's weight files.

        Raises:
            ValueError: the block is folded.
        """
        match self.norm:
            case Bias(bias=bias):
                return [bias, self.kernel]
            case BatchNorm(bias=bias, scale=scale, mean=mean, var=var):
                return [bias, scale, mean, var, self.kernel]
            case _:
                raise ValueError(
                    "a network with folded BatchNorm has no Darknet weights; take those of the "
                    "network that was folded"
                )


class OutputConv(nnx.Module):
    """1×1 convolution with a bias and no activation, which ends each scale; float32 out."""

    def __init__(
        self, channels: int, filters: int, *, precision: Precision, rngs: nnx.Rngs
    ) -> None:
        initialise = jax.nn.initializers.he_normal()
        self.kernel = nnx.Param(
            initialise(rngs.params(), (1, 1, channels, filters), precision.params)
        )
        self.bias = nnx.Param(jnp.zeros(filters, precision.params))

    def __call__(self, inputs: Float[Array, "b h w c"]) -> Float[Array, "b h w d"]:
        """Applies the convolution; the loss wants its inputs in float32."""
        kernel = jnp.asarray(self.kernel[...], inputs.dtype)
        outputs = conv2d(inputs, kernel, 1, ((0, 0), (0, 0)))
        return jnp.asarray(outputs, jnp.float32) + self.bias[...]

    def darknet_parts(self) -> list[nnx.Variable]:
        """Returns the variables in the order of Darknet's weight files."""
        return [self.bias, self.kernel]


class Residual(nnx.Module):
    """Darknet-53's residual block: 1×1 to half the channels, 3×3 back, added to the input."""

    def __init__(self, channels: int, *, precision: Precision, rngs: nnx.Rngs) -> None:
        self.reduce = ConvBlock(channels, channels // 2, 1, precision=precision, rngs=rngs)
        self.expand = ConvBlock(channels // 2, channels, 3, precision=precision, rngs=rngs)

    def __call__(
        self, inputs: Float[Array, "b h w c"], row_mask: RowMask = None
    ) -> Float[Array, "b h w c"]:
        """Returns the input plus what the two convolutions make of it."""
        return inputs + self.expand(self.reduce(inputs, row_mask), row_mask)


def fold_batch_norm(module: ModuleT) -> ModuleT:
    """Returns a copy for inference whose kernels carry what their BatchNorm multiplies by.

    Args:
        module: holds `ConvBlock`s at any depth; left as it is. What is folded already stays so.

    Returns:
        The copy, in evaluation mode. It gives what the module gives in that mode, up to rounding.
        Darknet's files know no such form: save the module itself.
    """
    folded = nnx.clone(module)
    folded.eval()
    for _, part in nnx.iter_graph(folded):
        if isinstance(part, ConvBlock) and isinstance(part.norm, BatchNorm):
            factor, shift = part.norm.moving_affine()
            # A new variable: a kernel on the host may not be written to.
            kernel = part.kernel[...]
            part.kernel = nnx.Param((kernel * factor).astype(kernel.dtype))
            part.norm = Shift(shift)
    return folded


def prepare_to_infer(module: ModuleT) -> ModuleT:
    """Returns a folded copy that infers fastest on the default device.

    On CPU the kernels that Winograd's way takes are brought into its tiles' domain, where they have
    1.8 or 4 times the size; elsewhere it is what `fold_batch_norm` returns.

    Args:
        module: holds `ConvBlock`s at any depth; left as it is.

    Returns:
        The copy, which gives what the module gives in evaluation, up to rounding. To lower it for
        another platform than the default, fold alone.
    """
    prepared = fold_batch_norm(module)
    if jax.default_backend() != "cpu":
        return prepared
    for _, part in nnx.iter_graph(prepared):
        if not isinstance(part, ConvBlock) or part.tile is not None:
            continue
        kernel = part.kernel[...]
        if part.groups > 1 or part.padding not in (None, kernel.shape[0] // 2):
            continue
        part.tile = inference_tile(kernel, part.stride)
        if part.tile is not None:
            part.kernel = nnx.Param(transform_kernel(kernel, part.tile))
    return prepared
