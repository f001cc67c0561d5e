"""What targets are made of: a folder in memory, an image, and what may come of a file."""

import atexit
import contextlib
import functools
import io
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from yolo_jax.core.types import Dataset

SIDE = 16  # px of the image that all annotations are of


class Target(NamedTuple):
    """A parser.

    Attributes:
        read: has it read a file; raises what it is not documented to raise.
        seeds: returns files that are valid.
    """

    read: Callable[[bytes], None]
    seeds: Callable[[], Sequence[bytes]]


@functools.cache
def _root() -> Path:
    memory = Path("/dev/shm")
    atexit.register(clear)
    return Path(tempfile.mkdtemp(prefix="fuzz_", dir=memory if memory.is_dir() else None))


def clear() -> None:
    """Deletes the folders."""
    shutil.rmtree(_root(), ignore_errors=True)


@functools.cache
def place(name: str) -> Path:
    """Returns a folder of this process with an image in it, in memory if there is such a disk."""
    folder = _root() / name
    folder.mkdir()
    (folder / "a.png").write_bytes(picture("PNG"))
    return folder


@functools.cache
def picture(kind: str) -> bytes:
    """Returns an image file."""
    file, pixels = io.BytesIO(), np.arange(SIDE * SIDE * 3).reshape(SIDE, SIDE, 3)
    Image.fromarray(pixels.astype(np.uint8)).save(file, kind)
    return file.getvalue()


@contextlib.contextmanager
def refusing(name: str) -> Iterator[None]:
    """Lets pass what every reader may raise, which has to say of what: a file, or a folder."""
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        assert name in str(error), f"{type(error).__name__} does not name {name}: {error}"


def check(dataset: Dataset) -> None:
    """Checks that what was read can be trained on."""
    ids = [one.image_id for one in dataset.annotations]
    assert len(set(ids)) == len(ids)
    assert all(isinstance(name, str) for name in dataset.class_names)
    for one in dataset.annotations:
        count = len(one.classes)
        assert 0 <= one.image_id < 2**31
        assert 0 < one.width < 2**31, one.width
        assert 0 < one.height < 2**31, one.height
        assert (one.boxes.shape, one.crowd.shape) == ((count, 4), (count,))
        assert (one.boxes.dtype, one.classes.dtype) == (np.float32, np.int32)
        assert one.crowd.dtype == bool
        most = np.asarray([one.width, one.height] * 2, np.float32)
        assert (np.isfinite(one.boxes) & (one.boxes >= 0) & (one.boxes <= most)).all()
        assert (one.boxes[:, 2:] > one.boxes[:, :2]).all()
        assert ((one.classes >= 0) & (one.classes < len(dataset.class_names))).all()
