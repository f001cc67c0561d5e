"""Convolutions of few channels on a CPU, by products of blocks of columns.

The patches of neighbouring outputs overlap. Here one patch serves a block of four outputs side by
side: the product has four times the filters, a kernel shifted by one column for each, and half of
what it multiplies are zeros. Where channels are few, as in a network's first layer, that costs less
than it saves: the patches are smaller, the products of a size at which a CPU is fast, and the
patches' parts are copied whole.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from yolo_jax.networks.cpu_convolution import Padding, sum_over_rows

_BLOCK = 4


def forward_by_blocks(
    inputs: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw c d"],
    stride: int,
    padding: Padding,
) -> Float[Array, "b h2 w2 d"]:
    """Convolves as a product of each block's patch and the shifted kernels; kw ≤ 5 · stride."""
    width = _outputs(inputs.shape[2], kernel.shape[1], stride, padding[1])
    patches = _patches(inputs, kernel.shape[:2], stride, padding)
    blocks = jnp.dot(patches, _shifted(kernel, stride))
    return blocks.reshape(*blocks.shape[:2], -1, kernel.shape[3])[:, :, :width]


def kernel_gradient_by_blocks(
    inputs: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw c d"],
    grad: Float[Array, "b h2 w2 d"],
    stride: int,
    padding: Padding,
) -> Float[Array, "kh kw c d"]:
    """Takes the kernel's gradient: that of the shifted kernels, added up."""
    patches = _patches(inputs, kernel.shape[:2], stride, padding)
    more = patches.shape[2] * _BLOCK - grad.shape[2]
    blocks = jnp.pad(grad, ((0, 0), (0, 0), (0, more), (0, 0)))
    blocks = blocks.reshape(-1, _BLOCK * kernel.shape[3])
    of_shifted = sum_over_rows(patches.reshape(len(blocks), -1), blocks)
    like = jax.ShapeDtypeStruct(kernel.shape, of_shifted.dtype)
    (of_kernel,) = jax.linear_transpose(lambda k: _shifted(k, stride), like)(of_shifted)
    return of_kernel.astype(grad.dtype)


def _outputs(size: int, kernel_size: int, stride: int, padding: tuple[int, int]) -> int:
    return (size + sum(padding) - kernel_size) // stride + 1


def _patches(
    inputs: Float[Array, "b h w c"], kernel_size: tuple[int, ...], stride: int, padding: Padding
) -> Float[Array, "b h2 n k"]:
    """Lays side by side the columns that a block reads, of each of the kernel's rows."""
    rows, columns = kernel_size
    batch, height, width, channels = inputs.shape
    high = _outputs(height, rows, stride, padding[0])
    count = -(-_outputs(width, columns, stride, padding[1]) // _BLOCK)
    step = _BLOCK * stride
    (top, _), (left, _) = padding
    below = max(0, (high - 1) * stride + rows - height - top)
    right = (count + 1) * step - width - left
    padded = jnp.pad(inputs, ((0, 0), (top, below), (left, right), (0, 0)))
    shape = (batch, padded.shape[1], count, step * channels)
    own = padded[:, :, : count * step].reshape(shape)
    following = padded[:, :, step:].reshape(shape)[..., : (columns - stride) * channels]
    parts = [
        part[:, row : row + (high - 1) * stride + 1 : stride]
        for row in range(rows)
        for part in (own, following)
    ]
    return jnp.concatenate(parts, axis=-1)


def _shifted(kernel: Float[Array, "kh kw c d"], stride: int) -> Float[Array, "k 4*d"]:
    """Returns the kernel as each of a block's outputs sees the block's patch."""
    last = (_BLOCK - 1) * stride
    kernels = [
        jnp.pad(kernel, ((0, 0), (shift, last - shift), (0, 0), (0, 0)))
        for shift in range(0, last + 1, stride)
    ]
    return jnp.stack(kernels, axis=3).reshape(-1, _BLOCK * kernel.shape[3])
