"""Normalising layers."""

from typing import Any, Unpack

import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float, Num

from yolo_jax.model.graph import LayerOptions
from yolo_jax.model.graph.layer import Regularizer
from yolo_jax.model.graph.session import next_key
from yolo_jax.model.layers.arguments import axis_of
from yolo_jax.model.layers.initializers import Initializer, initializer
from yolo_jax.model.layers.named_weight import NamedWeight
from yolo_jax.model.layers.single_input import SingleInput
from yolo_jax.networks.normalisation import masked_moments


class MaskedBatchNorm(nnx.BatchNorm):
    """Flax's batch normalisation with exact moments over the rows that the mask keeps.

    Flax averages the devices' means, whatever the number of rows behind each, and a device whose
    rows are all padding gives NaN; here sums and counts are added.
    """

    def __call__(
        self,
        x: Num[Array, "b ..."],
        use_running_average: bool | None = None,
        *,
        mask: Bool[Array, "b ..."] | None = None,
    ) -> Float[Array, "b ..."]:
        """Normalises; updates the moving statistics in training.

        Args:
            x: in float32 or less.
            use_running_average: as flax has it: None takes the attribute.
            mask: as many axes as `x`, of size 1 where it does not vary.
        """
        feature = self.axis % x.ndim
        values = x.astype(jnp.float32)
        shape = [1] * x.ndim
        shape[feature] = x.shape[feature]
        if self.use_running_average if use_running_average is None else use_running_average:
            mean, var = self.mean[...], self.var[...]
        else:
            mean, var, count = masked_moments(
                values, mask, feature=feature, axis_name=self.axis_name
            )
            # A device whose rows are all padding has no moments: zeros would blow its numbers up.
            mean = jnp.where(count > 0, mean, self.mean[...])
            var = jnp.where(count > 0, var, self.var[...])
            for moving, value in ((self.mean, mean), (self.var, var)):
                kept = self.momentum * moving[...]
                moving[...] = kept + (1 - self.momentum) * lax.stop_gradient(value)
        outputs = (values - mean.reshape(shape)) * lax.rsqrt(var.reshape(shape) + self.epsilon)
        if self.scale is not None:
            outputs = outputs * self.scale[...].reshape(shape)
        if self.bias is not None:
            outputs = outputs + self.bias[...].reshape(shape)
        return outputs.astype(jnp.promote_types(x.dtype, self.param_dtype))


class BatchNormalization(SingleInput):
    """Normalises each feature by the batch's moments in training, by the moving ones elsewhere.

    The moving variance is the biased one, as in Keras 3. The mode is that of the inner
    `nnx.BatchNorm`, `norm`: `train()` and `eval()` set it, and a new layer is in evaluation.

    Args:
        axis: of the features.
        momentum: what the moving moments keep of themselves a step.
        epsilon: added to the variance.
        center: add beta.
        scale: multiply by gamma.
        beta_initializer: Keras's name of one, or a function (key, shape, dtype).
        gamma_initializer: the same.
        moving_mean_initializer: the same.
        moving_variance_initializer: the same.
        beta_regularizer: penalty on beta.
        gamma_regularizer: penalty on gamma.
        options: name, trainable, dtype, input_shape.

    Raises:
        ValueError: an unknown initializer.
    """

    supports_masking = True
    gamma, beta = NamedWeight(), NamedWeight()
    moving_mean, moving_variance = NamedWeight(), NamedWeight()

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: str | Initializer = "zeros",
        gamma_initializer: str | Initializer = "ones",
        moving_mean_initializer: str | Initializer = "zeros",
        moving_variance_initializer: str | Initializer = "ones",
        beta_regularizer: Regularizer | None = None,
        gamma_regularizer: Regularizer | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self.axis, self.momentum, self.epsilon = axis, float(momentum), float(epsilon)
        self.center, self.scale = center, scale
        given = (
            gamma_initializer,
            beta_initializer,
            moving_mean_initializer,
            moving_variance_initializer,
        )
        self.initializers = nnx.static(tuple(initializer(self.name, one) for one in given))
        self.regularize("gamma", gamma_regularizer if scale else None)
        self.regularize("beta", beta_regularizer if center else None)

    def build(self, input_shape: Any) -> None:
        """Makes gamma, beta, moving_mean and moving_variance, each `[c]`."""
        size = _size_of(self, input_shape)
        gamma, beta, mean, variance = self.initializers
        self.norm = MaskedBatchNorm(
            size,
            use_running_average=True,
            axis=self.axis,
            momentum=self.momentum,
            epsilon=self.epsilon,
            use_bias=self.center,
            use_scale=self.scale,
            bias_init=beta,
            scale_init=gamma,
            param_dtype=self.dtype,
            rngs=nnx.Rngs(next_key()),
        )
        self.norm.mean.set_value(mean(next_key(), (size,), jnp.float32))
        self.norm.var.set_value(variance(next_key(), (size,), jnp.float32))

    def call(
        self, inputs: Float[Array, "b ..."], row_mask: Bool[Array, "b"] | None = None
    ) -> Float[Array, "b ..."]:
        """Normalises."""
        mask = None
        if row_mask is not None:
            mask = row_mask.reshape(-1, *(1,) * (inputs.ndim - 1))
        return self.norm(inputs, mask=mask)

    @property
    def weights(self) -> dict[str, nnx.Variable]:
        """Returns gamma, beta, moving_mean, moving_variance."""
        if not self.built:
            return {}
        norm = self.norm
        found = {
            "gamma": norm.scale,
            "beta": norm.bias,
            "moving_mean": norm.mean,
            "moving_variance": norm.var,
        }
        return {name: value for name, value in found.items() if value is not None}


