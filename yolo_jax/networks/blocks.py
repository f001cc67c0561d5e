"""Darknet's building blocks: batch-normalised convolutions, residuals and the plain output."""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float, Num

from yolo_jax.core.precision import Precision
from yolo_jax.networks.convolution import conv2d, darknet_padding

# Darknet's numbers: normalize_cpu divides by (sqrt(variance) + 1e-6), the moving statistics keep
# 0.99 of themselves a step, and the leaky activation's slope is 0.1.
EPSILON = 1e-6
MOMENTUM = 0.99
LEAKY_SLOPE = 0.1
# A channel that is constant over the batch would have an infinite gradient through the root.
_SMALLEST_VARIANCE = 1e-10


def image_to_unit(image: Num[Array, "b h w 3"], precision: Precision) -> Float[Array, "b h w 3"]:
    """Scales uint8 pixels to 0–1; floating-point images are taken to be 0–1 already."""
    if jnp.issubdtype(image.dtype, jnp.integer):
        return image.astype(precision.compute) / 255
    return image.astype(precision.compute)


def masked_moments(
    values: Num[Array, "b ..."],
    mask: Bool[Array, "b ..."] | None = None,
    *,
    feature: int = -1,
    axis_name: str | None = None,
) -> tuple[Float[Array, "c"], Float[Array, "c"], Float[Array, ""]]:
    """Takes each feature's mean and variance over the values that a mask keeps.

    Sums and counts are added over the devices, not means averaged, so a device counts by the rows
    it has. What the mask leaves out may be anything, infinities too, and has a gradient of 0.

    Args:
        values: taken in float32.
        mask: as many axes as `values`, of size 1 where it does not vary, as along `feature`; None
            keeps all.
        feature: the axis that is not summed over, of size c.
        axis_name: mapped axis over which the moments are taken; None: this device's values.

    Returns:
        Mean, biased variance (divided by the count) and count of the values behind each feature,
        in float32. Where nothing is kept all three are 0.
    """
    values = values.astype(jnp.float32)
    feature %= values.ndim
    axes = tuple(axis for axis in range(values.ndim) if axis != feature)
    if mask is None:
        count = jnp.asarray(math.prod(values.shape[axis] for axis in axes), jnp.float32)
    else:
        mask = jnp.asarray(mask, bool)
        repeats = math.prod(values.shape[axis] for axis in axes if mask.shape[axis] == 1)
        count = mask.astype(jnp.float32).sum() * repeats
        # Before any arithmetic: 0 · ∞ is NaN, in the gradient as well.
        values = jnp.where(mask, values, 0)
    total = values.sum(axes, keepdims=True)
    if axis_name is not None:
        total, count = lax.psum((total, count), axis_name)
    divisor = jnp.maximum(count, 1)
    mean = total / divisor
    deviation = values - mean
    if mask is not None:
        deviation = jnp.where(mask, deviation, 0)
    squares = jnp.square(deviation).sum(axes)
    if axis_name is not None:
        squares = lax.psum(squares, axis_name)
    return mean.reshape(-1), squares / divisor, count


class BatchNorm(nnx.Module):
    """Batch normalisation over NHWC with Darknet's epsilon and momentum.

    Statistics are float32 and biased (darknet's training divides by one less), taken over the rows
    that `row_mask` keeps. With `use_running_average` (set by `module.eval()`) the moving statistics
    normalise instead.

    Attributes:
        use_running_average: normalise by the moving statistics and leave them alone.
        axis_name: mapped axis over which the statistics are taken; None: this device's batch.
    """

    def __init__(self, channels: int, *, precision: Precision) -> None:
        self.scale = nnx.Param(jnp.ones(channels, precision.params))
        self.bias = nnx.Param(jnp.zeros(channels, precision.params))
        self.mean = nnx.BatchStat(jnp.zeros(channels, precision.params))
        self.var = nnx.BatchStat(jnp.ones(channels, precision.params))
        self.use_running_average = False
        self.axis_name: str | None = None

    def __call__(
        self, inputs: Float[Array, "b h w c"], row_mask: Bool[Array, "b"] | None = None
    ) -> Float[Array, "b h w c"]:
        """Normalises, scales and shifts each channel; updates the moving statistics in training."""
        if self.use_running_average:
            mean, var = self.mean[...], self.var[...]
        else:
            mask = None if row_mask is None else row_mask[:, None, None, None]
            mean, var, count = masked_moments(inputs, mask, axis_name=self.axis_name)
            # A device whose rows are all padding has no moments: zeros would blow its numbers up.
            mean = jnp.where(count > 0, mean, self.mean[...])
            var = jnp.where(count > 0, var, self.var[...])
            self._update(self.mean, mean)
            self._update(self.var, var)
        deviation = jnp.sqrt(jnp.maximum(var, _SMALLEST_VARIANCE)) + EPSILON
        factor = self.scale[...] / deviation
        shift = self.bias[...] - mean * factor
        return inputs * factor.astype(inputs.dtype) + shift.astype(inputs.dtype)

    @staticmethod
    def _update(moving: nnx.BatchStat, value: Array) -> None:
        moving[...] = MOMENTUM * moving[...] + (1 - MOMENTUM) * lax.stop_gradient(value)


class ConvBlock(nnx.Module):
    """Convolution without bias, batch normalisation, leaky ReLU: Darknet's [convolutional]."""

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
        self.norm = BatchNorm(filters, precision=precision)
        self.stride = stride

    def __call__(
        self, inputs: Float[Array, "b h w c"], row_mask: Bool[Array, "b"] | None = None
    ) -> Float[Array, "b h2 w2 d"]:
        """Applies the three in turn."""
        kernel = jnp.asarray(self.kernel[...], inputs.dtype)
        padding = darknet_padding(kernel.shape[0], self.stride)
        outputs = self.norm(conv2d(inputs, kernel, self.stride, padding), row_mask)
        return jnp.maximum(outputs, LEAKY_SLOPE * outputs)

    def darknet_parts(self) -> list[nnx.Variable]:
        """Returns the variables in the order of Darknet's weight files."""
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
        self, inputs: Float[Array, "b h w c"], row_mask: Bool[Array, "b"] | None = None
    ) -> Float[Array, "b h w c"]:
        """Returns the input plus what the two convolutions make of it."""
        return inputs + self.expand(self.reduce(inputs, row_mask), row_mask)
