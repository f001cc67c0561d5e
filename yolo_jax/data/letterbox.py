"""Letterboxing: fitting an image into the network's input, its aspect kept."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from yolo_jax.core.boxes import clip_boxes_xyxy

_GREY = 128


@dataclass(frozen=True)
class Letterbox:
    """Where an image lies in the network's input: input = original · scale + offset.

    Attributes:
        scale_x: px of the input per px of the original, along columns.
        scale_y: along rows.
        offset_x: px of the input left of the image.
        offset_y: px of the input above the image.
        original: (height, width) of the image, px.
    """

    scale_x: float
    scale_y: float
    offset_x: float
    offset_y: float
    original: tuple[int, int]

    def _factors(self) -> tuple[np.ndarray, np.ndarray]:
        scale = np.array([self.scale_x, self.scale_y] * 2, np.float32)
        return scale, np.array([self.offset_x, self.offset_y] * 2, np.float32)

    def boxes_to_input(self, boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "n 4"]:
        """Maps xyxy boxes from pixels of the original to pixels of the input."""
        scale, offset = self._factors()
        return boxes * scale + offset

    def boxes_to_original(self, boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "n 4"]:
        """Maps xyxy boxes from pixels of the input to the original's, clipped to the image."""
        scale, offset = self._factors()
        return clip_boxes_xyxy((boxes - offset) / scale, self.original[1], self.original[0])


def letterbox_geometry(original: tuple[int, int], shape: tuple[int, int]) -> Letterbox:
    """Returns where `letterbox` puts an image of (height, width) px in an input of `shape`."""
    height, width = original
    scale = min(shape[1] / width, shape[0] / height)
    new_width, new_height = max(1, int(width * scale)), max(1, int(height * scale))
    return Letterbox(
        new_width / width,
        new_height / height,
        (shape[1] - new_width) // 2,
        (shape[0] - new_height) // 2,
        original,
    )


def letterbox(
    image: UInt8[np.ndarray, "h w 3"], shape: tuple[int, int]
) -> tuple[UInt8[np.ndarray, "h2 w2 3"], Letterbox]:
    """Fits an image into (height, width) px: bicubic, centred on grey, its aspect kept.

    Source: keras-yolo3's `letterbox_image`.
    """
    place = letterbox_geometry((image.shape[0], image.shape[1]), shape)
    size = (round(image.shape[1] * place.scale_x), round(image.shape[0] * place.scale_y))
    resized = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
    canvas = np.full((*shape, 3), _GREY, np.uint8)
    left, top = int(place.offset_x), int(place.offset_y)
    canvas[top : top + size[1], left : left + size[0]] = np.asarray(resized)
    return canvas, place


def letterbox_darknet(
    image: UInt8[np.ndarray, "h w 3"], shape: tuple[int, int]
) -> tuple[Float[np.ndarray, "h2 w2 3"], Letterbox]:
    """Fits an image into (height, width) px as the darknet program does.

    Bilinear between aligned corners without antialias, on 0–1 values, centred on 0.5 grey.
    Source: darknet's `letterbox_image`, `resize_image` and `correct_yolo_boxes`.
    """
    height, width = image.shape[:2]
    if shape[1] / width < shape[0] / height:
        new_width, new_height = shape[1], max(1, height * shape[1] // width)
    else:
        new_width, new_height = max(1, width * shape[0] // height), shape[0]
    values = image.astype(np.float32) / np.float32(255)
    values = _resize_aligned(_resize_aligned(values, new_width, axis=1), new_height, axis=0)
    canvas = np.full((*shape, 3), 0.5, np.float32)
    left, top = (shape[1] - new_width) // 2, (shape[0] - new_height) // 2
    canvas[top : top + new_height, left : left + new_width] = values
    # Boxes are put back by the exact half of the padding, pixels by the rounded one.
    place = Letterbox(
        new_width / width,
        new_height / height,
        (shape[1] - new_width) / 2,
        (shape[0] - new_height) / 2,
        (height, width),
    )
    return canvas, place


def _resize_aligned(
    values: Float[np.ndarray, "h w 3"], size: int, *, axis: int
) -> Float[np.ndarray, "h2 w2 3"]:
    """Resizes one axis bilinearly; the first and last pixels stay the first and last."""
    length = values.shape[axis]
    position = np.arange(size, dtype=np.float32) * np.float32((length - 1) / max(size - 1, 1))
    lower = np.minimum(position.astype(np.int64), length - 1)
    upper = np.minimum(lower + 1, length - 1)
    fraction = (position - lower).astype(np.float32)
    fraction = fraction.reshape([-1 if i == axis else 1 for i in range(3)])
    return values.take(lower, axis) * (1 - fraction) + values.take(upper, axis) * fraction
