"""Sizes of image files by their headers, for formats whose records do not state them."""

import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import ExifTags, Image, UnidentifiedImageError

from yolo_jax.data.doctor import Fault, Kind
from yolo_jax.data.images import FORMATS

_THREADS = 16  # they wait for the disk more than they compute
_QUARTER_TURNS = (5, 6, 7, 8)  # EXIF orientations that swap the sides
# How an orientation announces itself in a PNG: by the type of a chunk, or by how its text begins.
_PNG_TEXTS, _PNG_KEYWORDS = (b"tEXt", b"zTXt", b"iTXt"), (b"Raw profile ty", b"XML:com.adobe.")


def image_sizes(paths: Sequence[Path]) -> list[tuple[int, int] | Fault]:
    """Reads sizes as `images.decode_image` returns the pixels: turned as EXIF says.

    Args:
        paths: of image files.

    Returns:
        For each file (width, height) in px, or why it cannot be read.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(_size, paths))


def _size(path: Path) -> tuple[int, int] | Fault:
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            return (height, width) if _is_turned(image, path) else (width, height)
    except UnidentifiedImageError:
        reason = "it is not an image of a known format"
    except Image.DecompressionBombError as error:
        reason = f"it has too many pixels: {error}"
    except (OSError, SyntaxError, ValueError, RuntimeError, EOFError, struct.error) as error:
        # Pillow's decoders raise each of these on damaged files.
        reason = f"it cannot be read: {error}"
    return Fault(f"{reason}; skipped", Kind.UNREADABLE)


def _is_turned(image: Image.Image, path: Path) -> bool:
    """Tells whether decoding swaps the sides, without decoding where that can be helped."""
    if image.format == "TIFF":
        return False  # Pillow's size is already the one after the turn
    # Of a PNG without EXIF before the pixels, Pillow decodes these to look behind them.
    if image.format == "PNG" and "exif" not in image.info and not _may_be_turned(path):
        return False
    return image.getexif().get(ExifTags.Base.Orientation) in _QUARTER_TURNS


def _may_be_turned(png: Path) -> bool:
    """Tells whether a PNG has a chunk that may hold an orientation.

    From chunk to chunk up to the last one: an orientation may stand behind the pixels too. Of each
    only the head is read, unbuffered, for a buffer would fill itself with the pixels between.

    Source: https://www.w3.org/TR/png-3/#5Chunk-layout, and #5ChunkOrdering for eXIf.
    """
    with png.open("rb", buffering=0) as file:
        place = 8  # behind the signature
        while len(head := file.read(22) if file.seek(place) else b"") >= 12:
            length, kind, text = int.from_bytes(head[:4]), head[4:8], head[8:]
            if kind == b"eXIf" or (kind in _PNG_TEXTS and text.startswith(_PNG_KEYWORDS)):
                return True
            place += 12 + length  # the length, the type and a checksum
    return False
