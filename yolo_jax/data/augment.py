"""Augmentation on the device: pure functions of a key for each example."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt8

from yolo_jax.core.boxes import box_area_xyxy, clip_boxes_xyxy

# ITU-R BT.601 luma, as Pillow turns RGB to grey.
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Augment:
    """Crops, flips, turns and recolours a batch; boxes follow exactly.

    Attributes:
        output_shape: (height, width) of the result, px.
        crop: least and greatest side of the random crop, px of the canvas; None: all of it.
        aspect_jitter: greatest relative change of the crop's width against its height.
        flip: probability of a left-right flip.
        quarter_turns: turn by a random multiple of 90° (square outputs).
        brightness: greatest change, of the full range.
        contrast: greatest relative change, about the image's mean.
        saturation: greatest relative change, about the grey image.
        hue: greatest turn of the hue, of the full circle.
        min_box_px: boxes narrower than this after clipping go.
        min_area: boxes that keep less than this share of their area go.

    Raises:
        ValueError: quarter turns of an output that is not square.
    """

    output_shape: tuple[int, int]
    crop: tuple[float, float] | None = None
    aspect_jitter: float = 0.0
    flip: float = 0.5
    quarter_turns: bool = False
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    min_box_px: float = 2.0
    min_area: float = 0.2

    def __post_init__(self) -> None:
        if self.quarter_turns and self.output_shape[0] != self.output_shape[1]:
            raise ValueError(f"quarter turns need a square output; found {self.output_shape}")

    def __call__(
        self,
        keys: Key[Array, "b"],
        image: UInt8[Array, "b h w 3"],
        boxes: Float[Array, "b t 4"],
        classes: Int[Array, "b t"],
    ) -> tuple[Float[Array, "b h2 w2 3"], Float[Array, "b t 4"], Int[Array, "b t"]]:
        """Augments a batch.

        Args:
            keys: one for each image; nothing else decides what happens to it.
            image: RGB on the canvas.
            boxes: xyxy in pixels of the canvas.
            classes: −1 marks padding.

        Returns:
            Images of 0–1, boxes in their pixels, classes; boxes that went are padding.
        """
        return jax.vmap(self._one)(keys, image, boxes, classes)

    def _one(self, key: Array, image: Array, boxes: Array, classes: Array):
        crop_key, flip_key, turn_key, colour_key = jax.random.split(key, 4)
        image = image.astype(jnp.float32) / 255
        image, boxes = self._crop(crop_key, image, boxes)
        full_area = box_area_xyxy(boxes)
        height, width = self.output_shape
        boxes = clip_boxes_xyxy(boxes, width, height)
        size = boxes[:, 2:] - boxes[:, :2]
        kept = (size >= self.min_box_px).all(axis=1) & (classes >= 0)
        kept &= box_area_xyxy(boxes) >= self.min_area * full_area
        image, boxes = self._flip(flip_key, image, boxes)
        if self.quarter_turns:
            image, boxes = self._turn(turn_key, image, boxes)
        image = self._recolour(colour_key, image)
        return image, jnp.where(kept[:, None], boxes, 0), jnp.where(kept, classes, -1)

    def _crop(self, key: Array, image: Array, boxes: Array) -> tuple[Array, Array]:
        """Scales a window of the canvas to the output; all of the canvas without `crop`."""
        canvas = jnp.asarray(image.shape[:2], jnp.float32)
        output = jnp.asarray(self.output_shape, jnp.float32)
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
        shift = -origin * scale
        image = jax.image.scale_and_translate(
            image,
            (*self.output_shape, 3),
            (0, 1),
            scale,
            shift,
            method="linear",
            antialias=False,
        )
        factors = jnp.concatenate([scale[::-1], scale[::-1]])
        return image, boxes * factors + jnp.concatenate([shift[::-1], shift[::-1]])

    def _flip(self, key: Array, image: Array, boxes: Array) -> tuple[Array, Array]:
        flipped = jax.random.uniform(key) < self.flip
        width = self.output_shape[1]
        mirrored = jnp.stack(
            [width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1
        )
        image = jnp.where(flipped, image[:, ::-1], image)
        return image, jnp.where(flipped, mirrored, boxes)

    def _turn(self, key: Array, image: Array, boxes: Array) -> tuple[Array, Array]:
        """Turns by 0–3 quarters: a transposition, a flip of rows and a flip of columns."""
        transpose, rows, columns = jax.random.bernoulli(key, shape=(3,))
        side = self.output_shape[0]
        image = jnp.where(transpose, image.swapaxes(0, 1), image)
        image = jnp.where(rows, image[::-1], image)
        image = jnp.where(columns, image[:, ::-1], image)
        boxes = jnp.where(transpose, boxes[:, jnp.array([1, 0, 3, 2])], boxes)
        x1, y1, x2, y2 = boxes.T
        y1, y2 = jnp.where(rows, side - y2, y1), jnp.where(rows, side - y1, y2)
        x1, x2 = jnp.where(columns, side - x2, x1), jnp.where(columns, side - x1, x2)
        return image, jnp.stack([x1, y1, x2, y2], axis=1)

    def _recolour(self, key: Array, image: Array) -> Array:
        draw = partial(jax.random.uniform, minval=-1, maxval=1)
        brightness, contrast, saturation, hue = draw(key, (4,))
        grey = image @ jnp.asarray(_LUMA)
        image = grey[..., None] + (image - grey[..., None]) * (1 + saturation * self.saturation)
        if self.hue:
            image = _turn_hue(image, hue * self.hue)
        mean = grey.mean()
        image = mean + (image - mean) * (1 + contrast * self.contrast)
        return jnp.clip(image + brightness * self.brightness, 0, 1)


def _turn_hue(image: Float[Array, "h w 3"], turn: Float[Array, ""]) -> Float[Array, "h w 3"]:
    """Rotates colours about the grey axis by `turn` of a full circle (Rodrigues' formula)."""
    angle = 2 * jnp.pi * turn
    axis = jnp.full(3, 3**-0.5)
    along = (image @ axis)[..., None] * axis
    across = jnp.cross(axis, image)
    return along + (image - along) * jnp.cos(angle) + across * jnp.sin(angle)
