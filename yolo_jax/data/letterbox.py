"""Letterboxing: fitting an image into the network's input, its aspect kept."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from yolo_jax.core.boxes import clip_boxes_xyxy

_GREY = 128
# By which JPEG decoders reduce.
_REDUCTIONS = (1, 2, 4, 8)

# OpenCV would use every core for each image, while the loader's threads and processes already do.
# The number is the process's; here it is set wherever images are resized, spawned workers included.
cv2.setNumThreads(0)


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


def reduction(original: tuple[int, int], shape: tuple[int, int]) -> int:
    """Returns the power of 2 that an image may be reduced by before it is letterboxed.

    The greatest that leaves the image no smaller than it will be; what remains shrinks by less
    than 2, which bilinear sampling does without skipping pixels.

    Args:
        original: (height, width) of the image, px.
        shape: (height, width) of the network's input, px.
    """
    shrink = int(max(original[0] / shape[0], original[1] / shape[1]))
    return 1 << (max(shrink, 1).bit_length() - 1)


def letterbox(
    image: UInt8[np.ndarray, "h w 3"],
    shape: tuple[int, int],
    *,
    original: tuple[int, int] | None = None,
) -> tuple[UInt8[np.ndarray, "h2 w2 3"], Letterbox]:
    """Fits an image into (height, width) px, centred on grey, its aspect kept.

    The geometry is keras-yolo3's. What shrinks by 2 or more is first averaged over squares of 2, 4,
    8 … px; the rest is bilinear, for which Pillow's bicubic takes ten times as long. What grows is
    small, and has the bicubic: OpenCV's is sharper than what networks are trained on.

    Args:
        image: RGB; the original, or the original reduced as `images.decode_to_fit` does: a pixel
            stands for n × n of its pixels, the last ones also for what lies beyond its edge.
        shape: of the result.
        original: (height, width) of the image before it was reduced, px; None: it was not.

    Raises:
        ValueError: `image` is not of the size of the original reduced by 1, 2, 4 or 8.
    """
    size = (image.shape[0], image.shape[1])
    original = original or size
    place = letterbox_geometry(original, shape)
    done = next((n for n in _REDUCTIONS if _reduced(original, n) == size), None)
    if done is None:
        raise ValueError(
            f"an image of {size[0]}×{size[1]} px (height × width) is not one of {original[0]}×"
            f"{original[1]} px reduced by {_REDUCTIONS}; pass the size of the image it was made of"
        )
    further = max(1, reduction(original, shape) // done)
    if further > 1:
        image = _average(image, further)
        done *= further
    if max(place.scale_x, place.scale_y) * done > 1:
        return _centred(_bicubic(image, place), place, shape), place
    # By the factors and not to a size: so the part of the last pixels beyond the edge is left out.
    fx, fy = place.scale_x * done, place.scale_y * done
    resized = cv2.resize(image, None, fx=fx, fy=fy, interpolation=cv2.INTER_LINEAR)
    return _centred(resized, place, shape), place


def letterbox_bicubic(
    image: UInt8[np.ndarray, "h w 3"], shape: tuple[int, int]
) -> tuple[UInt8[np.ndarray, "h2 w2 3"], Letterbox]:
    """Fits an image into (height, width) px as keras-yolo3 does: by Pillow's bicubic.

    Source: keras-yolo3's `letterbox_image`.
    """
    place = letterbox_geometry((image.shape[0], image.shape[1]), shape)
    return _centred(_bicubic(image, place), place, shape), place


def _bicubic(image: UInt8[np.ndarray, "h w 3"], place: Letterbox) -> UInt8[np.ndarray, "h2 w2 3"]:
    height, width = place.original
    size = (round(width * place.scale_x), round(height * place.scale_y))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def _centred(
    resized: UInt8[np.ndarray, "h w 3"], place: Letterbox, shape: tuple[int, int]
) -> UInt8[np.ndarray, "h2 w2 3"]:
    height = round(place.original[0] * place.scale_y)
    width = round(place.original[1] * place.scale_x)
    canvas = np.full((*shape, 3), _GREY, np.uint8)
    left, top = int(place.offset_x), int(place.offset_y)
    canvas[top : top + height, left : left + width] = resized[:height, :width]
    return canvas


def _reduced(size: tuple[int, int], n: int) -> tuple[int, int]:
    return -(-size[0] // n), -(-size[1] // n)


def _average(image: UInt8[np.ndarray, "h w 3"], n: int) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Averages squares of n × n px, the edge's pixels repeated where they do not divide."""
    rows, columns = -image.shape[0] % n, -image.shape[1] % n
    if rows or columns:
        image = cv2.copyMakeBorder(image, 0, rows, 0, columns, cv2.BORDER_REPLICATE)
    size = (image.shape[1] // n, image.shape[0] // n)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


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
