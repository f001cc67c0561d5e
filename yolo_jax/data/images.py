"""Encoded images to RGB pixels."""

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import simplejpeg
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageOps, JpegImagePlugin, TiffImagePlugin, UnidentifiedImageError

from yolo_jax.core.files import open_file
from yolo_jax.core.types import Annotation, Dataset
from yolo_jax.data.letterbox import reduction

# Pillow's names of the formats that are read, whatever a file is called. Pillow reads others, for
# some of which it starts programs: Ghostscript for EPS.
FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
_LARGEST_16_BITS = 2**16 - 1
# Of libjpeg's warnings (its jerror.h) those by which pixels are made up. The others, such as bytes
# too many before a marker, are found in many a file whose picture is whole.
_LOST_PIXELS = (
    *("Premature end", "premature end", "bad Huffman code", "bad arithmetic code"),
    *("instead of RST", "Inconsistent progression"),
)
# What Pillow's decoders raise on damaged files.
_DAMAGE = (OSError, SyntaxError, ValueError, RuntimeError, EOFError, struct.error)
# Pillow prints it from half of the pixels on that it refuses, where nothing is wrong yet.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class ImageError(ValueError):
    """An image file that cannot be read."""


class UnknownFormat(ImageError):
    """A file that is not an image of a format that is read."""


class TooManyPixels(ImageError):
    """An image file whose header tells of more pixels than are decoded."""


class Decoded(NamedTuple):
    """An image decoded to no more pixels than are needed.

    Attributes:
        pixels: RGB; the image, or the image reduced by 2, 4 or 8, sides rounded up.
        original: (height, width) of the image itself, as it is to be seen, px.
        remark: libjpeg's on what is odd in the file, though no pixel need be wrong; "" for none.
    """

    pixels: UInt8[np.ndarray, "h w 3"]
    original: tuple[int, int]
    remark: str = ""


def read_image(path: Path | str) -> UInt8[np.ndarray, "h w 3"]:
    """Decodes an image file to RGB; see `decode_image`.

    Raises:
        FileNotFoundError: there is no such file.
        ImageError: the file cannot be opened (a directory, a path that no file can have), or
            cannot be decoded.
    """
    return decode_image(read_encoded(path), path)


def read_encoded(path: Path | str) -> bytes:
    """Returns what an image file holds.

    Raises:
        FileNotFoundError: there is no such file.
        ImageError: the file cannot be opened.
    """
    try:
        # What the system says of a path is not to be taken for damage in the file.
        file = open_file(path, "an image file")
    except ValueError as error:
        raise ImageError(str(error)) from error
    with file:
        try:
            return file.read()
        except OSError as error:
            raise ImageError(f"{path} cannot be read: {error.strerror}") from error


def load_image(dataset: Dataset, annotation: Annotation) -> UInt8[np.ndarray, "h w 3"]:
    """Decodes the image of a data set's annotation, wherever it is kept; see `decode_image`.

    Raises:
        FileNotFoundError: there is no such file.
        ImageError: the image cannot be read or decoded.
    """
    return decode_image(read_annotated(dataset, annotation), annotation.path)


def load_to_fit(dataset: Dataset, annotation: Annotation, shape: tuple[int, int]) -> Decoded:
    """Decodes the image of a data set's annotation for a letterbox; see `decode_to_fit`.

    Raises:
        FileNotFoundError: there is no such file.
        ImageError: the image cannot be read or decoded.
    """
    return decode_to_fit(read_annotated(dataset, annotation), annotation.path, shape)


def read_annotated(dataset: Dataset, annotation: Annotation) -> bytes:
    """Returns the encoded image of a data set's annotation, wherever it is kept.

    Raises:
        FileNotFoundError: there is no such file.
        ImageError: it cannot be read.
    """
    return read_encoded(annotation.path) if dataset.read is None else dataset.read(annotation)


def decode_image(encoded: bytes, name: Path | str) -> UInt8[np.ndarray, "h w 3"]:
    """Decodes an image to RGB, turned as its EXIF orientation says.

    Of 16 bits the upper 8 are kept (v >> 8), as OpenCV does for PNG and Pillow for colours in PNG
    and TIFF: a grey picture comes out the same, saved as grey or as RGB. The file's own scale
    counts, 0 to 65535, not the values that happen to be in it. Floating-point values are 0–1.

    Args:
        encoded: content of an image file.
        name: of the image, for messages.

    Raises:
        ImageError: it is cut short, is not an image, has too many pixels, or has values or colours
            whose scale nobody can know.
    """
    with open_image(encoded, name) as file:
        return rgb_of(file, name)


