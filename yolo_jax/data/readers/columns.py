"""Annotations as columns: those of 100,000 images in tens of MB, each made when it is asked for."""

import io
import zipfile
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from yolo_jax.core.types import Annotation

# Names of files and texts of JSON may hold halves of surrogate pairs.
_HALVES = "surrogatepass"
# What zipfile and NumPy raise of what is no .npz file; the last two of numbers in its header.
_DAMAGE = (
    *(ValueError, KeyError, EOFError, zipfile.BadZipFile, RuntimeError, TypeError, SyntaxError),
    *(OverflowError, MemoryError),
)


class Arrays(NamedTuple):
    """The columns of n images with m boxes.

    Attributes:
        image_id: int32, no two the same.
        size: int32, (width, height) of each image, px.
        starts: int64, where the boxes of each image begin, and at last m.
        boxes: float32, xyxy, px.
        classes: int32.
        crowd: of each box.
        names: of the images for messages, without their folder; bytes of UTF-8.
        source: of the images; bytes of UTF-8.
    """

    image_id: Int[np.ndarray, "n"]
    size: Int[np.ndarray, "n 2"]
    starts: Int[np.ndarray, "n+1"]
    boxes: Float[np.ndarray, "m 4"]
    classes: Int[np.ndarray, "m"]
    crowd: Bool[np.ndarray, "m"]
    names: Shaped[np.ndarray, "n"]
    source: Shaped[np.ndarray, "n"]


class Columns(Sequence[Annotation]):
    """A sequence of annotations that holds arrays alone.

    Args:
        arrays: the columns; they become read-only, for annotations are views of them.
        folder: that the images' names are in.
        file: that the columns came from. It is sent to other processes in their place.
    """

    def __init__(self, arrays: Arrays, folder: Path, file: Path | None = None) -> None:
        for array in arrays:
            array.flags.writeable = False
        self.arrays, self.folder, self.file = arrays, folder, file

    @classmethod
    def of(cls, annotations: Iterable[Annotation], folder: Path) -> "Columns":
        """Gathers annotations, of whose paths the names are kept.

        Raises:
            ValueError: there is none, or two have the same image_id.
        """
        rows = [
            (a.image_id, (a.width, a.height), a.boxes, a.classes, a.crowd, a.path.name, a.source)
            for a in annotations
        ]
        if not rows:
            raise ValueError(f"{folder}: there are no images")
        image_id, size, boxes, classes, crowd, names, source = zip(*rows, strict=True)
        arrays = Arrays(
            image_id=np.asarray(image_id, np.int32),
            size=np.asarray(size, np.int32),
            starts=np.cumsum([0, *map(len, classes)], dtype=np.int64),
            boxes=np.concatenate(boxes).astype(np.float32).reshape(-1, 4),
            classes=np.concatenate(classes).astype(np.int32),
            crowd=np.concatenate(crowd).astype(bool),
            names=np.asarray([_encode(name) for name in names]),
            source=np.asarray([_encode(text) for text in source]),
        )
        columns = cls(arrays, folder)
        ids = columns._sorted[0]
        if (doubled := ids[1:][ids[1:] == ids[:-1]]).size:
            raise ValueError(f"{folder}: image_id {doubled[0]} is given to more than one image")
        return columns

    def save(self, file: Path) -> None:
        """Writes the columns as .npz, which holds no pickled objects.

        Raises:
            ValueError: they could not be read again; see `load`.
        """
        _check(self.arrays)
        with file.open("xb") as out:
            np.savez(out, allow_pickle=False, **self.arrays._asdict())

    @classmethod
    def load(cls, file: Path, content: bytes | None = None) -> "Columns":
        """Reads what `save` wrote.

        Args:
            file: the .npz file; the images' names are in its folder.
            content: of the file, where it has been read already.

        Raises:
            ValueError: it is not such a file, or its columns do not belong together: they have
                other types or lengths than `Arrays` says, or a box lies outside its image.
        """
        try:
            arrays = _read(io.BytesIO(file.read_bytes() if content is None else content))
            _check(arrays)
        except _DAMAGE as error:
            raise ValueError(f"{file} does not hold the columns of annotations: {error}") from error
        return cls(arrays, file.parent, file)

    def __len__(self) -> int:
        return len(self.arrays.image_id)

    @overload
    def __getitem__(self, index: int) -> Annotation: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Annotation, ...]: ...
    def __getitem__(self, index: int | slice) -> Annotation | tuple[Annotation, ...]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        columns = self.arrays
        # By the row's own number, which raises IndexError as a sequence has to.
        row = range(len(self))[index]
        boxes = slice(columns.starts[row], columns.starts[row + 1])
        width, height = columns.size[row].tolist()
        return Annotation(
            image_id=int(columns.image_id[row]),
            path=self.folder / _decode(columns.names[row]),
            width=width,
            height=height,
            boxes=columns.boxes[boxes],
            classes=columns.classes[boxes],
            crowd=columns.crowd[boxes],
            source=_decode(columns.source[row]),
        )

    def row_of(self, image_id: int) -> int:
        """Returns the place of an image in the sequence.

        Raises:
            ValueError: there is no such image.
        """
        ids, rows = self._sorted
        place = int(np.searchsorted(ids, image_id))
        if place == len(ids) or ids[place] != image_id:
            raise ValueError(f"{self.folder} has no image {image_id}")
        return int(rows[place])

    def targets_an_image(self) -> Int[np.ndarray, "n"]:
        """Returns the number of each image's boxes that are not crowds, without a walk."""
        before = np.concatenate([[0], np.cumsum(~self.arrays.crowd)])[self.arrays.starts]
        return np.diff(before)

    @cached_property
    def _sorted(self) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
        """The ids by size, and the rows that they are of."""
        rows = np.argsort(self.arrays.image_id, kind="stable")
        return self.arrays.image_id[rows], rows

    def __reduce__(self) -> tuple[Any, ...]:
        if self.file is not None:
            return Columns.load, (self.file,)
        return Columns, (self.arrays, self.folder)