class LayerNormalization(SingleInput):
    """Normalises each row by its own moments along an axis.

    Args:
        axis: along which.
        epsilon: added to the variance.
        center: add beta.
        scale: multiply by gamma.
        beta_initializer: Keras's name of one, or a function (key, shape, dtype).
        gamma_initializer: the same.
        beta_regularizer: penalty on beta.
        gamma_regularizer: penalty on gamma.
        options: name, trainable, dtype, input_shape.

    Raises:
        ValueError: an unknown initializer.
    """

    supports_masking = True
    gamma, beta = NamedWeight(), NamedWeight()

    def __init__(
        self,
        axis: int = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: str | Initializer = "zeros",
        gamma_initializer: str | Initializer = "ones",
        beta_regularizer: Regularizer | None = None,
        gamma_regularizer: Regularizer | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        if not isinstance(axis, int):
            raise ValueError(f"LayerNormalization takes one axis, a whole number; found {axis!r}")
        self.axis, self.epsilon = axis, float(epsilon)
        self.center, self.scale = center, scale
        given = (gamma_initializer, beta_initializer)
        self.initializers = nnx.static(tuple(initializer(self.name, one) for one in given))
        self.regularize("gamma", gamma_regularizer if scale else None)
        self.regularize("beta", beta_regularizer if center else None)

    def build(self, input_shape: Any) -> None:
        """Makes gamma and beta, each `[c]`."""
        size = _size_of(self, input_shape)
        gamma, beta = self.initializers
        self.norm = nnx.LayerNorm(
            size,
            epsilon=self.epsilon,
            use_bias=self.center,
            use_scale=self.scale,
            bias_init=beta,
            scale_init=gamma,
            reduction_axes=self.axis,
            feature_axes=self.axis,
            param_dtype=self.dtype,
            use_fast_variance=False,
            rngs=nnx.Rngs(next_key()),
        )

    def call(self, inputs: Float[Array, "b ..."]) -> Float[Array, "b ..."]:
        """Normalises."""
        return self.norm(inputs)

    @property
    def weights(self) -> dict[str, nnx.Variable]:
        """Returns gamma and beta."""
        found = {"gamma": self.norm.scale, "beta": self.norm.bias} if self.built else {}
        return {name: value for name, value in found.items() if value is not None}


def _size_of(layer: BatchNormalization | LayerNormalization, shape: Any) -> int:
    """Returns the size of a layer's axis in its inputs.

    Raises:
        ValueError: they have no such axis, or its size is unknown.
    """
    size = shape[axis_of(layer.name, layer.axis, shape)]
    if size is None:
        raise ValueError(
            f"Axis {layer.axis} of the input of layer {layer.name!r} should have a defined "
            f"dimension; found an input of shape {shape}"
        )
    return size
