"""Reading an image at a grid of fractional positions: rows and columns apart, by cubics."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

# The letterbox's padding.
_GREY = 128.0
# Of the cubic, as Pillow's BICUBIC has it (Keys 1981, "Cubic convolution interpolation").
_SLOPE = -0.5


def resample(
    image: UInt8[Array, "h w 3"], rows: Float[Array, "h2"], columns: Float[Array, "w2"]
) -> Float[Array, "h2 w2 3"]:
    """Reads an image at every pair of a row and a column; beyond its edge there is grey.

    Enlarged, an image is as sharp as the letterbox makes it at detection. Neighbours are not
    averaged where the result is smaller: as in OpenCV's warps, such images are a little sharp.

    On a TPU, whose gathers are slow, by matrix products; elsewhere by gathers, which on a CPU take
    a fraction of the products' time. Both give the same within rounding.

    Args:
        image: to read.
        rows: in indices of its pixels.
        columns: the same.

    Returns:
        Values of 0–255.
    """
    return jax.lax.platform_dependent(
        image, rows, columns, tpu=resample_by_products, default=resample_by_gathers
    )


def resample_by_gathers(
    image: UInt8[Array, "h w 3"], rows: Float[Array, "h2"], columns: Float[Array, "w2"]
) -> Float[Array, "h2 w2 3"]:
    """Does `resample` by four gathers along each axis."""
    read = jnp.clip(_gather(_gather(image, rows, axis=0), columns, axis=1), 0, 255)
    height, width = image.shape[:2]
    inside = _inside(rows, height)[:, None, None] & _inside(columns, width)[:, None]
    return jnp.where(inside, read, _GREY)


def resample_by_products(
    image: UInt8[Array, "h w 3"], rows: Float[Array, "h2"], columns: Float[Array, "w2"]
) -> Float[Array, "h2 w2 3"]:
    """Does `resample` by a product with a matrix of weights along each axis.

    `jax.image.scale_and_translate` is the same without mirroring, but black beyond the edge.
    """
    highest = jax.lax.Precision.HIGHEST  # a TPU's bfloat16 has but 8 of the 8 bits and the sign
    by_rows, by_columns = _weights(rows, image.shape[0]), _weights(columns, image.shape[1])
    above_grey = image.astype(jnp.float32) - _GREY
    above_grey = jnp.einsum("ij,jwc->iwc", by_rows, above_grey, precision=highest)
    above_grey = jnp.einsum("ij,hjc->hic", by_columns, above_grey, precision=highest)
    return jnp.clip(above_grey + _GREY, 0, 255)


def _gather(
    image: Float[Array, "h w 3"] | UInt8[Array, "h w 3"], position: Float[Array, "n"], *, axis: int
) -> Float[Array, "h2 w2 3"]:
    along = [-1 if i == axis else 1 for i in range(image.ndim)]
    parts = (
        jnp.take(image, index, axis, mode="clip") * weight.reshape(along)
        for index, weight in _taps(position, image.shape[axis])
    )
    return sum(parts, jnp.zeros(()))


def _weights(position: Float[Array, "n"], length: int) -> Float[Array, "n length"]:
    """Returns what each pixel along an axis adds to the value at a position."""
    parts = (
        jnp.where(index[:, None] == jnp.arange(length), weight[:, None], 0)
        for index, weight in _taps(position, length)
    )
    return jnp.where(_inside(position, length)[:, None], sum(parts, jnp.zeros(())), 0)


def _taps(position: Float[Array, "n"], length: int) -> list[tuple[Array, Array]]:
    """Returns the indices of the four pixels about each position, and the weight of each pixel.

    Beyond the edge the last pixel goes on.
    """
    first = jnp.floor(position)
    past = position - first
    weights = (_far(1 + past), _near(past), _near(1 - past), _far(2 - past))
    indices = (jnp.clip(first + offset, 0, length - 1).astype(jnp.int32) for offset in range(-1, 3))
    return list(zip(indices, weights, strict=True))


def _near(distance: Array) -> Array:
    """Returns the weight of a pixel at a distance of 0–1."""
    return ((_SLOPE + 2) * distance - (_SLOPE + 3)) * distance**2 + 1


def _far(distance: Array) -> Array:
    """Returns the weight of a pixel at a distance of 1–2."""
    return _SLOPE * (((distance - 5) * distance + 8) * distance - 4)


def _inside(position: Float[Array, "n"], length: int) -> Array:
    """Tells which positions lie on a pixel of the image, the outer half of its last ones too."""
    return (position >= -0.5) & (position <= length - 0.5)
