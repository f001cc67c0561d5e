"""What the readers share: text and names from files, image files sought, boxes checked."""

import logging
import math
import os
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from yolo_jax.core.files import open_file
from yolo_jax.core.types import Annotation
from yolo_jax.data.doctor import Fault, Kind, Problem

_log = logging.getLogger(__name__)
# Of image files, whatever their capitals.
IMAGE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".dib", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo", ".pgm"}
    | {".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)
# Of images that nothing here decodes.
_FOREIGN_SUFFIXES = frozenset(
    {".arw", ".cr2", ".cr3", ".dng", ".exr", ".hdr", ".heic", ".heif", ".jxl", ".nef", ".orf"}
    | {".pcx", ".psd", ".raf", ".rw2", ".svg", ".tga"}
)
# Of what may lie beside images: annotations, and what Ultralytics caches.
_COMPANIONS = frozenset({".cache", ".json", ".npy", ".txt", ".xml", ".yaml"})
# A box that sticks out by less is clipped as rounding; by this or more it is reported too.
_TOLERANCE_PX = 1.0
_FAR_PX = 1e9
_SHOWN = 5  # suffixes


class Box(NamedTuple):
    """A usable box.

    Attributes:
        place: of its record in the file, for reports; copies may share an id.
        numbers: as the file has them, to tell copies.
        xyxy: clipped to the image, px.
        class_index: into the data set's class names.
        crowd: a region of many objects.
        area: of the object, px²; NaN where the file states none.
    """

    place: str
    numbers: tuple[float, ...]
    xyxy: Float[np.ndarray, "4"]
    class_index: int
    crowd: bool = False
    area: float = math.nan


def read_text(path: Path, kind: str, content: str = "text") -> str:
    """Reads a text file of UTF-8, with or without a byte order mark.

    Args:
        path: of the file.
        kind: of file that is expected, for the message: `a COCO JSON file`.
        content: of such a file, for the message.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be opened, or is of another encoding; names the line.
    """
    with open_file(path, kind) as file:
        encoded = file.read()
    try:
        return encoded.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = encoded[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{path} is not {content} in UTF-8: {error}, in line {line}; save it as UTF-8"
        ) from error


def read_lines(path: Path, kind: str) -> list[tuple[str, str]]:
    """Reads the lines of a text file that are not empty; see `read_text`.

    Returns:
        For each its place, `line 3`, and its text without spaces around it.
    """
    lines = read_text(path, kind).split("\n")
    return [(f"line {index}", line.strip()) for index, line in enumerate(lines, 1) if line.strip()]


def read_class_names(path: Path | str) -> tuple[str, ...]:
    """Reads class names, one a line; empty lines at the end do not count.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not text in UTF-8, has no names, an empty line or a name twice.
    """
    path = Path(path)
    names = [
        line.strip() for line in read_text(path, "a file of class names").rstrip().splitlines()
    ]
    if not names:
        raise ValueError(f"{path} has no class names; expected one a line")
    lines: dict[str, int] = {}
    for line, name in enumerate(names, 1):
        if not name:
            raise ValueError(f"{path}: line {line} is empty; expected a class name")
        if name in lines:
            raise ValueError(f"{path}: line {line} has {name!r}, as line {lines[name]} has")
        lines[name] = line
    return tuple(names)


def files_below(folder: Path) -> Iterator[Path]:
    """Yields what is in a folder and, where these are folders, in them; links are followed.

    What is hidden is left out, such as the `._a.jpg` that macOS leaves on disks of others. A link
    to a folder that it lies in is not entered.
    """
    stack = [(folder, frozenset((folder.resolve(),)))]
    while stack:
        place, above = stack.pop()
        for path in place.iterdir():
            if path.name.startswith("."):
                continue
            if path.is_dir():
                real = path.resolve()
                if real not in above:
                    stack.append((path, above | {real}))
            yield path


def image_files(folder: Path, problems: list[Problem], *, below: bool = False) -> list[Path]:
    """Returns the image files of a folder, sorted; a warning tells of files of other kinds.

    What is hidden is not taken.

    Args:
        folder: that is there.
        problems: found before; images that are of a format that nothing here reads are added.
        below: take those of the folders in it too; see `files_below`.
    """
    images, others = [], Counter()
    for path in sorted(files_below(folder) if below else folder.iterdir()):
        suffix = path.suffix.lower()
        if path.name.startswith("."):
            continue
        if suffix in IMAGE_SUFFIXES:
            images.append(path)
        elif suffix in _FOREIGN_SUFFIXES:
            reason = f"{suffix} images are not read; save it as .jpg or .png; skipped"
            problems.append(Problem(path, "the image", reason, Kind.UNREADABLE, loses_image=True))
        elif suffix not in _COMPANIONS and path.is_file():
            others[suffix or "without a suffix"] += 1
    if others:
        shown = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(_SHOWN))
        _log.warning("%s: files whose suffix is of no image are not read: %s", folder, shown)
    return images


