"""3×3 convolutions of stride 1 on a CPU, by Winograd's minimal filtering.

F(m×m, 3×3) makes a tile of m×m outputs from (m + 2)² products where 9·m² are usual: 2.25 times
fewer with m = 2, 4 times fewer with m = 4. Inputs and kernels are brought into the tiles' domain,
multiplied there as (m + 2)² matrices, and brought back; every step is a matrix product, or moves
whole rows of channels, so that little has to be compiled. The sums around the products cost
accuracy: with m = 2 the error is about float32's usual one, with m = 4 four times that, and up to
ten times in the inputs' gradient. Arithmetic is float32 whatever the arrays' dtype, for the sums
would leave bfloat16 nothing.

Source: Lavin and Gray, Fast Algorithms for Convolutional Neural Networks (2015), sections 4 and 5;
of the points, Barabasz et al., Error Analysis and Improving the Accuracy of Winograd Convolution
for Deep Neural Networks (2020).
"""

import math
from collections.abc import Sequence
from fractions import Fraction

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from yolo_jax.networks import cpu_convolution
from yolo_jax.networks.cpu_convolution import Padding

Matrix = tuple[tuple[float, ...], ...]

# By m: where the polynomials behind the transforms are evaluated, beside infinity. Whole numbers
# are usual; with these m = 4 has a quarter of their error, since powers stay of one size.
_POINTS = {
    2: (Fraction(0), Fraction(1), Fraction(-1)),
    4: (Fraction(0), Fraction(3, 4), Fraction(-3, 4), Fraction(3, 2), Fraction(-3, 2)),
}


def _transforms(points: tuple[Fraction, ...]) -> tuple[Matrix, Matrix, Matrix]:
    """Returns what a row of inputs, of the kernel and of products is multiplied by: Bᵀ, G, Aᵀ."""
    outputs = len(points) - 1
    inputs, kernel = [], []
    for point in points:
        others = [other for other in points if other != point]
        scale = math.prod((point - other for other in others), start=Fraction(1))
        inputs.append([*_with_roots(others), Fraction(0)])
        kernel.append([point**power / scale for power in range(3)])
    inputs.append(_with_roots(points))
    kernel.append([Fraction(0), Fraction(0), Fraction(1)])
    products = [
        [*(point**power for point in points), Fraction(power == outputs - 1)]
        for power in range(outputs)
    ]
    return _floats(inputs), _floats(kernel), _floats(products)


def _with_roots(roots: Sequence[Fraction]) -> list[Fraction]:
    """Returns the coefficients of the polynomial ∏ (x − root), the constant first."""
    found = [Fraction(1)]
    for root in roots:
        found = [low - root * high for low, high in zip([0, *found], [*found, 0], strict=True)]
    return found


def _floats(rows: list[list[Fraction]]) -> Matrix:
    return tuple(tuple(float(number) for number in row) for row in rows)


_INPUTS, _KERNEL, _PRODUCTS = (
    {tile: _transforms(points)[which] for tile, points in _POINTS.items()} for which in range(3)
)


def forward_by_winograd(
    inputs: Float[Array, "b h w c"],
    kernel: Float[Array, "3 3 c d"],
    stride: int,
    padding: Padding,
    *,
    tile: int,
) -> Float[Array, "b h2 w2 d"]:
    """Convolves with tiles of `tile` × `tile` outputs, 2 or 4; `stride` must be 1."""
    _check(kernel, stride)
    return convolve_transformed(inputs, transform_kernel(kernel, tile), padding, tile)


def input_gradient_by_winograd(
    inputs: Float[Array, "b h w c"],
    kernel: Float[Array, "3 3 c d"],
    grad: Float[Array, "b h2 w2 d"],
    stride: int,
    padding: Padding,
    *,
    tile: int,
) -> Float[Array, "b h w c"]:
    """Takes the inputs' gradient: `grad` convolved with the kernel turned by 180°."""
    del inputs
    _check(kernel, stride)
    turned = tuple(row[::-1] for row in _KERNEL[tile])
    (top, bottom), (left, right) = padding
    around = (2 - top, 2 - bottom), (2 - left, 2 - right)
    return _convolve(grad, _transformed(turned, kernel), around, tile, summed=2)


