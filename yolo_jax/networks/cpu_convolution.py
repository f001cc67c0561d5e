"""Ways to convolve on a CPU, and to take a convolution's gradients, by matrix products.

XLA's CPU back end runs large matrix products at the machine's speed, and convolutions at a third
of it or less, their gradients above all. Each function here is equal to XLA's own; which is the
faster depends on the shapes, so `convolution` asks a table that `yolo-jax bench convolution` makes.

Images are taken a few at a time: the patches of those stay in the processor's cache, those of a
batch would not.
"""

import math
from functools import partial

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Padding = tuple[tuple[int, int], tuple[int, int]]

# Of what is computed at once before a matrix product, or behind it.
CACHED_BYTES = 12e6
# Of fewer a product is taken as it stands.
_MANY_ROWS = 4096


def forward_by_product(
    inputs: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw c d"],
    stride: int,
    padding: Padding,
) -> Float[Array, "b h2 w2 d"]:
    """Convolves as matrix products of the images' patches and the kernel."""
    rows, columns, channels, filters = kernel.shape
    if rows == columns == stride == 1:
        return jnp.dot(inputs, kernel[0, 0])
    matrix = kernel.reshape(rows * columns * channels, filters)

    def convolve(images: Float[Array, "g h w c"]) -> Float[Array, "g h2 w2 d"]:
        return jnp.dot(_patches(images, rows, columns, stride, padding), matrix)

    outputs = lax.map(convolve, _grouped(inputs, kernel, stride))
    return outputs.reshape(len(inputs), *outputs.shape[2:])


def kernel_gradient_by_product(
    inputs: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw c d"],
    grad: Float[Array, "b h2 w2 d"],
    stride: int,
    padding: Padding,
) -> Float[Array, "kh kw c d"]:
    """Takes the kernel's gradient as matrix products of the images' patches and `grad`."""
    rows, columns, channels, filters = kernel.shape
    if rows == columns == stride == 1:
        flat = inputs.reshape(-1, channels), grad.reshape(-1, filters)
        return sum_over_rows(*flat).reshape(kernel.shape).astype(grad.dtype)

    def add(total: Array, group: tuple[Array, Array]) -> tuple[Array, None]:
        images, grad = group
        patches = _patches(images, rows, columns, stride, padding)
        patches = patches.reshape(-1, patches.shape[-1])
        return total + sum_over_rows(patches, grad.reshape(-1, filters)), None

    total = jnp.zeros(
        (rows * columns * channels, filters), jnp.promote_types(grad.dtype, jnp.float32)
    )
    images = _grouped(inputs, kernel, stride, at_least=4 * kernel.size)
    groups = images, grad.reshape(*images.shape[:2], *grad.shape[1:])
    return lax.scan(add, total, groups)[0].reshape(kernel.shape).astype(grad.dtype)


def sum_over_rows(left: Float[Array, "m c"], right: Float[Array, "m d"]) -> Float[Array, "c d"]:
    """Returns leftᵀ · right, of bfloat16 too in float32: there may be many rows.

    Of many rows XLA lays the first operand out anew, on one core: so the narrower one comes first,
    and the rows' halves are taken at once, which keeps XLA from exchanging them.
    """
    dtype = jnp.promote_types(left.dtype, jnp.float32)
    if len(left) < _MANY_ROWS or len(left) % 2:
        return jnp.dot(left.T, right, preferred_element_type=dtype)
    left, right = (part.reshape(2, -1, part.shape[-1]) for part in (left, right))
    sums = partial(jnp.einsum, preferred_element_type=dtype)
    if left.shape[-1] <= right.shape[-1]:
        return sums("nmc,nmd->ncd", left, right).sum(0)
    return sums("nmc,nmd->ndc", left, right).sum(0).T


