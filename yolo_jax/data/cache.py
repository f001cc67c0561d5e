"""Letterboxed images kept, so that no later pass reads and decodes them: in memory or on disk."""

import hashlib
import logging
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, NoReturn
from weakref import WeakSet

import numpy as np
import psutil
from jaxtyping import UInt8

from yolo_jax.core.types import Annotation, Dataset

_log = logging.getLogger(__name__)
# A cache may take this share of what is free, and no more.
_MOST = 0.5
# A part of every key on disk. Count it up when the pixels of a letterbox change, or which images
# are refused.
_LETTERBOX_VERSION = 3

Make = Callable[[], UInt8[np.ndarray, "h w 3"]]


class CacheError(ValueError):
    """A cache that there is no room for, or that is asked for what it cannot do."""


class MemoryCache:
    """Letterboxed images in this process's memory, for its threads.

    Args:
        dataset: whose images are kept.
        shape: (height, width) that they are letterboxed into, px.

    Raises:
        CacheError: they would take more than half of the memory that is free, with what the other
            caches of this process have yet to fill; or, when it is sent to another process: each
            would fill a memory of its own.
    """

    _all: ClassVar[WeakSet["MemoryCache"]] = WeakSet()

    def __init__(self, dataset: Dataset, shape: tuple[int, int]) -> None:
        images = len(dataset.annotations)
        others = sum(_size(int((~c._filled).sum()), c._pixels.shape[1:3]) for c in self._all)
        what = f"of memory ({others / 1e9:.2f} GB of it for caches before it)" if others else ""
        free = psutil.virtual_memory().available
        _check_room(_size(images, shape) + others, free, what or "of memory")
        # The system gives memory as it is written to, so the first pass is not waited for.
        self._pixels = np.empty((images, *shape, 3), np.uint8)
        self._filled = np.zeros(images, bool)
        self._all.add(self)

    def get(self, index: int, make: Make) -> UInt8[np.ndarray, "h w 3"]:
        """Returns the image of an annotation, read-only; makes it where it is not kept yet.

        Any thread may ask. Two that ask for the same at once may both make it.

        Args:
            index: of the annotation.
            make: returns the letterboxed image; what it raises is passed on, and nothing kept.
        """
        if not self._filled[index]:
            self._pixels[index] = make()
            self._filled[index] = True  # last: until then no other thread may read it
        pixels = self._pixels[index]
        pixels.flags.writeable = False
        return pixels

    def __reduce__(self) -> NoReturn:
        raise CacheError(
            "a cache in memory cannot be shared with worker processes: each would fill one of its "
            "own. Set workers to 0, which decodes in threads, or keep the cache on disk"
        )


class DiskCache:
    """Letterboxed images in a folder, for any number of threads, processes and later runs.

    An image's file is named by what its pixels depend on: the image file's path, size and time of
    change, and the shape. So a changed image is made anew, and several data sets can share a
    folder. A file appears under its name only when it is whole. Where one cannot be written, as on
    a disk that others have filled, a warning says so and the work goes on without. Nothing is ever
    deleted: to free the room, delete the folder.

    Args:
        dataset: whose images are kept.
        shape: (height, width) that they are letterboxed into, px.
        folder: made where there is none.

    Raises:
        CacheError: what is missing would take more than half of the disk that is free.
        OSError: the folder cannot be made.
    """

    def __init__(self, dataset: Dataset, shape: tuple[int, int], folder: Path) -> None:
        self._dataset, self._shape, self._folder = dataset, shape, folder
        self._writes = True
        folder.mkdir(parents=True, exist_ok=True)
        # What is packed in files is as old as they are.
        self._origin = None if dataset.read is None else _stamps(dataset.origin)
        there = {entry.name for entry in os.scandir(folder)}
        annotations = dataset.annotations
        missing = sum(self._path(annotation).name not in there for annotation in annotations)
        _check_room(_size(missing, shape), shutil.disk_usage(folder).free, f"of disk in {folder}")

    def get(self, index: int, make: Make) -> UInt8[np.ndarray, "h w 3"]:
        """Returns the image of an annotation; makes it where it is not kept yet.

        Args:
            index: of the annotation.
            make: returns the letterboxed image; what it raises is passed on, and nothing kept.
        """
        path = self._path(self._dataset.annotations[index])
        try:
            pixels = np.fromfile(path, np.uint8)
            # A machine that stopped may leave a file that the disk had not yet got all of.
            if pixels.size == _size(1, self._shape):
                return pixels.reshape(*self._shape, 3)
        except FileNotFoundError:
            pass  # not made yet
        pixels = make()
        if self._writes:
            self._write(path, pixels)
        return pixels

    def _write(self, path: Path, pixels: UInt8[np.ndarray, "h w 3"]) -> None:
        part = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}.part")
        try:
            pixels.tofile(part)
            part.replace(path)
        except OSError as error:
            part.unlink(missing_ok=True)
            self._writes = False
            _log.warning("no more images are kept in %s: %s", self._folder, error)

    def _path(self, annotation: Annotation) -> Path:
        """Returns where an annotation's image is kept."""
        stamps = _stamps(annotation.path) if self._origin is None else self._origin
        size = (annotation.width, annotation.height)  # an image of another size was not let in
        name = str(annotation.path.absolute())
        key = repr((name, stamps, size, self._shape, _LETTERBOX_VERSION))
        name = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        return self._folder / f"{name}.rgb"


def _stamps(path: Path) -> tuple[tuple[str, int, int], ...]:
    """Returns (name, bytes, time of change) of a file, or of each file in a folder."""
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        stats = [(file.name, file.stat()) for file in files]
    except FileNotFoundError:
        return ()  # making the image will say so
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def _size(images: int, shape: tuple[int, int]) -> int:
    return images * shape[0] * shape[1] * 3


def _check_room(needed: int, free: int, what: str) -> None:
    """Says what a cache will take, or refuses it.

    Args:
        needed: bytes.
        free: bytes.
        what: they are of.
    """
    shown = f"{needed / 1e9:.2f} GB {what}, of {free / 1e9:.2f} GB free"
    if needed > _MOST * free:
        raise CacheError(
            f"the image cache would take {shown}; it may take half of that. Free some room, keep "
            "smaller images or fewer, or go without the cache"
        )
    _log.info("the image cache will take %s", shown)