def kernel_gradient_by_winograd(
    inputs: Float[Array, "b h w c"],
    kernel: Float[Array, "3 3 c d"],
    grad: Float[Array, "b h2 w2 d"],
    stride: int,
    padding: Padding,
    *,
    tile: int,
) -> Float[Array, "3 3 c d"]:
    """Takes the kernel's gradient; each step of the forward way is transposed."""
    _check(kernel, stride)
    total = jnp.zeros(((tile + 2) ** 2, *kernel.shape[2:]), jnp.float32)
    bands = _Bands(grad.shape, max(kernel.shape[2:]), tile, at_least=total.nbytes)

    def add(total: Array, group: tuple[Array, Array]) -> tuple[Array, None]:
        inputs, grad = group
        parts = _interleaved(grad, tile).reshape(tile * tile, -1, grad.shape[-1])
        products = _by_rows_and_columns(_transposed(_PRODUCTS[tile]), parts)
        tiles = _transformed_tiles(inputs, tile)
        return total + lax.dot_general(tiles, products, (((1,), (1,)), ((0,), (0,)))), None

    groups = bands.of_inputs(inputs, padding), bands.of_outputs(grad)
    taps = _by_rows_and_columns(_transposed(_KERNEL[tile]), lax.scan(add, total, groups)[0])
    return taps.reshape(kernel.shape).astype(grad.dtype)


def _check(kernel: Array, stride: int) -> None:
    if kernel.shape[:2] != (3, 3) or stride != 1:
        size = "×".join(map(str, kernel.shape[:2]))
        raise ValueError(f"Winograd's way takes 3×3 kernels of stride 1, not {size} of {stride}")


def transform_kernel(kernel: Float[Array, "3 3 c d"], tile: int) -> Float[Array, "n2 c d"]:
    """Brings a kernel into the tiles' domain, where it has (tile + 2)² matrices; float32."""
    return _transformed(_KERNEL[tile], kernel)


def convolve_transformed(
    inputs: Float[Array, "b h w c"],
    transformed: Float[Array, "n2 c d"],
    padding: Padding,
    tile: int,
) -> Float[Array, "b h2 w2 d"]:
    """Convolves with a kernel that `transform_kernel` made with the same tile; stride is 1."""
    return _convolve(inputs, transformed, padding, tile, summed=1)


def _convolve(
    inputs: Float[Array, "b h w s"], transformed: Array, padding: Padding, tile: int, *, summed: int
) -> Float[Array, "b h2 w2 d"]:
    """Convolves with a transformed kernel, of whose axes 1 and 2 one is summed over."""
    height, width = (
        size + sum(pad) - 2 for size, pad in zip(inputs.shape[1:3], padding, strict=True)
    )
    filters = transformed.shape[3 - summed]
    bands = _Bands((len(inputs), height, width, filters), max(transformed.shape[1:]), tile)

    def convolve(group: Float[Array, "g h+2 w+2 c"]) -> Float[Array, "g h w d"]:
        tiles = _transformed_tiles(group, tile)
        # Turned beforehand it would be copied, and once more for the loop.
        products = lax.dot_general(tiles, transformed, (((2,), (summed,)), ((0,), (0,))))
        outputs = _by_rows_and_columns(_PRODUCTS[tile], products)
        outputs = outputs.reshape(tile, tile, len(group), bands.rows, bands.columns, filters)
        outputs = outputs.transpose(2, 3, 0, 4, 1, 5)
        return outputs.reshape(len(group), bands.rows * tile, bands.columns * tile, filters)

    return bands.whole(lax.map(convolve, bands.of_inputs(inputs, padding))).astype(inputs.dtype)