def find_inside(
    name: str, folders: Sequence[Path], what: str = "image file"
) -> tuple[Path, Fault | None]:
    """Seeks a file by its path inside one of some folders.

    The path itself may not climb out; links that a user has put into a folder may.

    Args:
        name: the path.
        folders: the first that has something there counts.
        what: the file is, for the reason.

    Returns:
        The file, and why there is none, or None.
    """
    kind = Kind.UNREADABLE if what == "image file" else Kind.OTHER
    if Path(name).is_absolute():
        name = _as_seen_from(name, folders)
    if Path(name).is_absolute() or climbs_out(name):
        return Path(name), Fault(f"its file lies outside {folders[0]}; skipped", kind)
    reason = ""
    for path in (folder / name for folder in folders):
        try:
            mode = path.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            reason = f"its file cannot be sought: {error.strerror}"
        except ValueError as error:  # a NUL, or half a surrogate pair
            reason = f"its file name {name!r} is not a path that a file can have: {error}"
        else:
            if stat.S_ISREG(mode):
                return path, None
            reason = "its file is a directory" if stat.S_ISDIR(mode) else f"its file is no {what}"
        break
    places = dict.fromkeys(str(folder) for folder in folders if str(folder) != folder.anchor)
    where = f" in {' or '.join(places)}" if places else ""
    if "\\" in name:
        where += " (\\ is Windows' own: write / between folders)"
    return Path(name), Fault(f"{reason or f'there is no such {what}{where}'}; skipped", kind)


def _as_seen_from(name: str, folders: Sequence[Path]) -> str:
    """Returns an absolute path as one inside a folder, where it is; the first folder counts."""
    path = Path(os.path.normpath(name))
    for folder in map(Path.absolute, folders):
        if path.is_relative_to(folder):
            return str(path.relative_to(folder))
    return name


def find_image(name: str, folders: Sequence[Path]) -> tuple[Path, Fault | None]:
    """Seeks an image whose path is absolute, or inside one of some folders; see `find_inside`."""
    path = Path(name)
    if path.is_absolute():
        root = Path(path.anchor)
        return path, find_inside(str(path.relative_to(root)), [root])[1]
    return find_inside(name, folders)


def climbs_out(name: str) -> bool:
    """Tells whether a relative path leads above where it starts."""
    return Path(os.path.normpath(name)).parts[:1] == ("..",)


def place_box(
    xyxy: Float[np.ndarray, "4"], width: int, height: int, shown: str
) -> tuple[Float[np.ndarray, "4"] | None, Fault | None]:
    """Clips a box to its image.

    Args:
        xyxy: px, finite.
        width: of the image, px.
        height: of the image, px.
        shown: what the file has, for the reason: `its bbox [1, 2, 3, 4]`.

    Returns:
        The box in float32, or None where nothing of it is left; and what is wrong with it, or
        None.
    """
    # As plain numbers: NumPy takes longer over four of them, and data sets have millions.
    left, top, right, bottom = corners = np.asarray(xyxy, np.float64).tolist()
    # Of numbers beyond these the width itself is lost to rounding.
    if (right <= left or bottom <= top) and max(map(abs, corners)) < _FAR_PX:
        return None, Fault(f"{shown} has no width or no height; skipped", Kind.NO_SIZE)
    clipped = [min(max(c, 0.0), side) for c, side in zip(corners, (width, height) * 2, strict=True)]
    # In the precision of batches, where a sliver may come to nothing.
    placed = np.asarray(clipped, np.float32)
    left, top, right, bottom = placed.tolist()
    size = f"{width}×{height} px"
    if right <= left or bottom <= top:
        return None, Fault(f"{shown} lies outside the image of {size}; skipped", Kind.OUTSIDE)
    if max(abs(a - b) for a, b in zip(corners, clipped, strict=True)) >= _TOLERANCE_PX:
        reason = f"{shown} sticks out of the image of {size}; clipped"
        return placed, Fault(reason, Kind.STICKS_OUT)
    return placed, None


def without_doubles(
    boxes: Sequence[Box], alike: str = "class and box"
) -> tuple[list[Box], list[Fault]]:
    """Returns an image's boxes without those that repeat one before them, and a fault for each.

    Args:
        boxes: of one image.
        alike: what is the same in a double, in the format's own words.
    """
    first: dict[tuple[int, bool, tuple[float, ...]], Box] = {}
    faults = []
    for box in boxes:
        kept = first.setdefault((box.class_index, box.crowd, box.numbers), box)
        if kept is not box:
            reason = f"{box.place} doubles {kept.place}: the same {alike}; skipped"
            faults.append(Fault(reason, Kind.DOUBLE_BOX))
    return list(first.values()), faults


def make_annotation(
    image_id: int,
    path: Path,
    size: tuple[int, int],
    boxes: Sequence[Box],
    source: str = "",
) -> Annotation:
    """Returns the annotation of an image of `size` (width, height) px."""
    areas = np.asarray([box.area for box in boxes], np.float64)
    return Annotation(
        image_id=image_id,
        path=path,
        width=size[0],
        height=size[1],
        boxes=np.asarray([box.xyxy for box in boxes], np.float32).reshape(-1, 4),
        classes=np.asarray([box.class_index for box in boxes], np.int32),
        crowd=np.asarray([box.crowd for box in boxes], bool),
        source=source,
        areas=None if np.isnan(areas).all() else areas,
    )