def _read(file: io.BytesIO) -> Arrays:
    with zipfile.ZipFile(file) as members:
        for member in members.infolist():
            # Else a small file might become arrays of any size.
            if member.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"its {member.filename} is compressed; expected it as it is")
    with np.load(file, allow_pickle=False) as columns:
        return Arrays(*(columns[name] for name in Arrays._fields))


def _check(arrays: Arrays) -> None:
    """Refuses columns that are not of images and boxes in them.

    Raises:
        ValueError: one has another type or length than `Arrays` says, the boxes of an image begin
            behind their end, an image has no size or an id twice, a box lies outside its image, or
            a name is not UTF-8.
    """
    images, boxes = arrays.image_id.size, arrays.classes.size
    kinds = {
        "image_id": ("int32", (images,)),
        "size": ("int32", (images, 2)),
        "starts": ("int64", (images + 1,)),
        "boxes": ("float32", (boxes, 4)),
        "classes": ("int32", (boxes,)),
        "crowd": ("bool", (boxes,)),
        "names": ("S", (images,)),
        "source": ("S", (images,)),
    }
    for name, (kind, shape) in kinds.items():
        array = getattr(arrays, name)
        same = array.dtype.kind == "S" if kind == "S" else array.dtype == np.dtype(kind)
        if not same or array.shape != shape:
            raise ValueError(f"its {name} is {array.dtype} {array.shape}; expected {kind} {shape}")
    counts = np.diff(arrays.starts)
    if (arrays.starts[0], arrays.starts[-1]) != (0, boxes) or (counts < 0).any():
        raise ValueError(f"its starts do not grow from 0 to its {boxes} boxes")
    if len(np.unique(arrays.image_id)) < images or (arrays.image_id < 0).any():
        raise ValueError("its image_id has a number below 0, or one twice")
    if (arrays.size < 1).any():
        raise ValueError("its size has a side below 1 px")
    most = np.repeat(arrays.size, counts, axis=0).astype(np.float32)
    low, high = arrays.boxes[:, :2], arrays.boxes[:, 2:]
    is_inside = ((low >= 0) & (low < high) & (high <= most)).all(axis=1)  # of NaN it is False
    if not is_inside.all():
        row = int(np.argmin(is_inside))
        image = arrays.image_id[np.searchsorted(arrays.starts, row, side="right") - 1]
        raise ValueError(
            f"a box of its image {image}, {arrays.boxes[row].tolist()}, has no width or height, or "
            "lies outside the image"
        )
    if (arrays.classes < 0).any():
        raise ValueError("its classes has a number below 0")
    for texts in (arrays.names, arrays.source):
        _decode(b"\n".join(texts.tolist()))


def _encode(text: str) -> bytes:
    return text.encode("utf-8", _HALVES)


def _decode(content: bytes) -> str:
    return content.decode("utf-8", _HALVES)
