"""Darknet's building blocks: batch-normalised convolutions, residuals and the plain output."""

from typing import TypeVar

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Num

from yolo_jax.core.precision import Precision
from yolo_jax.networks.convolution import conv2d, darknet_padding, inference_tile
from yolo_jax.networks.normalisation import BatchNorm, RowMask, Shift
from yolo_jax.networks.winograd import convolve_transformed, transform_kernel

LEAKY_SLOPE = 0.1  # Darknet's

ModuleT = TypeVar("ModuleT", bound=nnx.Module)


def image_to_unit(image: Num[Array, "b h w 3"], precision: Precision) -> Float[Array, "b h w 3"]:
    """Scales uint8 pixels to 0–1; floating-point images are taken to be 0–1 already."""
    if jnp.issubdtype(image.dtype, jnp.integer):
        return image.astype(precision.compute) / 255
    return image.astype(precision.compute)


class ConvBlock(nnx.Module):
    """Convolution without bias, batch normalisation, leaky ReLU: Darknet's [convolutional].

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
        precision: Precision,
        rngs: nnx.Rngs,
    ) -> None:
        shape = (kernel_size, kernel_size, channels, filters)
        initialise = jax.nn.initializers.he_normal()
        self.kernel = nnx.Param(initialise(rngs.params(), shape, precision.params))
        self.norm: BatchNorm | Shift = BatchNorm(filters, precision=precision)
        self.stride = stride
        self.tile: int | None = None

    def __call__(
        self, inputs: Float[Array, "b h w c"], row_mask: RowMask = None
    ) -> Float[Array, "b h2 w2 d"]:
        """Applies the three in turn."""
        kernel = self.kernel[...]
        if self.tile is None:
            padding = darknet_padding(kernel.shape[0], self.stride)
            outputs = conv2d(inputs, jnp.asarray(kernel, inputs.dtype), self.stride, padding)
        else:
            outputs = convolve_transformed(inputs, kernel, darknet_padding(3, 1), self.tile)
        return self.norm(outputs, row_mask, slope=LEAKY_SLOPE)

    def darknet_parts(self) -> list[nnx.Variable]:
        """Returns the variables in the order of Darknet's weight files.

        Raises:
            ValueError: the block is folded.
        """
        if isinstance(self.norm, Shift):
            raise ValueError(
                "a network with folded BatchNorm has no Darknet weights; take those of the network "
                "that was folded"
            )
        return [self.norm.bias, self.norm.scale, self.norm.mean, self.norm.var, self.kernel]


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
            factor, _ = part.norm.moving_affine()
            # A new variable: a kernel on the host may not be written to.
            kernel = part.kernel[...]
            part.kernel = nnx.Param((kernel * factor).astype(kernel.dtype))
            part.norm = Shift(part.norm)
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
        part.tile = inference_tile(kernel, part.stride)
        if part.tile is not None:
            part.kernel = nnx.Param(transform_kernel(kernel, part.tile))
    return prepared