def first_of_many(encoded: bytes) -> int:
    """Returns the number of images in an animation or a file of pages, of which the first is taken.

    0 for a single image, for what is no image, and for a JPEG, whose others are previews.
    """
    try:
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as file:
            count = getattr(file, "n_frames", 1)
            return count if count > 1 and file.format not in ("JPEG", "MPO") else 0
    except (Image.DecompressionBombError, *_DAMAGE):
        return 0  # decoding it says what is wrong


def decode_to_fit(encoded: bytes, name: Path | str, shape: tuple[int, int]) -> Decoded:
    """Decodes an image to RGB as `decode_image` does, but to no more pixels than a letterbox needs.

    A JPEG that will shrink by 2 or more is decoded reduced, in less time: a pixel for each 2 × 2,
    4 × 4 or 8 × 8, from the low frequencies of its transform alone.

    Args:
        encoded: content of an image file.
        name: of the image, for messages.
        shape: (height, width) that the image will be letterboxed into, px.

    Raises:
        ImageError: as `decode_image`, or a JPEG ends before its pixels do, or its data are corrupt.
    """
    remark = ""
    with open_image(encoded, name) as file:
        if isinstance(file, JpegImagePlugin.JpegImageFile):
            is_ordinary, original = _is_ordinary_jpeg(file), (file.height, file.width)
            by = min(8, reduction(original, shape)) if is_ordinary else 8
            height, width = (-(-side // by) for side in original)
            try:
                pixels = simplejpeg.decode_jpeg(encoded, min_height=height, min_width=width)
                if is_ordinary:
                    return Decoded(pixels, original)
            except ValueError as error:
                # Pillow would fill in what is missing, and say nothing.
                remark = str(error)
                if any(words in remark for words in _LOST_PIXELS):
                    raise ImageError(f"{name} is damaged or cut short: {remark}") from error
        pixels = rgb_of(file, name)
    return Decoded(pixels, (pixels.shape[0], pixels.shape[1]), remark)


def _is_ordinary_jpeg(file: JpegImagePlugin.JpegImageFile) -> bool:
    """Tells whether libjpeg alone decodes a sound file to the pixels that Pillow makes of it."""
    upright = file.getexif().get(ExifTags.Base.Orientation, 1) == 1
    return upright and file.mode in ("RGB", "L")


@contextmanager
def open_image(
    encoded: bytes, name: Path | str, formats: tuple[str, ...] = FORMATS
) -> Iterator[Image.Image]:
    """Opens an encoded image, of which the header alone is read; `rgb_of` decodes it.

    What Pillow raises in the block becomes an ImageError that names the image.

    Args:
        encoded: content of an image file.
        name: of the image, for messages.
        formats: Pillow's names of those that are tried.

    Raises:
        ImageError: it is cut short, is not an image (`UnknownFormat`), or has more pixels than
            Pillow decodes (`TooManyPixels`).
    """
    try:
        with Image.open(io.BytesIO(encoded), formats=formats) as file:
            yield file
    except UnidentifiedImageError as error:
        raise UnknownFormat(f"{name} is not an image of a known format") from error
    except Image.DecompressionBombError as error:
        raise TooManyPixels(
            f"{name} has too many pixels: {error} Shrink it, or raise PIL.Image.MAX_IMAGE_PIXELS, "
            "of which twice as many are read"
        ) from error
    except ImageError:
        raise
    except _DAMAGE as error:
        raise ImageError(f"{name} is damaged or cut short: {error}") from error


def rgb_of(file: Image.Image, name: Path | str) -> UInt8[np.ndarray, "h w 3"]:
    """Returns the pixels of a Pillow image as RGB, by the rules of `decode_image`.

    Raises:
        ImageError: it has values or colours whose scale nobody can know.
    """
    scale, kind = _grey_scale(file), f"{file.format} of mode {file.mode}"
    image = ImageOps.exif_transpose(file)
    try:
        if image.mode.startswith("I") or image.mode == "F":
            image = Image.fromarray(_to_8_bits(image, scale))
        return np.asarray(image.convert("RGB"))
    except ValueError as error:
        raise ImageError(f"{name} ({kind}) cannot be made RGB of 8 bits: {error}") from error


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
