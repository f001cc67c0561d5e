"""The one convolution that every block uses, with pooling and upsampling beside it.

On CPU a convolution and its two gradients are each taken in the fastest of five ways: XLA's own, a
matrix product (`cpu_convolution`), one of blocks of columns (`cpu_blocks`), or Winograd's with
tiles of 2 or of 4 (`winograd`), by the table that `yolo-jax bench convolution` makes. Elsewhere
they are XLA's.
The choice is made at lowering (`lax.platform_dependent`): a program lowered for TPU on a CPU
machine gets TPU's. `plain_operations` leaves XLA's on every platform, for programs that are
exported.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache, partial, reduce

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, UInt8

from yolo_jax.networks.cpu_blocks import forward_by_blocks, kernel_gradient_by_blocks
from yolo_jax.networks.cpu_convolution import (
    Padding,
    forward_by_product,
    input_gradient_by_product,
    kernel_gradient_by_product,
)
from yolo_jax.networks.cpu_table import WAYS
from yolo_jax.networks.winograd import (
    forward_by_winograd,
    input_gradient_by_winograd,
    kernel_gradient_by_winograd,
)


def darknet_padding(
    kernel_size: int, stride: int, sides: tuple[int, int] = (0, 0), before: int | None = None
) -> Padding:
    """Returns Darknet's padding, less what no window reaches.

    Darknet pads as much after as before and rounds the output size down, so a 3×3 kernel of stride
    2 never reads the right and bottom padding of inputs of even size.

    Args:
        kernel_size: k.
        stride: along rows and columns.
        sides: (height, width) of the inputs; only what the stride leaves of them counts.
        before: zeros above and to the left; None: k // 2.
    """
    before = kernel_size // 2 if before is None else before

    def along(side: int) -> tuple[int, int]:
        rest = side % stride
        last = (rest + 2 * before - kernel_size) // stride * stride - before
        return before, max(0, last + kernel_size - rest)

    return along(sides[0]), along(sides[1])


def forward_by_xla(
    inputs: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw c d"],
    stride: int,
    padding: Padding,
    groups: int = 1,
) -> Float[Array, "b h2 w2 d"]:
    """Convolves by XLA's own operation; in groups of channels where the kernel takes so few."""
    return lax.conv_general_dilated(
        inputs,
        kernel,
        window_strides=(stride, stride),
        padding=padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def kernel_gradient_by_xla(
    inputs: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw c d"],
    grad: Float[Array, "b h2 w2 d"],
    stride: int,
    padding: Padding,
) -> Float[Array, "kh kw c d"]:
    """Takes the kernel's gradient by XLA's own operation."""
    return jax.vjp(lambda k: forward_by_xla(inputs, k, stride, padding), kernel)[1](grad)[0]


def input_gradient_by_xla(
    inputs: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw c d"],
    grad: Float[Array, "b h2 w2 d"],
    stride: int,
    padding: Padding,
) -> Float[Array, "b h w c"]:
    """Takes the inputs' gradient by XLA's own operation."""
    return jax.vjp(lambda x: forward_by_xla(x, kernel, stride, padding), inputs)[1](grad)[0]


WINOGRAD_TILES = {"winograd 2": 2, "winograd 4": 4}
# Forward, the kernel's gradient and the inputs' by name, as the table names them.
CPU_WAYS: dict[str, tuple[Callable[..., Array], Callable[..., Array], Callable[..., Array]]] = {
    "xla": (forward_by_xla, kernel_gradient_by_xla, input_gradient_by_xla),
    "product": (forward_by_product, kernel_gradient_by_product, input_gradient_by_product),
    "blocks": (forward_by_blocks, kernel_gradient_by_blocks, input_gradient_by_product),
    **{
        name: (
            partial(forward_by_winograd, tile=tile),
            partial(kernel_gradient_by_winograd, tile=tile),
            partial(input_gradient_by_winograd, tile=tile),
        )
        for name, tile in WINOGRAD_TILES.items()
    },
}


# A context that `jax.jit` looks at, lest it gives what it traced outside.
_PLAIN = jax.make_user_context(default_value=False)


def plain_operations() -> AbstractContextManager[None]:
    """Has what is traced within convolve and pool by one operation of XLA, on every platform.

    So an exported program has no branch for each platform, and nothing that would look at the size
    of its batch; a converter knows the operations for what they are. It is for inference: JAX's own
    gradients of them are slow.
    """
    return _PLAIN(True)


# Of fewer outputs products are the fastest: XLA's convolution takes up to forty times as long, and
# what the other ways save in the products their transforms of the kernel cost.
_FEW_POSITIONS = 256


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
    if _PLAIN.value:
        return forward_by_xla(inputs, kernel, stride, padding)
    return conv2d_traced_once(inputs, kernel, stride, padding)


def _forward(inputs: Array, kernel: Array, stride: int, padding: Padding) -> Array:
    by_xla = partial(forward_by_xla, stride=stride, padding=padding)
    best_on_cpu = partial(
        _cpu_ways(inputs, kernel, stride, padding)[0], stride=stride, padding=padding
    )
    return lax.platform_dependent(inputs, kernel, cpu=best_on_cpu, default=by_xla)


def _forward_keeping(inputs: Array, kernel: Array, stride: int, padding: Padding):
    return _forward(inputs, kernel, stride, padding), (inputs, kernel)


def _backward(stride: int, padding: Padding, residuals: tuple[Array, Array], grad: Array):
    def gradients(of_kernel: Callable[..., Array], of_inputs: Callable[..., Array]):
        def take(inputs: Array, kernel: Array, grad: Array) -> tuple[Array, Array]:
            shared = (inputs, kernel, grad, stride, padding)
            return of_inputs(*shared), of_kernel(*shared)

        return take

    best_on_cpu = gradients(*_cpu_ways(*residuals, stride, padding)[1:])
    by_xla = gradients(*CPU_WAYS["xla"][1:])
    return lax.platform_dependent(*residuals, grad, cpu=best_on_cpu, default=by_xla)


_conv2d = jax.custom_vjp(_forward, nondiff_argnums=(2, 3))
_conv2d.defvjp(_forward_keeping, _backward)
# Of the same shapes traced and lowered once, however often a network has them.
conv2d_traced_once = jax.jit(_conv2d, static_argnums=(2, 3))


def _cpu_ways(
    inputs: Array, kernel: Array, stride: int, padding: Padding
) -> list[Callable[..., Array]]:
    known = all(isinstance(size, int) for size in inputs.shape)  # else symbols, without a number
    padded_points = kernel.shape[:2] == (1, 1) and padding != ((0, 0), (0, 0))
    if not known or not inputs.size or padded_points or stride > min(kernel.shape[:2]) > 1:
        names = ("xla",) * 3  # what no network has, and the other ways make no provision for
    elif math.prod(inputs.shape[:3]) // stride**2 < _FEW_POSITIONS:
        names = ("product",) * 3
    else:
        names = ways_for(kernel.shape, stride)
    return [CPU_WAYS[name][which] for which, name in enumerate(names[:3])]


@cache
def ways_for(kernel_shape: tuple[int, int, int, int], stride: int) -> tuple[str, str, str, str]:
    """Returns in which ways a CPU convolves and takes the kernel's and the inputs' gradient.

    The fourth is that of inference, where a kernel may be transformed beforehand.

    Of a kernel that the table lacks, as the one of the same size and stride with the most similar
    channels and filters; of a size or stride that it lacks, XLA's except for the kernel's gradient.
    """
    rows, columns, channels, filters = kernel_shape

    def distance(shape: tuple[int, int, int, int]) -> float:
        return abs(math.log(shape[2] / channels)) + abs(math.log(shape[3] / filters))

    similar = [shape for shape in WAYS if shape[:2] == (rows, stride) and rows == columns]
    return WAYS[min(similar, key=distance)] if similar else ("xla", "product", "xla", "xla")


def inference_tile(kernel: Float[Array, "kh kw c d"], stride: int) -> int | None:
    """Returns the tile of Winograd's way where a CPU infers fastest by it; else None."""
    return WINOGRAD_TILES.get(ways_for(kernel.shape, stride)[3])


def max_pool(
    inputs: Float[Array, "b h w c"], size: int, stride: int, padding: int | None = None
) -> Float[Array, "b h2 w2 c"]:
    """Takes the maximum of square windows, as Darknet does: beyond the border is −∞.

    Where windows halve an even height and width, the first of equal values in one has the gradient,
    as in Darknet and PyTorch; elsewhere they share it.

    Args:
        inputs: features.
        size: of a window, rows and columns.
        stride: from window to window.
        padding: places beyond the border along an axis, half of them before, or one less; None:
            size − 1.

    Returns:
        Features of (h + padding − size) // stride + 1 rows, columns likewise.
    """
    padding = size - 1 if padding is None else padding
    halves = (size, stride, padding) == (2, 2, 1) and not any(s % 2 for s in inputs.shape[1:3])
    if _PLAIN.value and (halves or (stride == 1 and padding == size - 1)):
        shape = {"window_shape": (size, size), "strides": (stride, stride)}
        return nnx.max_pool(inputs, **shape, padding="SAME")  # its places are these
    if halves:
        return _pool_halving(inputs)
    before = padding // 2
    for axis in (1, 2):
        side = inputs.shape[axis]
        last = (side + padding - size) // stride * stride  # where the last window starts
        around = [(0, 0)] * 4
        around[axis] = before, max(0, last + size - side - before)
        padded = jnp.pad(inputs, around, constant_values=-jnp.inf)
        # Slices: the gradient of XLA's window reduction is nine times slower on CPU.
        windows = [
            lax.slice_in_dim(padded, i, i + last + 1, stride, axis=axis) for i in range(size)
        ]
        inputs = reduce(jnp.maximum, windows)
    return inputs


def spatial_pyramid(inputs: Float[Array, "b h w c"]) -> Float[Array, "b h w 4*c"]:
    """Puts the maxima of 13×13, 9×9 and 5×5 windows around each place before its own channels.

    Windows end at the border. Source: darknet's yolov3-spp.cfg.
    """
    by_5 = max_pool(inputs, 5, 1)
    by_9 = max_pool(by_5, 5, 1)  # a maximum of maxima
    return jnp.concatenate([max_pool(by_9, 5, 1), by_9, by_5, inputs], axis=-1)


@jax.custom_vjp
def _pool_halving(inputs: Float[Array, "b h w c"]) -> Float[Array, "b h/2 w/2 c"]:
    return _pool_keeping_places(inputs)[0]


def _pool_keeping_places(inputs: Array) -> tuple[Array, UInt8[Array, "b h/2 w/2 c"]]:
    corners = [inputs[:, row::2, column::2] for row in range(2) for column in range(2)]
    largest = reduce(jnp.maximum, corners)
    first, second, third, _ = (corner == largest for corner in corners)
    # A byte for four values is all that the gradient needs to keep.
    places = jnp.where(first, 0, jnp.where(second, 1, jnp.where(third, 2, 3)))
    return largest, places.astype(jnp.uint8)


def _pool_backward(places: UInt8[Array, "b h/2 w/2 c"], grad: Array) -> tuple[Array]:
    batch, height, width, channels = places.shape
    shape = (batch, height, 2, width, 2, channels)
    here = 2 * lax.broadcasted_iota(jnp.uint8, shape, 2) + lax.broadcasted_iota(jnp.uint8, shape, 4)
    spread = jnp.where(here == places[:, :, None, :, None], grad[:, :, None, :, None], 0)
    return (spread.reshape(batch, 2 * height, 2 * width, channels),)


_pool_halving.defvjp(_pool_keeping_places, _pool_backward)


def upsample(inputs: Float[Array, "b h w c"], factor: int = 2) -> Float[Array, "b h2 w2 c"]:
    """Repeats every pixel as often along rows and along columns."""
    batch, height, width, channels = inputs.shape
    shape = (batch, height, factor, width, factor, channels)
    repeated = jnp.broadcast_to(inputs[:, :, None, :, None], shape)
    return repeated.reshape(batch, factor * height, factor * width, channels)
