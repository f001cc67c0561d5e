"""Where an image comes to lie on the output, and its boxes with it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from yolo_jax.core.boxes import box_area_xyxy


class Region(NamedTuple):
    """A part of the output, in (y, x) order.

    Attributes:
        low: its first corner, px.
        size: px.
    """

    low: Float[Array, "*k 2"]
    size: Float[Array, "*k 2"]


class Placement(NamedTuple):
    """How canvases lie in their regions: canvas · scale + shift, then mirrored; (y, x) order.

    Attributes:
        region: of the output that shows a canvas.
        scale: px of the region for one of the canvas.
        shift: of the canvas's corner from the region's, px of the region.
        mirror: swap the ends of the axis.
    """

    region: Region
    scale: Float[Array, "*k 2"]
    shift: Float[Array, "*k 2"]
    mirror: Bool[Array, "*k 2"]

    def positions(self, axis: int, size: int) -> Float[Array, "*k size"]:
        """Returns where on a canvas the output's px along an axis lie, in indices of its px."""
        low, length, scale, shift, mirror = (
            part[..., axis, None] for part in (*self.region, self.scale, self.shift, self.mirror)
        )
        centres = jnp.arange(size) + 0.5 - low
        centres = jnp.where(mirror, length - centres, centres)
        return (centres - shift) / scale - 0.5

    def boxes(
        self, boxes: Float[Array, "*k t 4"], least_px: float | Array, least_area: float | Array
    ) -> tuple[Float[Array, "*k t 4"], Bool[Array, "*k t"]]:
        """Moves boxes from the canvas to the output.

        Args:
            boxes: xyxy, px of the canvas.
            least_px: of a box's width and height on the output.
            least_area: share of its area that a box has to keep.

        Returns:
            Boxes clipped to the region, xyxy in px of the output, and which of them are to stay.
        """
        low, length, scale, shift, mirror = (
            jnp.concatenate([part[..., None, ::-1]] * 2, axis=-1)
            for part in (*self.region, self.scale, self.shift, self.mirror)
        )
        boxes = boxes * scale + shift
        full_area = box_area_xyxy(boxes)
        boxes = jnp.clip(boxes, 0, length)
        size = boxes[..., 2:] - boxes[..., :2]
        kept = (size >= least_px).all(axis=-1) & (box_area_xyxy(boxes) >= least_area * full_area)
        boxes = jnp.where(mirror, length - boxes[..., jnp.array([2, 3, 0, 1])], boxes)
        return boxes + low, kept


def draw_crop(
    key: Key[Array, ""], sides: tuple[float | Array, float | Array], output: Float[Array, "2"]
) -> Float[Array, "2"]:
    """Draws a window of the output's aspect whose longer side is within `sides`, px of the canvas.

    Args:
        key: decides the side.
        sides: least and greatest.
        output: its (height, width), px.
    """
    side = jax.random.uniform(key, minval=sides[0], maxval=sides[1])
    return side * output / output.max()


def draw_scaled(
    keys: tuple[Key[Array, ""], Key[Array, ""]],
    scales: tuple[float | Array, float | Array],
    jitter: float | Array,
    canvas: Float[Array, "2"],
    output: Float[Array, "2"],
) -> Float[Array, "2"]:
    """Draws the window that shows the canvas at a random scale and aspect, as keras-yolo3 does.

    Its longer side becomes the output's times the scale, its aspect the output's times
    (1 ± jitter) / (1 ± jitter).

    Source: qqwweee/keras-yolo3, yolo3/utils.py, `get_random_data`.

    Args:
        keys: decide the scale and the aspect.
        scales: least and greatest.
        jitter: greatest change.
        canvas: its (height, width), px.
        output: the same of the output.
    """
    scale = jax.random.uniform(keys[0], minval=scales[0], maxval=scales[1])
    above, below = jax.random.uniform(keys[1], (2,), minval=1 - jitter, maxval=1 + jitter)
    aspect = above / below
    is_wide = output[1] * aspect >= output[0]
    # The canvas's size on the output, as a share of the output's.
    shown = jnp.where(
        is_wide, jnp.stack([1 / aspect, jnp.ones(())]), jnp.stack([jnp.ones(()), aspect])
    )
    return canvas / (scale * shown)
