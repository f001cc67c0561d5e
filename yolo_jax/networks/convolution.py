"""The one convolution that every block uses, with pooling and upsampling beside it.

XLA's CPU back end runs the gradients of convolutions at a third of the machine's matrix-product
speed, so on CPU they are taken as matrix products; elsewhere they are XLA's own. The choice is
made at lowering (`lax.platform_dependent`): a program lowered for TPU on a CPU machine gets TPU's.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Padding = tuple[tuple[int, int], tuple[int, int]]


def darknet_padding(kernel_size: int, stride: int) -> Padding:
    """Returns Darknet's padding: as much before as after, but left and top alone on stride 2.

    Darknet pads k // 2 on both sides and rounds the output size down, so on inputs of even size
    a stride of 2 never reads the right and bottom padding.
    """
    before = kernel_size // 2
    after = before if stride == 1 else 0
    return (before, after), (before, after)


def _xla_conv2d(inputs: Array, kernel: Array, stride: int, padding: Padding) -> Array:
    return lax.conv_general_dilated(
        inputs,
        kernel,
        window_strides=(stride, stride),
        padding=padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def conv2d(
    inputs: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw c d"],
    stride: int,
    padding: Padding,
) -> Float[Array, "b h2 w2 d"]:
    """Convolves NHWC images with an HWIO kernel of the same dtype.

    Args:
        inputs: images or features.
        kernel: weights.
        stride: 1 or 2, along rows and columns.
        padding: zeros (before, after) along rows and columns.

    Returns:
        Features of the inputs' dtype.
    """
    return _xla_conv2d(inputs, kernel, stride, padding)


def _conv2d_forward(inputs: Array, kernel: Array, stride: int, padding: Padding):
    return _xla_conv2d(inputs, kernel, stride, padding), (inputs, kernel)


def _conv2d_backward(stride: int, padding: Padding, residuals, grad: Array):
    def as_xla(inputs: Array, kernel: Array, grad: Array) -> tuple[Array, Array]:
        _, transpose = jax.vjp(lambda x, k: _xla_conv2d(x, k, stride, padding), inputs, kernel)
        return transpose(grad)

    def as_products(inputs: Array, kernel: Array, grad: Array) -> tuple[Array, Array]:
        input_grad = as_xla(inputs, kernel, grad)[0]
        return input_grad, _kernel_grad_as_products(inputs, kernel, grad, padding)

    inputs, kernel = residuals
    # With few input channels the products are too thin to pay (measured: 3 → 16 at 320²).
    if stride != 1 or inputs.shape[-1] < 8:
        return as_xla(inputs, kernel, grad)
    return lax.platform_dependent(inputs, kernel, grad, cpu=as_products, default=as_xla)


def _kernel_grad_as_products(
    inputs: Array, kernel: Array, grad: Array, padding: Padding
) -> Float[Array, "kh kw c d"]:
    """Takes the kernel's gradient as a matrix product for each image (stride 1).

    The image's shifted copies lie side by side, one for each of the kernel's positions. Those of
    one image stay in the processor's cache; those of a batch would not.
    """
    rows, columns, channels, filters = kernel.shape
    height, width = grad.shape[1:3]

    def add_image(total: Array, image_and_grad: tuple[Array, Array]) -> tuple[Array, None]:
        image, grad = image_and_grad
        padded = jnp.pad(image, (*padding, (0, 0)))
        shifted = [
            padded[row : row + height, column : column + width]
            for row in range(rows)
            for column in range(columns)
        ]
        patches = jnp.concatenate(shifted, axis=-1).reshape(height * width, -1)
        return total + patches.T @ grad.reshape(-1, filters), None

    total = jnp.zeros((rows * columns * channels, filters), grad.dtype)
    return lax.scan(add_image, total, (inputs, grad))[0].reshape(kernel.shape)


conv2d.defvjp(_conv2d_forward, _conv2d_backward)


def max_pool_2x2(inputs: Float[Array, "b h w c"], stride: int) -> Float[Array, "b h2 w2 c"]:
    """Takes the maximum of 2×2 windows; on stride 1 Darknet pads right and bottom with −∞.

    On stride 2 height and width must be even. Written as a maximum of four slices: the gradient of
    XLA's window reduction is nine times slower on CPU.
    """
    if stride == 1:
        padding = ((0, 0), (0, 1), (0, 1), (0, 0))
        inputs = jnp.pad(inputs, padding, constant_values=-jnp.inf)
        upper, lower = inputs[:, :-1], inputs[:, 1:]
        rows = jnp.maximum(upper, lower)
        return jnp.maximum(rows[:, :, :-1], rows[:, :, 1:])
    rows = jnp.maximum(inputs[:, ::2], inputs[:, 1::2])
    return jnp.maximum(rows[:, :, ::2], rows[:, :, 1::2])


def upsample_2x(inputs: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c"]:
    """Repeats every pixel twice along rows and columns."""
    batch, height, width, channels = inputs.shape
    shape = (batch, height, 2, width, 2, channels)
    repeated = jnp.broadcast_to(inputs[:, :, None, :, None], shape)
    return repeated.reshape(batch, 2 * height, 2 * width, channels)
