"""Batch normalisation with the leaky ReLU behind it, in few passes over memory."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float, Num

from yolo_jax.core.precision import Precision
from yolo_jax.networks.bands import Bands

# Darknet's numbers: normalize_cpu divides by (sqrt(variance) + 1e-6), and the moving statistics
# keep 0.99 of themselves a step.
EPSILON = 1e-6
MOMENTUM = 0.99
# Rows that count: those of a mask, or of halves that share some; None: all.
RowMask = Bool[Array, "b"] | Bands | None
# A channel that is constant over the batch would have an infinite gradient through the root.
_SMALLEST_VARIANCE = 1e-10


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
        frozen: do so in training too.
        axis_name: mapped axis over which the statistics are taken; None: this device's batch.
    """

    def __init__(self, channels: int, *, precision: Precision) -> None:
        self.scale = nnx.Param(jnp.ones(channels, precision.params))
        self.bias = nnx.Param(jnp.zeros(channels, precision.params))
        self.mean = nnx.BatchStat(jnp.zeros(channels, precision.params))
        self.var = nnx.BatchStat(jnp.ones(channels, precision.params))
        self.use_running_average = False
        self.frozen = False
        self.axis_name: str | None = None

    def __call__(
        self,
        inputs: Float[Array, "b h w c"],
        row_mask: RowMask = None,
        *,
        slope: float = 1.0,
    ) -> Float[Array, "b h w c"]:
        """Normalises, scales and shifts each channel; updates the moving statistics in training.

        Args:
            inputs: to be normalised.
            row_mask: what counts in the statistics.
            slope: of the leaky ReLU behind; 1 is none.
        """
        if self.use_running_average or self.frozen:
            return _leaky(_scaled(inputs, *self.moving_affine()), slope).astype(inputs.dtype)
        moving = self.mean[...], self.var[...]
        parameters = self.scale[...], self.bias[...]
        masks = _masks(row_mask, inputs)
        outputs, mean, var = _normalise_traced_once(
            inputs, *parameters, moving, masks, slope, self.axis_name
        )
        self._update(self.mean, mean)
        self._update(self.var, var)
        return outputs

    def moving_affine(self) -> tuple[Float[Array, "c"], Float[Array, "c"]]:
        """Returns factor and shift of each channel by the moving statistics."""
        return _affine(self.scale[...], self.bias[...], self.mean[...], _root(self.var[...]))

    @staticmethod
    def _update(moving: nnx.BatchStat, value: Array) -> None:
        # By index Flax would compare shardings, which a traced array takes long to say it lacks: a
        # third of the time in which YOLOv3's step is traced.
        moving.set_value(MOMENTUM * moving[...] + (1 - MOMENTUM) * lax.stop_gradient(value))


class Shift(nnx.Module):
    """What is left of a BatchNorm whose moving statistics are folded into the kernel before it.

    Attributes:
        bias: added to each channel.
    """

    def __init__(self, bias: Float[Array, "c"]) -> None:
        self.bias = nnx.Param(bias)

    def __call__(
        self,
        inputs: Float[Array, "b h w c"],
        row_mask: RowMask = None,
        *,
        slope: float = 1.0,
    ) -> Float[Array, "b h w c"]:
        """Shifts each channel; rows have no part in each other, so the mask changes nothing."""
        del row_mask
        shifted = inputs.astype(jnp.float32) + self.bias[...]
        return _leaky(shifted, slope).astype(inputs.dtype)


class Bias(Shift):
    """A convolution's own bias, in place of a BatchNorm; it starts as 0."""

    def __init__(self, channels: int, *, precision: Precision) -> None:
        super().__init__(jnp.zeros(channels, precision.params))


def _root(var: Float[Array, "c"]) -> Float[Array, "c"]:
    return jnp.sqrt(jnp.maximum(var, _SMALLEST_VARIANCE))


def _affine(scale: Array, bias: Array, mean: Array, root: Array) -> tuple[Array, Array]:
    """Returns what a channel is multiplied by, and what is added then."""
    factor = scale / (root + EPSILON)
    return factor, bias - mean * factor


def _scaled(inputs: Array, factor: Array, shift: Array) -> Array:
    return inputs.astype(jnp.float32) * factor + shift


def _leaky(values: Array, slope: float) -> Array:
    return values if slope == 1 else jnp.maximum(values, slope * values)


# As many axes as the inputs, of size 1 where it does not vary.
Mask = Bool[Array, "#b #h 1 1"] | None


class Masks(NamedTuple):
    """Masks of a batch norm's inputs; None keeps all.

    Attributes:
        real: False where rows only fill the batch: they have no gradient.
        counted: what the moments are taken over. Of rows that halves share, one copy counts; all
            are normalised by the moments, and so have a part in their gradient.
    """

    real: Mask
    counted: Mask


