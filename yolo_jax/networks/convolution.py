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


def darknet_padding(kernel_size: int, stride: int) -> Padding:
    """Returns Darknet's padding: as much before as after, but left and top alone on stride 2.

    Darknet pads k // 2 on both sides and rounds the output size down, so on inputs of even size
    a stride of 2 never reads the right and bottom padding.
    """
    before = kernel_size // 2
    after = before if stride == 1 else 0
    return (before, after), (before, after)


def forward_by_xla(
    inputs: Float[Array, "b h w c"],
    kernel: Float[Array, "kh kw c d"],
    stride: int,
    padding: Padding,
) -> Float[Array, "b h2 w2 d"]:
    """Convolves by XLA's own operation."""
    return lax.conv_general_dilated(
        inputs,
        kernel,
        window_strides=(stride, stride),
        padding=padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
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


def max_pool_2x2(inputs: Float[Array, "b h w c"], stride: int) -> Float[Array, "b h2 w2 c"]:
    """Takes the maximum of 2×2 windows; on stride 1 Darknet pads right and bottom with −∞.

    On stride 2 height and width must be even. Of equal values in a window the first has the
    gradient then, as in Darknet and PyTorch; on stride 1 they share it.
    """
    if _PLAIN.value:
        # Of a window of 2 "SAME" pads right and bottom alone, and on stride 2 nothing.
        return nnx.max_pool(inputs, window_shape=(2, 2), strides=(stride, stride), padding="SAME")
    if stride == 2:
        return _pool_halving(inputs)
    padding = ((0, 0), (0, 1), (0, 1), (0, 0))
    padded = jnp.pad(inputs, padding, constant_values=-jnp.inf)
    # Slices: the gradient of XLA's window reduction is nine times slower on CPU.
    rows = jnp.maximum(padded[:, :-1], padded[:, 1:])
    return jnp.maximum(rows[:, :, :-1], rows[:, :, 1:])


def spatial_pyramid(inputs: Float[Array, "b h w c"]) -> Float[Array, "b h w 4*c"]:
    """Puts the maxima of 13×13, 9×9 and 5×5 windows around each place before its own channels.

    Windows end at the border. Source: darknet's yolov3-spp.cfg.
    """
    by_5 = _max_of_5x5(inputs)
    by_9 = _max_of_5x5(by_5)  # a maximum of maxima
    return jnp.concatenate([_max_of_5x5(by_9), by_9, by_5, inputs], axis=-1)


def _max_of_5x5(values: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    for axis in (1, 2):
        around = [(0, 0)] * 4
        around[axis] = (2, 2)
        padded = jnp.pad(values, around, constant_values=-jnp.inf)
        size = values.shape[axis]
        # Slices: as in `max_pool_2x2`.
        windows = [lax.slice_in_dim(padded, i, i + size, axis=axis) for i in range(5)]
        values = reduce(jnp.maximum, windows)
    return values


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


def upsample_2x(inputs: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w c"]:
    """Repeats every pixel twice along rows and columns."""
    batch, height, width, channels = inputs.shape
    shape = (batch, height, 2, width, 2, channels)
    repeated = jnp.broadcast_to(inputs[:, :, None, :, None], shape)
    return repeated.reshape(batch, 2 * height, 2 * width, channels)
