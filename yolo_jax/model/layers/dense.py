"""Layers of matrix products and of look-ups."""

from typing import Any, Unpack

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Num

from yolo_jax.core.numbers import whole_number
from yolo_jax.model.graph import LayerOptions
from yolo_jax.model.graph.layer import Regularizer
from yolo_jax.model.graph.session import next_key
from yolo_jax.model.layers.arguments import Activation
from yolo_jax.model.layers.arguments import activation as _activation
from yolo_jax.model.layers.initializers import Initializer, initializer
from yolo_jax.model.layers.named_weight import NamedWeight
from yolo_jax.model.layers.single_input import SingleInput


class Dense(SingleInput):
    """`activation(inputs @ kernel + bias)` over the last axis.

    Args:
        units: size of the last axis of the output.
        activation: Keras's name of one, or a function.
        use_bias: add a bias.
        kernel_initializer: Keras's name of one, or a function (key, shape, dtype).
        bias_initializer: the same.
        kernel_regularizer: penalty on the kernel, such as `regularizers.l2(5e-4)`.
        bias_regularizer: the same on the bias.
        options: name, trainable, dtype, input_shape.

    Raises:
        ValueError: an unknown name; units that are no whole number above 0; inputs of fewer than
            two axes.
    """

    supports_masking = True
    kernel, bias = NamedWeight(), NamedWeight()

    def __init__(
        self,
        units: int,
        activation: str | Activation | None = None,
        use_bias: bool = True,
        kernel_initializer: str | Initializer = "glorot_uniform",
        bias_initializer: str | Initializer = "zeros",
        kernel_regularizer: Regularizer | None = None,
        bias_regularizer: Regularizer | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self.units = whole_number(f"layer {self.name!r}: units", units, 1)
        self.use_bias = use_bias
        self.activation = _activation(self.name, activation)
        self.initializers = nnx.static(
            (
                initializer(self.name, kernel_initializer),
                initializer(self.name, bias_initializer),
            )
        )
        self.regularize("kernel", kernel_regularizer)
        self.regularize("bias", bias_regularizer if use_bias else None)

    def build(self, input_shape: Any) -> None:
        """Makes kernel `[c, units]` and bias `[units]`."""
        if len(input_shape) < 2:
            raise ValueError(
                f"Input is incompatible with layer {self.name!r}: expected min_ndim=2, found "
                f"ndim={len(input_shape)}"
            )
        self.linear = nnx.Linear(
            self.require_channels(input_shape[-1]),
            self.units,
            use_bias=self.use_bias,
            kernel_init=self.initializers[0],
            bias_init=self.initializers[1],
            param_dtype=self.dtype,
            rngs=nnx.Rngs(next_key()),
        )

    def call(self, inputs: Num[Array, "b *rest c"]) -> Float[Array, "b *rest d"]:
        """Computes the product."""
        return self.activation(self.linear(inputs))

    @property
    def weights(self) -> dict[str, nnx.Variable]:
        """Returns kernel and bias."""
        if not self.built:
            return {}
        found = {"kernel": self.linear.kernel, "bias": self.linear.bias}
        return {name: value for name, value in found.items() if value is not None}


class Embedding(SingleInput):
    """Rows of a table, looked up by whole numbers.

    Args:
        input_dim: number of rows.
        output_dim: size of a row.
        embeddings_initializer: Keras's name of one, or a function (key, shape, dtype).
        mask_zero: leave out steps whose input is 0.
        input_length: accepted for Keras's sake; shapes are inferred.
        options: name, trainable, dtype, input_shape.

    Raises:
        ValueError: an unknown initializer, or a size below 1.
    """

    embeddings = NamedWeight()

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: str | Initializer = "uniform",
        mask_zero: bool = False,
        input_length: int | None = None,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self.input_dim = whole_number(f"layer {self.name!r}: input_dim", input_dim, 1)
        self.output_dim = whole_number(f"layer {self.name!r}: output_dim", output_dim, 1)
        self.mask_zero = mask_zero
        self.initializer = initializer(self.name, embeddings_initializer)

    def build(self, input_shape: Any) -> None:
        """Makes the table `[input_dim, output_dim]`."""
        self.embed = nnx.Embed(
            self.input_dim,
            self.output_dim,
            embedding_init=self.initializer,
            param_dtype=self.dtype,
            rngs=nnx.Rngs(next_key()),
        )

    def call(self, inputs: Num[Array, "b *rest"]) -> Float[Array, "b *rest d"]:
        """Looks up; inputs are rounded towards 0."""
        return self.embed(inputs.astype(jnp.int32))

    def compute_mask(self, inputs: Array, mask: Any = None) -> Bool[Array, "b *rest"] | None:
        """Returns where the input is not 0, if `mask_zero` asks for it."""
        return inputs != 0 if self.mask_zero else None

    @property
    def weights(self) -> dict[str, nnx.Variable]:
        """Returns the table."""
        return {"embeddings": self.embed.embedding} if self.built else {}