class _Bands:
    """How a batch is cut into groups whose tiles stay in the processor's cache.

    Large images are cut into bands of rows, the tiles' rows shared evenly; of small ones some make
    a group.

    Attributes:
        rows: of tiles in a band.
        columns: of tiles.
    """

    def __init__(
        self, outputs: tuple[int, ...], channels: int, tile: int, at_least: float = 0
    ) -> None:
        self.outputs, self._tile = outputs, tile
        batch, height, width, _ = outputs
        rows, self.columns = -(-height // tile), -(-width // tile)
        row_bytes = 4 * (tile + 2) ** 2 * self.columns * channels
        most = max(cpu_convolution.CACHED_BYTES, at_least)
        self._number = min(rows, math.ceil(rows * row_bytes / most))
        self.rows = -(-rows // self._number)
        self._number = -(-rows // self.rows)
        count = batch * self._number
        self._group = cpu_convolution.images_at_once(count, self.rows * row_bytes, at_least)

    def of_inputs(
        self, inputs: Float[Array, "b h w c"], padding: Padding
    ) -> Float[Array, "n g rows*m+2 columns*m+2 c"]:
        """Returns the groups' inputs, which overlap by two rows."""
        size = self.rows * self._tile
        padded = self._padded(inputs, (padding[0][0], padding[1][0]), 2)
        cut = [padded[:, n * size : (n + 1) * size + 2] for n in range(self._number)]
        return self._grouped(jnp.stack(cut, 1))

    def of_outputs(self, values: Float[Array, "b h w d"]) -> Float[Array, "n g rows*m columns*m d"]:
        """Returns the groups' outputs, or their gradients."""
        return self._grouped(self._padded(values, (0, 0), 0))

    def whole(self, groups: Float[Array, "n g rows*m columns*m d"]) -> Float[Array, "b h w d"]:
        """Returns the batch that groups of outputs make."""
        batch, height, width, filters = self.outputs
        return groups.reshape(batch, -1, groups.shape[-2], filters)[:, :height, :width]

    def _padded(self, values: Array, before: tuple[int, int], more: int) -> Float[Array, "b h w c"]:
        sizes = (self._number * self.rows * self._tile, self.columns * self._tile)
        widths = [
            (first, size + more - first - there, 0)
            for first, size, there in zip(before, sizes, values.shape[1:3], strict=True)
        ]
        zero = jnp.zeros((), jnp.float32)
        return lax.pad(values.astype(jnp.float32), zero, [(0, 0, 0), *widths, (0, 0, 0)])

    def _grouped(self, values: Array) -> Float[Array, "n g h w c"]:
        count = self.outputs[0] * self._number
        rows = values.size // (count * math.prod(values.shape[-2:]))
        return values.reshape(count // self._group, self._group, rows, *values.shape[-2:])


def _transformed_tiles(inputs: Float[Array, "g h+2 w+2 c"], tile: int) -> Float[Array, "n2 t c"]:
    """Returns the (tile + 2)² transformed values behind each tile of outputs."""
    rest = (0, tile - 2)
    parts = _interleaved(jnp.pad(inputs, ((0, 0), rest, rest, (0, 0))), tile)
    parts = jnp.concatenate([parts[:, :, :, :-1], parts[:2, :, :, 1:]], 0)
    parts = jnp.concatenate([parts[:, :, :, :, :-1], parts[:, :2, :, :, 1:]], 1)
    return _by_rows_and_columns(_INPUTS[tile], parts.reshape((tile + 2) ** 2, -1, inputs.shape[-1]))


def _interleaved(values: Float[Array, "b h w c"], tile: int) -> Float[Array, "m m b h/m w/m c"]:
    """Returns of each `tile` × `tile` values the one at each place."""
    batch, height, width, channels = values.shape
    split = values.reshape(batch, height // tile, tile, width // tile, tile, channels)
    return split.transpose(2, 4, 0, 1, 3, 5)


def _transformed(matrix: Matrix, kernel: Float[Array, "3 3 c d"]) -> Float[Array, "n2 c d"]:
    return _by_rows_and_columns(matrix, kernel.astype(jnp.float32).reshape(9, *kernel.shape[2:]))


def _by_rows_and_columns(matrix: Matrix, grid: Float[Array, "n2 a b"]) -> Float[Array, "m2 a b"]:
    """Returns matrix · grid · matrixᵀ for a grid of n×n arrays, laid out row by row."""
    both = np.kron(np.array(matrix, np.float32), np.array(matrix, np.float32))
    return jnp.dot(both, grid.reshape(len(grid), -1)).reshape(-1, *grid.shape[1:])


def _transposed(matrix: Matrix) -> Matrix:
    return tuple(zip(*matrix, strict=True))
