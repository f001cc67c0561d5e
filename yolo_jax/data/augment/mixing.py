"""Several images in one: mosaic, mixup, and copies of small objects."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from yolo_jax.core.boxes import box_intersection_xyxy
from yolo_jax.data.augment.placement import Region

# What becomes of a group of images: the first alone; four around a point; two blended; or the first
# with small objects of the second.
ALONE, MOSAIC, MIXUP, COPY = range(4)
# The images of a group that each of them shows.
IMAGES = (1, 4, 2, 2)

# Of the output: quadrants meet where darknet's do (data.c, `min_offset`).
_LEAST_QUADRANT = 0.2
# Of the beta distribution that mixup's ratio is drawn from, as Ultralytics does: near a half, so
# that the objects of both images can be seen.
_BETA = 32.0


def draw_regions(
    key: Key[Array, ""], mix: Int[Array, ""], images: int, output_shape: tuple[int, int]
) -> Region:
    """Draws the regions `[k]` of the output that show a group's images.

    They are all of it, or of a mosaic the upper left, upper right, lower left and lower right
    parts, which meet in a whole pixel.
    """
    output = jnp.asarray(output_shape, jnp.float32)
    size = jnp.tile(output, (images, 1))
    if images < IMAGES[MOSAIC]:
        return Region(jnp.zeros_like(size), size)
    place = jax.random.uniform(key, (2,), minval=_LEAST_QUADRANT, maxval=1 - _LEAST_QUADRANT)
    centre = jnp.round(place * output)
    is_second = jnp.array([[0, 0], [0, 1], [1, 0], [1, 1]], bool)
    low, quadrant = jnp.where(is_second, centre, 0), jnp.where(is_second, output - centre, centre)
    return Region(*(jnp.where(mix == MOSAIC, low, 0), jnp.where(mix == MOSAIC, quadrant, size)))


def draw_shares(key: Key[Array, ""], mix: Int[Array, ""], images: int) -> Float[Array, "images"]:
    """Draws how much of each image of a group is seen, where its region is."""
    first = (jnp.arange(images) == 0).astype(jnp.float32)
    if images == 1:
        return first
    ratio = jax.random.beta(key, _BETA, _BETA)
    blended = jnp.zeros(images).at[:2].set(jnp.stack([ratio, 1 - ratio]))
    return jnp.where(mix == MOSAIC, 1, jnp.where(mix == MIXUP, blended, first))


def copied(
    boxes: Float[Array, "t 4"],
    kept: Bool[Array, "t"],
    partner: Float[Array, "t 4"],
    partner_kept: Bool[Array, "t"],
    greatest_px: float | Array,
) -> Bool[Array, "t"]:
    """Tells which of a partner's boxes are small, and free of the image's own boxes.

    Args:
        boxes: of the image, xyxy, px.
        kept: which of them are no padding.
        partner: its boxes.
        partner_kept: which of them are no padding.
        greatest_px: longer side of a small box.
    """
    small = (partner[:, 2:] - partner[:, :2]).max(axis=1) <= greatest_px
    shared = box_intersection_xyxy(whole_pixels(partner)[:, None], boxes[None])
    return partner_kept & small & ~((shared > 0) & kept).any(axis=1)


def whole_pixels(boxes: Float[Array, "t 4"]) -> Float[Array, "t 4"]:
    """Widens xyxy boxes to whole pixels."""
    return jnp.concatenate([jnp.floor(boxes[:, :2]), jnp.ceil(boxes[:, 2:])], axis=1)
