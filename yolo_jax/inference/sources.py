"""What to look at: image files, folders, patterns, videos, cameras and images on the web."""

import http.client
import logging
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import UInt8

from yolo_jax.data.images import ImageError, decode_image, first_of_many, read_encoded
from yolo_jax.data.readers.records import IMAGE_SUFFIXES

_log = logging.getLogger(__name__)
VIDEO_SUFFIXES = frozenset(
    {".asf", ".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"}
)
MOST_BYTES = 50 << 20  # of an image on the web
_TIMEOUT_S = 30
_PATTERN = frozenset("*?[")
# Headers may count frames that were never there; more than this share is told of.
_LOST_FRAMES = 0.02


class Frame(NamedTuple):
    """An image to look at, or one of a video.

    Attributes:
        pixels: RGB.
        name: the source that it is of.
        number: in a video or of a camera, from 0; None of an image.
        rate: frames a second of a video; None of an image.
    """

    pixels: UInt8[np.ndarray, "h w 3"]
    name: str
    number: int | None = None
    rate: float | None = None


def expand(sources: Iterable[str]) -> list[str]:
    """Returns sources with folders and patterns replaced by what is in them, sorted.

    Of a folder the images and videos are taken, by their suffix; of a pattern (`*`, `?`, `[…]`,
    `**` for any folders) whatever it meets. Camera numbers and addresses stay as they are.

    Args:
        sources: as the user gives them.

    Raises:
        FileNotFoundError: a pattern meets nothing, or a folder has no image or video.
    """
    found = []
    for source in sources:
        path = Path(source)
        if is_camera(source) or is_address(source) or path.is_file():
            found.append(source)
        elif path.is_dir():
            wanted = IMAGE_SUFFIXES | VIDEO_SUFFIXES
            inside = (one for one in sorted(path.iterdir()) if not one.name.startswith("."))
            files = [str(one) for one in inside if one.suffix.lower() in wanted]
            if not files:
                raise FileNotFoundError(f"the folder {source} has no image or video in it")
            found += files
        elif _PATTERN & set(source):
            root = Path(path.anchor)
            files = [str(one) for one in sorted(root.glob(str(path.relative_to(root))))]
            files = [one for one in files if Path(one).is_file()]
            if not files:
                raise FileNotFoundError(f"the pattern {source} meets no file")
            found += files
        else:
            found.append(source)  # opening it says what is wrong
    return found


def is_camera(source: str) -> bool:
    """Tells whether a source is the number of a camera."""
    return source.isdecimal() and not Path(source).exists()


def is_address(source: str) -> bool:
    """Tells whether a source is an address on the web."""
    return source.lower().startswith(("http://", "https://"))


def is_video(source: str) -> bool:
    """Tells whether a source has many frames: a camera, or by its suffix a video."""
    return is_camera(source) or (
        not is_address(source) and Path(source).suffix.lower() in VIDEO_SUFFIXES
    )


def file_name(source: str) -> str:
    """Returns what a source's drawing and labels are named after, such as `camera_0`."""
    if is_camera(source):
        return f"camera_{source}"
    if is_address(source):
        return Path(urllib.parse.unquote(urllib.parse.urlparse(source).path)).name or "image"
    return Path(source).name


def frames(source: str) -> Iterator[Frame]:
    """Yields the image of a source, or those of a video or camera one after the other.

    Args:
        source: one of `expand`'s.

    Raises:
        FileNotFoundError: there is no such file.
        ImageError: it cannot be read or decoded; a video that ends before its header says raises
            this behind its last frame.
    """
    if is_video(source):
        yield from _video(source)
    else:
        yield still(source)


def still(source: str) -> Frame:
    """Returns the image of a file or an address; of several in one the first, with a warning.

    Raises:
        FileNotFoundError: there is no such file.
        ImageError: it cannot be read or decoded.
    """
    encoded = fetch(source) if is_address(source) else read_encoded(source)
    if count := first_of_many(encoded):
        _log.warning("%s has %d images; the first is looked at", source, count)
    return Frame(decode_image(encoded, source), source)


def fetch(address: str, most: int = MOST_BYTES) -> bytes:
    """Returns what is at an address on the web.

    Args:
        address: http or https.
        most: bytes that are taken.

    Raises:
        ImageError: it cannot be fetched, or is larger.
    """
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT_S) as answer:
            content = answer.read(most + 1)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ImageError(f"{address} cannot be fetched: {error}") from error
    if len(content) > most:
        raise ImageError(f"{address} is larger than {most >> 20} MiB; fetch it yourself")
    return content


def _video(source: str) -> Iterator[Frame]:
    camera = is_camera(source)
    if not camera and not Path(source).is_file():
        raise FileNotFoundError(f"there is no video {source}")
    name = f"camera {source}" if camera else source
    capture = cv2.VideoCapture(int(source) if camera else str(Path(source)))
    try:
        if not capture.isOpened():
            raise ImageError(f"{name} cannot be opened, or is no video that OpenCV reads")
        rate = capture.get(cv2.CAP_PROP_FPS) or None
        expected = 0 if camera else int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        number = 0
        while True:
            there, pixels = capture.read()
            if not there:
                break
            yield Frame(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), source, number, rate)
            number += 1
        if number == 0:
            raise ImageError(f"{name} has no frame that can be read")
        if expected - number > max(1, _LOST_FRAMES * expected):
            raise ImageError(
                f"{name} ends after {number} of {expected} frames; it is damaged or cut short"
            )
    finally:
        capture.release()