def input_gradient_by_product(
    inputs: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw c d"],
    grad: Float[Array, "b h2 w2 d"],
    stride: int,
    padding: Padding,
) -> Float[Array, "b h w c"]:
    """Takes the inputs' gradient as matrix products, which give patches that are added up."""
    rows, columns, channels, filters = kernel.shape
    if rows == columns == stride == 1:
        return jnp.dot(grad, kernel[0, 0].T)
    matrix = kernel.reshape(rows * columns * channels, filters)
    (top, _), (left, _) = padding
    height, width = inputs.shape[1:3]

    def spread(grad: Float[Array, "g h2 w2 d"]) -> Float[Array, "g h w c"]:
        # Turned within the loop, where the product takes it as it is: outside it would be copied.
        patches = jnp.dot(grad, matrix.T).reshape(*grad.shape[:3], rows, columns, channels)
        # Of each of stride² interleaved grids the positions of the kernel that reach it.
        lines = [
            jnp.stack(
                [
                    _sum_of_taps(patches, _taps(row, top, rows, stride),
                                 _taps(column, left, columns, stride),
                                 (-(-height // stride), -(-width // stride)))
                    for column in range(stride)
                ],
                axis=3,
            )
            for row in range(stride)
        ]  # fmt: skip
        grids = jnp.stack(lines, axis=2)
        high, _, wide = grids.shape[1:4]
        whole = grids.reshape(len(grad), high * stride, wide * stride, channels)
        return whole[:, :height, :width]

    groups = _grouped(inputs, kernel, stride).shape[:2]
    grads = lax.map(spread, grad.reshape(*groups, *grad.shape[1:]))
    return grads.reshape(len(inputs), *grads.shape[2:])


def _grouped(
    images: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw c d"],
    stride: int,
    at_least: float = 0,
) -> Float[Array, "n g h w c"]:
    """Splits a batch into groups of images whose patches stay in the cache, or in so many bytes."""
    patches = -(-images[0].size // stride**2) * kernel.shape[0] * kernel.shape[1]
    size = images_at_once(len(images), 4 * patches, at_least)
    return images.reshape(-1, size, *images.shape[1:])


def images_at_once(batch: int, bytes_each: float, at_least: float = 0) -> int:
    """Returns the most images that divide the batch and stay in the cache; at least one.

    Args:
        batch: images.
        bytes_each: that an image takes.
        at_least: bytes that may be taken though the cache were smaller. What each group is added to
            is read and written for each: that should not be more than the group itself.
    """
    fitting = max(1, math.floor(max(CACHED_BYTES, at_least) / bytes_each))
    return max(size for size in range(1, min(batch, fitting) + 1) if batch % size == 0)


def _patches(
    images: Float[Array, "g h w c"], rows: int, columns: int, stride: int, padding: Padding
) -> Float[Array, "g h2 w2 k"]:
    """Lays the images' shifted copies side by side, one for each of the kernel's positions."""
    padded = jnp.pad(images, ((0, 0), *padding, (0, 0)))
    high, wide = (padded.shape[1] - rows) // stride, (padded.shape[2] - columns) // stride
    shifted = [
        padded[
            :,
            row : row + high * stride + 1 : stride,
            column : column + wide * stride + 1 : stride,
        ]
        for row in range(rows)
        for column in range(columns)
    ]
    return jnp.concatenate(shifted, axis=-1)


def _taps(phase: int, before: int, size: int, stride: int) -> list[tuple[int, int]]:
    """Returns which of the kernel's positions reach inputs of a phase, and from which output.

    Input `m * stride + phase` is read at position `k` by output `m + shift`.
    """
    return [
        (position, (phase + before - position) // stride)
        for position in range(size)
        if (phase + before - position) % stride == 0
    ]


def _sum_of_taps(
    patches: Float[Array, "g h2 w2 kh kw c"],
    row_taps: list[tuple[int, int]],
    column_taps: list[tuple[int, int]],
    shape: tuple[int, int],
) -> Float[Array, "g h w c"]:
    zeros = jnp.zeros((len(patches), *shape, patches.shape[-1]), patches.dtype)
    return sum(
        (
            _shifted(patches[:, :, :, row, column], (down, right), shape)
            for row, down in row_taps
            for column, right in column_taps
        ),
        zeros,
    )


def _shifted(
    values: Float[Array, "g h2 w2 c"], shift: tuple[int, int], shape: tuple[int, int]
) -> Float[Array, "g h w c"]:
    """Returns values[m + shift] for m from 0 to the shape, and 0 where there is none."""
    widths = [
        (-first, first + wanted - size, 0)
        for first, wanted, size in zip(shift, shape, values.shape[1:3], strict=True)
    ]
    return lax.pad(values, jnp.zeros((), values.dtype), [(0, 0, 0), *widths, (0, 0, 0)])
