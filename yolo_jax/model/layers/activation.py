"""Activations as layers."""

from typing import Any, Unpack

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from yolo_jax.model.graph import LayerOptions
from yolo_jax.model.layers import arguments
from yolo_jax.model.layers.single_input import SingleInput


class Activation(SingleInput):
    """Applies an activation.

    Args:
        activation: Keras's name of one, or a function.
        options: name, trainable, dtype, input_shape.

    Raises:
        ValueError: an unknown name.
    """

    supports_masking = True

    def __init__(
        self, activation: str | arguments.Activation, **options: Unpack[LayerOptions]
    ) -> None:
        super().__init__(**options)
        self.activation = arguments.activation(self.name, activation)

    def call(self, inputs: Float[Array, "b ..."]) -> Float[Array, "b ..."]:
        """Applies it."""
        return self.activation(inputs)


class LeakyReLU(SingleInput):
    """`x` where it is positive, `alpha * x` elsewhere.

    Args:
        alpha: slope of the negative side.
        options: name, trainable, dtype, input_shape.
    """

    supports_masking = True

    def __init__(self, alpha: float = 0.3, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.alpha = float(alpha)

    def call(self, inputs: Float[Array, "b ..."]) -> Float[Array, "b ..."]:
        """Applies it."""
        return jnp.where(inputs >= 0, inputs, self.alpha * inputs)


class ReLU(SingleInput):
    """Rectifier with a ceiling, a slope and a threshold.

    Args:
        max_value: largest output; None for no ceiling.
        negative_slope: below the threshold, `negative_slope * (x - threshold)`.
        threshold: where the rectifier opens.
        options: name, trainable, dtype, input_shape.

    Raises:
        ValueError: a negative ceiling or slope.
    """

    supports_masking = True

    def __init__(
        self,
        max_value: float | None = None,
        negative_slope: float = 0.0,
        threshold: float = 0.0,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        if negative_slope < 0 or (max_value is not None and max_value < 0):
            raise ValueError(
                f"layer {self.name!r}: max_value and negative_slope cannot be negative; found "
                f"{max_value} and {negative_slope}"
            )
        self.max_value, self.threshold = max_value, float(threshold)
        self.negative_slope = float(negative_slope)

    def call(self, inputs: Float[Array, "b ..."]) -> Float[Array, "b ..."]:
        """Applies it."""
        return arguments.relu(inputs, self.negative_slope, self.max_value, self.threshold)


class Softmax(SingleInput):
    """Makes numbers along an axis positive, adding up to 1.

    Args:
        axis: along which.
        options: name, trainable, dtype, input_shape.

    Raises:
        ValueError: at the call, inputs without that axis.
    """

    supports_masking = True

    def __init__(self, axis: int = -1, **options: Unpack[LayerOptions]) -> None:
        super().__init__(**options)
        self.axis = axis

    def build(self, input_shape: Any) -> None:
        """Checks the axis."""
        arguments.axis_of(self.name, self.axis, input_shape)

    def call(self, inputs: Float[Array, "b ..."]) -> Float[Array, "b ..."]:
        """Applies it."""
        return jax.nn.softmax(inputs, axis=self.axis)
