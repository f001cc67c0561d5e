"""Augmentation on the device: pure functions of a key for each example."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt8

from yolo_jax.core.boxes import box_area_xyxy, clip_boxes_xyxy
from yolo_jax.core.fields import Within

# ITU-R BT.601 luma, as Pillow turns RGB to grey.
_LUMA = (0.299, 0.587, 0.114)
# The letterbox's padding.
_GREY = 128.0

_Share = Annotated[float, Within(0, 1)]
_Length = Annotated[float, Within(1)]


@dataclass(frozen=True)
class Augment:
    """Crops, flips, turns and recolours a batch; boxes follow exactly.

    Attributes:
        crop: least and greatest longer side of the random crop, which has the output's aspect, px
            of the canvas; None: all of it. What a crop shows beyond the canvas is grey.
        aspect_jitter: greatest relative change of the crop's width against its height.
        flip: probability of a left-right flip.
        quarter_turns: turn by a random multiple of 90° (square outputs).
        brightness: greatest relative change, as of the exposure.
        contrast: greatest relative change, about the image's mean.
        saturation: greatest relative change, about the grey image.
        hue: greatest turn of the hue, of the full circle.
        min_box_px: boxes narrower than this after clipping go.
        min_area: boxes that keep less than this share of their area go.

    Raises:
        ValueError: the crop's greatest side is less than its least.
    """

    crop: tuple[_Length, _Length] | None = None
    aspect_jitter: Annotated[float, Within(0, 1, below=True)] = 0.0
    flip: _Share = 0.5
    quarter_turns: bool = False
    brightness: _Share = 0.0
    contrast: _Share = 0.0
    saturation: _Share = 0.0
    hue: Annotated[float, Within(0, 0.5)] = 0.0
    min_box_px: Annotated[float, Within(0)] = 2.0
    min_area: _Share = 0.2

    def __post_init__(self) -> None:
        """Checks what no field by itself can show."""
        if self.crop is not None and self.crop[0] > self.crop[1]:
            raise ValueError(f"a crop is (least, greatest) side in px; found {self.crop}")

    def __call__(
        self,
        keys: Key[Array, "b"],
        image: UInt8[Array, "b h w 3"],
        boxes: Float[Array, "b t 4"],
        classes: Int[Array, "b t"],
        *,
        output_shape: tuple[int, int],
    ) -> tuple[Float[Array, "b h2 w2 3"], Float[Array, "b t 4"], Int[Array, "b t"]]:
        """Augments a batch.

        Args:
            keys: one for each image; nothing else decides what happens to it.
            image: RGB on the canvas.
            boxes: xyxy in pixels of the canvas.
            classes: −1 marks padding.
            output_shape: (height, width) of the result, px.

        Returns:
            Images of 0–1, boxes in their pixels, classes; boxes that went are padding.

        Raises:
            ValueError: quarter turns of an output that is not square.
        """
        if self.quarter_turns and output_shape[0] != output_shape[1]:
            raise ValueError(f"quarter turns need a square output; found {output_shape}")
        one = partial(self._one, output_shape=output_shape)
        return jax.vmap(one)(keys, image, boxes, classes)

    def _one(
        self,
        key: Array,
        image: Array,
        boxes: Array,
        classes: Array,
        *,
        output_shape: tuple[int, int],
    ) -> tuple[Array, Array, Array]:
        crop_key, flip_key, turn_key, colour_key = jax.random.split(key, 4)
        scale, shift = self._window(crop_key, (image.shape[0], image.shape[1]), output_shape)
        boxes = boxes * jnp.tile(scale[::-1], 2) + jnp.tile(shift[::-1], 2)
        full_area = box_area_xyxy(boxes)
        height, width = output_shape
        boxes = clip_boxes_xyxy(boxes, width, height)
        size = boxes[:, 2:] - boxes[:, :2]
        kept = (size >= self.min_box_px).all(axis=1) & (classes >= 0)
        kept &= box_area_xyxy(boxes) >= self.min_area * full_area

        # A quarter turn is a mirroring followed by a transposition.
        quarters = jax.random.randint(turn_key, (), 0, 4) if self.quarter_turns else jnp.int32(0)
        mirror_rows = quarters >= 2
        mirror_columns = (quarters == 1) | (quarters == 2)
        mirror_columns ^= jax.random.uniform(flip_key) < self.flip
        rows = _positions(height, scale[0], shift[0], mirror_rows)
        columns = _positions(width, scale[1], shift[1], mirror_columns)
        image = _sample(_sample(image, rows, axis=0), columns, axis=1) / 255
        boxes = _mirror(boxes, (0, 2), width, mirror_columns)
        boxes = _mirror(boxes, (1, 3), height, mirror_rows)
        if self.quarter_turns:
            # The barrier keeps XLA from sampling twice, once for each side of the choice.
            image = jax.lax.optimization_barrier(image)
            transpose = quarters % 2 == 1
            image = jnp.where(transpose, image.swapaxes(0, 1), image)
            boxes = jnp.where(transpose, boxes[:, jnp.array([1, 0, 3, 2])], boxes)
        image = self._recolour(colour_key, image)
        return image, jnp.where(kept[:, None], boxes, 0), jnp.where(kept, classes, -1)

    def _window(
        self, key: Array, canvas_shape: tuple[int, int], output_shape: tuple[int, int]
    ) -> tuple[Array, Array]:
        """Draws what part of the canvas is shown: output = canvas · scale + shift, (y, x) each."""
        canvas = jnp.asarray(canvas_shape, jnp.float32)
        output = jnp.asarray(output_shape, jnp.float32)
        side_key, aspect_key, place_key = jax.random.split(key, 3)
        if self.crop is None:
            window = canvas
        else:
            side = jax.random.uniform(side_key, (), minval=self.crop[0], maxval=self.crop[1])
            window = side * output / output.max()
        jitter = jax.random.uniform(aspect_key, (), minval=-1, maxval=1) * self.aspect_jitter
        window = window * jnp.stack([jnp.ones(()), 1 + jitter])
        origin = jax.random.uniform(place_key, (2,)) * (canvas - window)
        scale = output / window
        return scale, -origin * scale

    def _recolour(self, key: Array, image: Array) -> Array:
        draw = partial(jax.random.uniform, minval=-1, maxval=1)
        brightness, contrast, saturation, hue = draw(key, (4,))
        # A factor, as a camera's exposure is: adding would leave dark forest no pixel but black.
        image = image * (1 + brightness * self.brightness)
        grey = image @ jnp.asarray(_LUMA)
        image = grey[..., None] + (image - grey[..., None]) * (1 + saturation * self.saturation)
        if self.hue:
            image = _turn_hue(image, hue * self.hue)
        mean = grey.mean()
        image = mean + (image - mean) * (1 + contrast * self.contrast)
        return jnp.clip(image, 0, 1)


def _positions(size: int, scale: Array, shift: Array, mirror: Array) -> Float[Array, "n"]:
    """Returns where on the canvas the output's px along an axis lie, in indices of its px."""
    centres = jnp.arange(size) + 0.5
    centres = jnp.where(mirror, size - centres, centres)
    return (centres - shift) / scale - 0.5


