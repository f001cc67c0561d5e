"""Convolutions over images."""

from collections.abc import Sequence
from typing import Any, Unpack

import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, Num

from yolo_jax.core.numbers import whole_number
from yolo_jax.model.graph.layer import Regularizer
from yolo_jax.model.layers import arguments
from yolo_jax.model.layers.arguments import Activation, check_window, padding_name, pair
from yolo_jax.model.layers.images import ImageLayer, ImageOptions
from yolo_jax.model.layers.initializers import Initializer, initializer
from yolo_jax.networks.convolution import conv2d

Pair = int | Sequence[int]


class _Convolution(ImageLayer):
    """What the convolutions share: the window, the bias and the activation."""

    def __init__(
        self,
        kernel_size: Pair,
        strides: Pair = 1,
        padding: str = "valid",
        dilation_rate: Pair = 1,
        activation: str | Activation | None = None,
        use_bias: bool = True,
        bias_initializer: str | Initializer = "zeros",
        bias_regularizer: Regularizer | None = None,
        **options: Unpack[ImageOptions],
    ) -> None:
        super().__init__(**options)
        self.kernel_size = pair(self.name, "kernel_size", kernel_size)
        self.strides = pair(self.name, "strides", strides)
        self.dilation_rate = pair(self.name, "dilation_rate", dilation_rate)
        self.padding = padding_name(self.name, padding)
        self.activation = arguments.activation(self.name, activation)
        self.use_bias = use_bias
        self._bias = nnx.static((initializer(self.name, bias_initializer), bias_regularizer))

    def _count(self, argument: str, value: int) -> int:
        return whole_number(f"layer {self.name!r}: {argument}", value, 1)

    def _add_bias(self, filters: int) -> None:
        if self.use_bias:
            start, regularizer = self._bias
            self.bias = self.add_weight("bias", (filters,), start, regularizer=regularizer)

    def _finish(self, outputs: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        if self.use_bias:
            outputs = outputs + self.bias[...]
        return self.activation(outputs)

    def _convolve(
        self, inputs: Num[Array, "b h w c"], kernel: Float[Array, "kh kw i o"], groups: int = 1
    ) -> Float[Array, "b h2 w2 o"]:
        """Convolves with the layer's window; as `networks.convolution` does where that can."""
        dtype = jnp.promote_types(inputs.dtype, kernel.dtype)
        inputs, kernel = inputs.astype(dtype), kernel.astype(dtype)
        sizes = inputs.shape[1:3]
        rows, columns = (
            (size - 1) * gap + 1
            for size, gap in zip(self.kernel_size, self.dilation_rate, strict=True)
        )
        check_window(self.name, sizes, (rows, columns), self.padding)
        known = self.padding == "valid" or all(isinstance(size, int) for size in sizes)
        if known and groups == 1 and self.dilation_rate == (1, 1) and len(set(self.strides)) == 1:
            before_after = ((0, 0), (0, 0))
            if self.padding == "same":
                rows, columns = lax.padtype_to_pads(sizes, self.kernel_size, self.strides, "SAME")
                before_after = (rows, columns)
            return conv2d(inputs, kernel, self.strides[0], before_after)
        return lax.conv_general_dilated(
            inputs,
            kernel,
            self.strides,
            self.padding.upper(),
            rhs_dilation=self.dilation_rate,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    def _convolve_depthwise(
        self, inputs: Num[Array, "b h w c"], kernel: Float[Array, "kh kw c m"]
    ) -> Float[Array, "b h2 w2 c*m"]:
        channels = inputs.shape[-1]
        return self._convolve(inputs, kernel.reshape(*kernel.shape[:2], 1, -1), groups=channels)


class Conv2D(_Convolution):
    """2-D convolution.

    Args:
        filters: channels of the output.
        kernel_size: rows and columns of the window, or one number for both.
        strides: the same, of its steps.
        padding: `valid` for none, `same` for an output of the input's size / strides.
        dilation_rate: the same, of the gaps in the window.
        activation: Keras's name of one, or a function.
        use_bias: add a bias.
        kernel_initializer: Keras's name of one, or a function (key, shape, dtype).
        bias_initializer: the same.
        kernel_regularizer: penalty on the kernel, such as `regularizers.l2(5e-4)`.
        bias_regularizer: the same on the bias.
        options: name, trainable, dtype, input_shape, data_format.

    Raises:
        ValueError: an argument that is none of these.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Pair,
        strides: Pair = 1,
        padding: str = "valid",
        *,
        dilation_rate: Pair = 1,
        activation: str | Activation | None = None,
        use_bias: bool = True,
        kernel_initializer: str | Initializer = "glorot_uniform",
        bias_initializer: str | Initializer = "zeros",
        kernel_regularizer: Regularizer | None = None,
        bias_regularizer: Regularizer | None = None,
        **options: Unpack[ImageOptions],
    ) -> None:
        super().__init__(
            kernel_size, strides, padding, dilation_rate, activation, use_bias,
            bias_initializer, bias_regularizer, **options,
        )  # fmt: skip
        self.filters = self._count("filters", filters)
        self._kernel = nnx.static((initializer(self.name, kernel_initializer), kernel_regularizer))

    def build(self, input_shape: Any) -> None:
        """Makes kernel `[kh, kw, c, filters]` and bias `[filters]`."""
        start, regularizer = self._kernel
        channels = self.require_channels(input_shape[-1])
        shape = (*self.kernel_size, channels, self.filters)
        self.kernel = self.add_weight("kernel", shape, start, regularizer=regularizer)
        self._add_bias(self.filters)

    def call(self, inputs: Num[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        """Convolves."""
        return self._finish(self._convolve(inputs, self.kernel[...]))


class DepthwiseConv2D(_Convolution):
    """Convolves every channel by itself.

    Args:
        kernel_size: see `Conv2D`, as those not named here.
        strides: the same.
        padding: the same.
        depth_multiplier: outputs of each channel.
        dilation_rate: the same.
        activation: the same.
        use_bias: the same.
        depthwise_initializer: the same, of the kernel.
        bias_initializer: the same.
        depthwise_regularizer: the same, of the kernel.
        bias_regularizer: the same.
        options: the same.

    Raises:
        ValueError: an argument that is none of these.
    """

    def __init__(
        self,
        kernel_size: Pair,
        strides: Pair = 1,
        padding: str = "valid",
        depth_multiplier: int = 1,
        *,
        dilation_rate: Pair = 1,
        activation: str | Activation | None = None,
        use_bias: bool = True,
        depthwise_initializer: str | Initializer = "glorot_uniform",
        bias_initializer: str | Initializer = "zeros",
        depthwise_regularizer: Regularizer | None = None,
        bias_regularizer: Regularizer | None = None,
        **options: Unpack[ImageOptions],
    ) -> None:
        super().__init__(
            kernel_size, strides, padding, dilation_rate, activation, use_bias,
            bias_initializer, bias_regularizer, **options,
        )  # fmt: skip
        self.depth_multiplier = self._count("depth_multiplier", depth_multiplier)
        self._kernel = nnx.static(
            (initializer(self.name, depthwise_initializer), depthwise_regularizer)
        )

    def build(self, input_shape: Any) -> None:
        """Makes depthwise_kernel `[kh, kw, c, multiplier]` and bias `[c * multiplier]`."""
        start, regularizer = self._kernel
        channels = self.require_channels(input_shape[-1])
        shape = (*self.kernel_size, channels, self.depth_multiplier)
        self.depthwise_kernel = self.add_weight(
            "depthwise_kernel", shape, start, regularizer=regularizer
        )
        self._add_bias(channels * self.depth_multiplier)

    def call(self, inputs: Num[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        """Convolves."""
        return self._finish(self._convolve_depthwise(inputs, self.depthwise_kernel[...]))


class SeparableConv2D(_Convolution):
    """A depthwise convolution, then one of 1×1 over the channels.

    Args:
        filters: see `Conv2D`, as those not named here.
        kernel_size: the same.
        strides: the same.
        padding: the same.
        dilation_rate: the same.
        depth_multiplier: outputs of each channel of the first.
        activation: the same.
        use_bias: the same.
        depthwise_initializer: of the first kernel.
        pointwise_initializer: of the second.
        bias_initializer: the same.
        depthwise_regularizer: of the first kernel.
        pointwise_regularizer: of the second.
        bias_regularizer: the same.
        options: the same.

    Raises:
        ValueError: an argument that is none of these.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: Pair,
        strides: Pair = 1,
        padding: str = "valid",
        *,
        dilation_rate: Pair = 1,
        depth_multiplier: int = 1,
        activation: str | Activation | None = None,
        use_bias: bool = True,
        depthwise_initializer: str | Initializer = "glorot_uniform",
        pointwise_initializer: str | Initializer = "glorot_uniform",
        bias_initializer: str | Initializer = "zeros",
        depthwise_regularizer: Regularizer | None = None,
        pointwise_regularizer: Regularizer | None = None,
        bias_regularizer: Regularizer | None = None,
        **options: Unpack[ImageOptions],
    ) -> None:
        super().__init__(
            kernel_size, strides, padding, dilation_rate, activation, use_bias,
            bias_initializer, bias_regularizer, **options,
        )  # fmt: skip
        self.filters = self._count("filters", filters)
        self.depth_multiplier = self._count("depth_multiplier", depth_multiplier)
        self._kernels = nnx.static(
            (
                (initializer(self.name, depthwise_initializer), depthwise_regularizer),
                (initializer(self.name, pointwise_initializer), pointwise_regularizer),
            )
        )

    def build(self, input_shape: Any) -> None:
        """Makes the two kernels and the bias `[filters]`."""
        channels = self.require_channels(input_shape[-1])
        (deep_start, deep_regularizer), (start, regularizer) = self._kernels
        shape = (*self.kernel_size, channels, self.depth_multiplier)
        self.depthwise_kernel = self.add_weight(
            "depthwise_kernel", shape, deep_start, regularizer=deep_regularizer
        )
        shape = (1, 1, channels * self.depth_multiplier, self.filters)
        self.pointwise_kernel = self.add_weight(
            "pointwise_kernel", shape, start, regularizer=regularizer
        )
        self._add_bias(self.filters)

    def call(self, inputs: Num[Array, "b h w c"]) -> Float[Array, "b h2 w2 d"]:
        """Convolves twice."""
        deep = self._convolve_depthwise(inputs, self.depthwise_kernel[...])
        kernel = self.pointwise_kernel[...].astype(deep.dtype)
        return self._finish(conv2d(deep, kernel, 1, ((0, 0), (0, 0))))
