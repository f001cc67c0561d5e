"""Image files to pixels, and letterboxing: fitting an image into the network's input."""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from yolo_jax.core.boxes import clip_boxes_xyxy
from yolo_jax.core.files import open_file

_GREY = 128
_LARGEST_16_BITS = 2**16 - 1


class ImageError(ValueError):
    """An image file that cannot be read."""


def read_image(path: Path | str) -> UInt8[np.ndarray, "h w 3"]:
    """Decodes an image file to RGB, turned as its EXIF orientation says.

    Of 16 bits the upper 8 are kept (v >> 8), as OpenCV does for PNG and Pillow for colours in PNG
    and TIFF: a grey picture comes out the same, saved as grey or as RGB. The file's own scale
    counts, 0 to 65535, not the values that happen to be in it. Floating-point values are 0–1.

    Raises:
        FileNotFoundError: there is no such file.
        ImageError: the file cannot be opened (a directory, a path that no file can have), is cut
            short, is not an image, or has values or colours whose scale nobody can know.
    """
    with _open(path) as stream:
        try:
            with Image.open(stream) as file:
                scale, kind = _grey_scale(file), f"{file.format} of mode {file.mode}"
                image = ImageOps.exif_transpose(file)
        except UnidentifiedImageError as error:
            raise ImageError(f"{path} is not an image of a known format") from error
        except Image.DecompressionBombError as error:
            raise ImageError(f"{path} has too many pixels: {error}") from error
        except (OSError, SyntaxError, ValueError, RuntimeError, EOFError, struct.error) as error:
            # Pillow's decoders raise each of these on damaged files.
            raise ImageError(f"{path} is damaged or cut short: {error}") from error
    try:
        if image.mode.startswith("I") or image.mode == "F":
            image = Image.fromarray(_to_8_bits(image, scale))
        return np.asarray(image.convert("RGB"))
    except ValueError as error:
        raise ImageError(f"{path} ({kind}) cannot be made RGB of 8 bits: {error}") from error


def _open(path: Path | str) -> BinaryIO:
    """Opens a file, so that what the system says of a path is not taken for damage in the file."""
    try:
        return open_file(path, "an image file")
    except ValueError as error:
        raise ImageError(str(error)) from error


class _GreyScale(NamedTuple):
    """What a file says of grey values of more than 8 bits, which Pillow leaves as they are.

    Attributes:
        shift: bits over 8 in mode `I;16`.
        inverted: 0 is white.
        stated: mode `I` holds 16-bit numbers by the file's format; otherwise white is anybody's
            guess.
    """

    shift: int = 8
    inverted: bool = False
    stated: bool = True


def _grey_scale(file: Image.Image) -> _GreyScale:
    if not isinstance(file, TiffImagePlugin.TiffImageFile):
        return _GreyScale(stated=file.format in ("PNG", "PPM"))
    bits = file.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (16,))[0]
    white_is_zero = file.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
    return _GreyScale(4 if bits == 12 else 8, white_is_zero, stated=False)


def _to_8_bits(image: Image.Image, scale: _GreyScale) -> UInt8[np.ndarray, "h w"]:
    """Scales grey values of 16 bits, whole or floating-point numbers to 0–255.

    Args:
        image: of the modes `I;16…`, `I` or `F`, which `convert` would clip to 255.
        scale: what the file says of them.

    Raises:
        ValueError: the values do not tell which one is white.
    """
    values = np.asarray(image)
    low, high = values.min(), values.max()
    found = f"its values are {low} to {high}"
    if image.mode == "F":
        if not (low >= 0 and high <= 1):  # this way round NaN is refused too
            raise ValueError(f"{found}, not 0 to 1; scale them, or save the image with 8 bits")
        grey = np.round(values * 255)
    elif image.mode.startswith("I;16"):
        grey = values >> scale.shift
    elif low < 0 or high > _LARGEST_16_BITS:
        raise ValueError(f"{found}, not 0 to {_LARGEST_16_BITS}; save the image with 8 or 16 bits")
    elif high <= 255 and not scale.stated:
        raise ValueError(f"{found}: 8 or 16 bits in 32; save the image with as many as they are of")
    else:
        grey = values >> 8
    grey = grey.astype(np.uint8)
    return 255 - grey if scale.inverted else grey


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