def _mirror(
    boxes: Float[Array, "t 4"], ends: tuple[int, int], size: int, mirror: Array
) -> Float[Array, "t 4"]:
    """Mirrors the columns `ends`, lower and upper, of xyxy boxes in an image of `size` px."""
    mirrored = boxes.at[:, jnp.array(ends)].set(size - boxes[:, jnp.array(ends[::-1])])
    return jnp.where(mirror, mirrored, boxes)


def _sample(
    image: Float[Array, "h w 3"] | UInt8[Array, "h w 3"], position: Float[Array, "n"], *, axis: int
) -> Float[Array, "h2 w2 3"]:
    """Reads an axis at fractional positions, linearly; beyond the image's edge there is grey.

    Two gathers take a fifth of the time of `jax.image.scale_and_translate` on a CPU, which
    multiplies by dense matrices of weights.
    """
    length = image.shape[axis]
    along = [-1 if i == axis else 1 for i in range(image.ndim)]
    lower = jnp.floor(position)
    fraction = (position - lower).reshape(along)
    before, after = (
        jnp.take(image, jnp.clip(index, 0, length - 1).astype(jnp.int32), axis, mode="clip")
        for index in (lower, lower + 1)
    )
    inside = (position >= -0.5) & (position <= length - 0.5)
    return jnp.where(inside.reshape(along), before * (1 - fraction) + after * fraction, _GREY)


def _turn_hue(image: Float[Array, "h w 3"], turn: Float[Array, ""]) -> Float[Array, "h w 3"]:
    """Rotates colours about the grey axis by `turn` of a full circle (Rodrigues' formula)."""
    angle = 2 * jnp.pi * turn
    axis = jnp.full(3, 3**-0.5)
    along = (image @ axis)[..., None] * axis
    across = jnp.cross(axis, image)
    return along + (image - along) * jnp.cos(angle) + across * jnp.sin(angle)