def _masks(row_mask: RowMask, inputs: Float[Array, "b h w c"]) -> Masks:
    in_bands = isinstance(row_mask, Bands)
    rows = row_mask.row_mask if in_bands else row_mask
    real = None if rows is None else rows[:, None, None, None]
    if not in_bands:
        return Masks(real, real)
    counted = jnp.repeat(row_mask.counted(inputs.shape[1]), len(inputs) // 2, axis=0)
    counted = counted[:, :, None, None]
    return Masks(real, counted if real is None else counted & real)


def _normalise_batch(
    inputs: Float[Array, "b h w c"],
    scale: Float[Array, "c"],
    bias: Float[Array, "c"],
    moving: tuple[Float[Array, "c"], Float[Array, "c"]],
    masks: Masks,
    slope: float,
    axis_name: str | None,
) -> tuple[Float[Array, "b h w c"], Float[Array, "c"], Float[Array, "c"]]:
    """Normalises by the batch's moments, then applies the leaky ReLU.

    Its own gradient rule keeps the inputs alone, and reads them twice: once for two sums, once for
    the gradient. Autodiff would keep the normalised values too, and take four passes.

    Args:
        inputs: of any floating-point dtype; all arithmetic is float32.
        scale: gamma.
        bias: beta.
        moving: mean and variance so far, which stand in where no row counts. Deviations are taken
            from this mean, so that one pass gives both moments. Those lose digits where it is far
            off: 4e-4 of the output at 100 standard deviations, as a network may be that starts
            from data that were not normalised.
        masks: what is real has a gradient; what counts has a part in the moments.
        slope: of the leaky ReLU.
        axis_name: mapped axis over which the moments are taken.

    Returns:
        Outputs of the inputs' dtype, and the batch's mean and biased variance, which have no
        gradient.
    """
    return _normalise_forward(inputs, scale, bias, moving, masks, slope, axis_name)[0]


def _keep(mask: Mask, values: Array) -> Array:
    return values if mask is None else jnp.where(mask, values, 0)


def _normalise_forward(inputs, scale, bias, moving, masks, slope, axis_name):
    counted = masks.counted
    centre, var = moving
    values = inputs.astype(jnp.float32)
    # Behind the barrier it is another deviation: one shared by both sums a CPU would write out.
    total = _keep(counted, values - lax.optimization_barrier(centre)).sum((0, 1, 2))
    squares = jnp.square(_keep(counted, values - centre)).sum((0, 1, 2))
    count = jnp.asarray(math.prod(inputs.shape[:3]), jnp.float32)
    if counted is not None:
        count = counted.sum(dtype=jnp.float32) * (math.prod(inputs.shape[:3]) / counted.size)
    if axis_name is not None:
        total, squares, count = lax.psum((total, squares, count), axis_name)
    divisor = jnp.maximum(count, 1)
    # A device whose rows are all padding has no moments: zeros would blow its numbers up.
    offset = total / divisor
    mean = centre + offset
    spread = squares / divisor - jnp.square(offset)
    var = jnp.where(count > 0, jnp.maximum(spread, 0), var)
    root = _root(var)
    outputs = _leaky(_scaled(inputs, *_affine(scale, bias, mean, root)), slope)
    residuals = inputs, scale, bias, mean, var, masks, divisor
    return (outputs.astype(inputs.dtype), mean, var), residuals


def _normalise_backward(slope, axis_name, residuals, grads):
    inputs, scale, bias, mean, var, masks, count = residuals
    root = _root(var)
    factor, shift = _affine(scale, bias, mean, root)
    grad = grads[0].astype(jnp.float32)
    if slope != 1:
        grad = jnp.where(_scaled(inputs, factor, shift) > 0, grad, slope * grad)
    grad = _keep(masks.real, grad)
    deviation = _keep(masks.real, inputs.astype(jnp.float32) - mean)
    total, product = grad.sum((0, 1, 2)), (grad * deviation).sum((0, 1, 2))
    scale_grad, bias_grad = product / (root + EPSILON), total
    if axis_name is not None:
        total, product = lax.psum((total, product), axis_name)
    # Through the mean, and through the variance where it is not held up.
    by_mean = total / count
    by_deviation = product / ((root + EPSILON) * root * count)
    by_deviation = jnp.where(var > _SMALLEST_VARIANCE, by_deviation, 0)
    input_grad = factor * (grad - _keep(masks.counted, by_mean + by_deviation * deviation))
    return input_grad.astype(inputs.dtype), scale_grad, bias_grad, None, None


_normalise = jax.custom_vjp(_normalise_batch, nondiff_argnums=(5, 6))
_normalise.defvjp(_normalise_forward, _normalise_backward)
# Of the same shapes traced and lowered once, however often a network has them.
_normalise_traced_once = jax.jit(_normalise, static_argnums=(5, 6))
