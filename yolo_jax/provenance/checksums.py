"""Checksums of data, which cover all of a small set and an even sample of a large one."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from yolo_jax.core.types import Annotation, Dataset
from yolo_jax.data.images import ImageError

_LISTED = 20_000  # images of a set, whose records and files' sizes are covered
_WHOLE_BYTES = 2**25  # of files that are read to the last
_READ = 64  # images of a larger set, whose files are read
_LOST = -1  # size of a file that is not there
_T = TypeVar("_T")


def checksums(dataset: Dataset) -> dict[str, Any]:
    """Returns what tells a data set from another one, as JSON holds it.

    Each checksum comes with the number of images that it covers (`of`): `annotations` of the
    records as they were read; `files` of the image files' names and sizes, which are not known of
    images in packed files; `content` of what is in them.

    Args:
        dataset: as it is trained on, or scored.
    """
    listed = _evenly(dataset.annotations, _LISTED)
    paths = [str(one.path) for one in listed]
    # Wherever the folder lies. What the first and last in order have in common, all have.
    shared = os.path.commonprefix([min(paths), max(paths)])
    names = [path[shared.rfind("/") + 1 :] for path in paths]
    sizes = [_size(path) for path in paths] if dataset.read is None else None
    is_small = (
        sizes is not None and len(listed) == len(dataset.annotations) and sum(sizes) <= _WHOLE_BYTES
    )
    read = listed if is_small else _evenly(listed, _READ)
    return {
        "read_from": dataset.origin.as_posix(),
        "images": len(dataset.annotations),
        "classes": list(dataset.class_names),
        "annotations": {"of": len(listed), "sha256": _of_records(listed)},
        "files": {"of": len(listed), "sha256": _of_texts([names, sizes])},
        "content": {"of": len(read), "sha256": _of_content(dataset, read)},
    }


def file_checksum(path: Path) -> str:
    """Returns a file's sha256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _evenly(items: Sequence[_T], most: int) -> list[_T]:
    return [items[i] for i in range(0, len(items), max(1, -(-len(items) // most)))]


def _size(path: str) -> int:
    # What is lost is told, or raised, by who reads the images.
    try:
        return os.stat(path).st_size  # noqa: PTH116 (a fifth of Path's time)
    except OSError:
        return _LOST


def _of_records(listed: Sequence[Annotation]) -> str:
    total = hashlib.sha256()
    for one in listed:
        record = (one.image_id, one.width, one.height, one.source)
        total.update(repr(record).encode())  # which escapes what UTF-8 has no bytes for
        for array, kind in ((one.boxes, np.float32), (one.classes, np.int32), (one.crowd, bool)):
            total.update(np.ascontiguousarray(array, kind).tobytes())
    return total.hexdigest()


def _of_texts(texts: Any) -> str:
    return hashlib.sha256(repr(texts).encode()).hexdigest()


def _of_content(dataset: Dataset, read: Sequence[Annotation]) -> str:
    total = hashlib.sha256()
    for one in read:
        try:
            content = one.path.read_bytes() if dataset.read is None else dataset.read(one)
        except (OSError, ImageError):
            content = b""  # as in `_size`
        total.update(len(content).to_bytes(8, "little"))
        total.update(content)
    return total.hexdigest()
