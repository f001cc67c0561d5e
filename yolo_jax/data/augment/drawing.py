"""The pixels of a group of images, drawn as one."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree, UInt8

from yolo_jax.data.augment.placement import Region
from yolo_jax.data.augment.resample import resample


class Drawing(NamedTuple):
    """What is drawn of a group.

    Attributes:
        rows: of each image that the output's rows show, in indices of its pixels.
        columns: the same.
        shares: how much of each image is seen.
        regions: of the output, `[k]`, that show them.
        patches: boxes that show the second image in place of the first, xyxy in whole px of the
            output; empty ones show nothing. None: there are no such boxes.
    """

    rows: Float[Array, "*b k h2"]
    columns: Float[Array, "*b k w2"]
    shares: Float[Array, "*b k"]
    regions: Region
    patches: Float[Array, "*b t 4"] | None


def draw(images: UInt8[Array, "k h w 3"], drawing: Drawing) -> Float[Array, "h2 w2 3"]:
    """Returns what a group shows, as values of 0–255.

    Args:
        images: of the group.
        drawing: how.
    """
    if len(images) == 1:
        return resample(images[0], drawing.rows[0], drawing.columns[0])

    def add(pixels: Array, part: tuple[Array, ...]) -> tuple[Array, None]:
        *grid, weight = part
        # Under `vmap` all are sampled; one by one, those that are seen.
        pixels = jax.lax.cond(
            weight.any(),
            lambda pixels: pixels + weight[..., None] * resample(*grid),
            lambda pixels: pixels,
            pixels,
        )
        return pixels, None

    blank = jnp.zeros((drawing.rows.shape[-1], drawing.columns.shape[-1], 3))
    parts = images, drawing.rows, drawing.columns, _weights(drawing)
    return jax.lax.scan(add, blank, parts)[0]


def each_alone(function: Callable[..., Array], *batch: PyTree) -> Array:
    """Maps a function over the rows of a batch: `jax.vmap`, but row by row on a CPU.

    So images that are not seen cost nothing there, and XLA cannot fuse the drawing into what
    follows, which would draw once for each use of a pixel: for the network's first layer, and
    again for that layer's gradient.
    """
    return jax.lax.platform_dependent(
        *batch,
        cpu=lambda *batch: jax.lax.map(lambda row: function(*row), batch),
        default=jax.vmap(function),
    )


def _weights(drawing: Drawing) -> Float[Array, "k h2 w2"]:
    """Returns how much of each image is seen at each pixel of the output."""
    rows, columns = (
        _covers(drawing.regions.low[:, axis], drawing.regions.size[:, axis], size.shape[-1])
        for axis, size in enumerate((drawing.rows, drawing.columns))
    )
    weights = drawing.shares[:, None, None] * rows[:, :, None] * columns[:, None, :]
    if drawing.patches is None:
        return weights
    low, high = drawing.patches[:, :2], drawing.patches[:, 2:]
    columns, rows = (
        _covers(low[:, axis], (high - low)[:, axis], size.shape[-1]).astype(jnp.float32)
        for axis, size in enumerate((drawing.columns, drawing.rows))
    )
    # A product of matrices counts the patches over each pixel.
    patched = jnp.minimum(jnp.einsum("th,tw->hw", rows, columns), 1)
    return weights.at[0].add(-patched).at[1].add(patched)


def _covers(
    low: Float[Array, "n"], size: Float[Array, "n"], length: int
) -> Bool[Array, "n length"]:
    """Tells which of an axis's pixels each of some ranges covers."""
    index = jnp.arange(length)
    return (index >= low[:, None]) & (index < (low + size)[:, None])
