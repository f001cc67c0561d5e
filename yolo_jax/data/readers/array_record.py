"""The packed form: encoded images in ArrayRecord shards, annotations in columns, a manifest.

A folder of a few large files, as object stores and pods like them, of which any image can be read
by itself:

    trees/manifest.json                what there is: see `Manifest`; written last
    trees/annotations.npz              see `columns.Arrays`
    trees/trees-00000.array_record     one record an image: its file, byte by byte

Source: https://github.com/google/array_record.
"""

import dataclasses
import hashlib
import json
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader

from yolo_jax.core.files import open_file
from yolo_jax.core.types import Annotation, Dataset
from yolo_jax.data.doctor import Problem
from yolo_jax.data.images import ImageError
from yolo_jax.data.readers.columns import Columns
from yolo_jax.data.readers.records import read_text

MANIFEST = "manifest.json"
ANNOTATIONS = "annotations.npz"
_FORMAT, _VERSION = "yolo_jax.array_record", 1
# Shards held open at once. A process may have 1024 files open on many systems.
_MOST_OPEN = 256
# For single records: nothing is read ahead, and no threads are needed.
_READER_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"
_READER_BUFFER = 32 * 1024
_PACKED_NAME = re.compile(r"(?P<file>.+?)#(?P<number>\d+)( \((?P<name>.*)\))?", re.DOTALL)


@dataclass(frozen=True)
class PackedFile:
    """A file of a packed data set.

    Attributes:
        name: in the folder.
        size: bytes.
        sha256: of its content, in hexadecimal.
        images: how many are in it.
    """

    name: str
    size: int
    sha256: str
    images: int


@dataclass(frozen=True)
class Manifest:
    """What a packed data set has.

    Attributes:
        images: how many.
        boxes: of all images, crowds included.
        most_boxes: of an image, crowds included.
        class_names: name of each class index.
        annotations: the file of the columns.
        shards: the files of the images, in the annotations' order.
    """

    images: int
    boxes: int
    most_boxes: int
    class_names: tuple[str, ...]
    annotations: PackedFile
    shards: tuple[PackedFile, ...]

    def to_json(self) -> str:
        """Returns the text of the manifest file."""
        content = {"format": _FORMAT, "version": _VERSION, **dataclasses.asdict(self)}
        return json.dumps(content, indent=1) + "\n"


def read_array_record(
    path: Path | str, *, strict: bool = False, verify: bool = False
) -> tuple[Dataset, tuple[Problem, ...]]:
    """Opens a packed data set; images are read when they are asked for, in any order.

    The data set holds the columns of its annotations and makes each when asked. To a worker process
    it goes as names of files, which are opened there. Its `read` may be called by several threads;
    `read.close()` closes the shards. That all files are there in their full size is always
    checked, as is the checksum of the annotations.

    Args:
        path: of the folder, or of the manifest in it.
        strict: for the likeness of all readers: a packed data set has no bad records to skip.
        verify: read all shards and compare their checksums too, at about 1 GB a second.

    Returns:
        The data set, and no problems.

    Raises:
        FileNotFoundError: there is no such folder, or a file of it is missing.
        ValueError: the folder is not of a packed data set, or of one that was not finished; it is
            of another version; a file is cut short or altered.
    """
    path = Path(path)
    folder = (path.parent if path.name == MANIFEST else path).resolve()
    manifest = _read_manifest(folder)
    for file in (manifest.annotations, *manifest.shards):
        _check_file(folder, file, verify=verify)
    with open_file(folder / manifest.annotations.name, "a packed data set's annotations") as file:
        content = file.read()
    _compare(folder, manifest.annotations, hashlib.sha256(content).hexdigest())
    columns = Columns.load(folder / manifest.annotations.name, content)
    _check_counts(folder, manifest, columns)
    return Dataset(columns, manifest.class_names, path, _Images(columns, manifest.shards)), ()


def image_name(dataset: Dataset, annotation: Annotation) -> str:
    """Returns a name for an image's own file.

    Args:
        dataset: of the image. Of one that is packed or of TFDS, paths are `FILE#NUMBER (NAME)`,
            which gives the name that the image had before, or `FILE#NUMBER`.
        annotation: of the image.
    """
    name = annotation.path.name
    packed = None if dataset.read is None else _PACKED_NAME.fullmatch(name)
    if packed is None:
        return name
    file = re.sub(r"[^\w-]+", "_", packed["file"]).strip("_")  # TFDS has `train[:20%]`
    return packed["name"] or f"{file}_{int(packed['number']):06d}"


class _Images:
    """Reads the encoded image of an annotation.

    Args:
        columns: the annotations.
        shards: that hold their images, in the same order.
    """

    def __init__(self, columns: Columns, shards: tuple[PackedFile, ...]) -> None:
        self._columns, self._shards = columns, shards
        self._ends = np.cumsum([shard.images for shard in shards])
        # A shard that has to make room closes when the last thread that reads it lets go of it.
        self._open = lru_cache(_MOST_OPEN)(open_shard)

    def __call__(self, annotation: Annotation) -> bytes:
        """Returns what the image's file held.

        Raises:
            FileNotFoundError: the shard has gone.
            ImageError: the shard or the record is damaged.
            ValueError: the data set has no such image.
        """
        row = self._columns.row_of(annotation.image_id)
        number = int(np.searchsorted(self._ends, row, side="right"))
        shard = self._shards[number]
        reader = self._open(self._columns.folder / shard.name, shard.images)
        try:
            return reader.read([row - int(self._ends[number]) + shard.images])[0]
        except RuntimeError as error:  # of a damaged record, array_record's only kind of error
            raise ImageError(f"{annotation.path} is damaged: {error}; copy it again") from error

    def close(self) -> None:
        """Closes the shards; to read again opens them again."""
        self._open.cache_clear()

    def __reduce__(self) -> tuple[Any, ...]:
        return _Images, (self._columns, self._shards)


def open_shard(path: Path, images: int) -> ArrayRecordReader:
    """Opens an ArrayRecord file to read single records, by any number of threads.

    Args:
        path: of the file.
        images: that it has to have, one a record.

    Raises:
        FileNotFoundError: there is no such file.
        ImageError: it is cut short or damaged, or has another number of records.
    """
    if not path.is_file():  # which array_record does not say
        raise FileNotFoundError(f"{path} is missing; copy it again")
    reader = ArrayRecordReader(str(path), _READER_OPTIONS, file_reader_buffer_size=_READER_BUFFER)
    if not reader.ok() or reader.num_records() != images:
        found = f"{reader.num_records()} records" if reader.ok() else "no index of its records"
        raise ImageError(f"{path} is damaged: it has {found}, not {images}; copy it again")
    return reader


def _read_manifest(folder: Path) -> Manifest:
    if not folder.is_dir():
        kind = "is a file, not a" if folder.exists() else "does not exist: expected the"
        error = ValueError if folder.exists() else FileNotFoundError
        raise error(f"{folder} {kind} folder of a packed data set")
    path = folder / MANIFEST
    if not path.exists():
        raise FileNotFoundError(
            f"{folder} has no {MANIFEST}: it is not a packed data set, or one that was not "
            "finished; pack the data again, into a new folder"
        )
    try:
        content = json.loads(read_text(path, "a manifest of JSON", "JSON"))
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, too
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ValueError(f"{path} is not the manifest of a packed data set: no format {_FORMAT!r}")
    if content.get("version") != _VERSION:
        raise ValueError(
            f"{path} is of version {content.get('version')!r}, and this program reads version "
            f"{_VERSION}; pack the data again, or use the program that packed them"
        )
    shards = _field(path, content, "shards", list)
    return Manifest(
        **{name: _field(path, content, name, int) for name in ("images", "boxes", "most_boxes")},
        class_names=_class_names(path, content),
        annotations=_packed_file(path, "annotations", content.get("annotations")),
        shards=tuple(_packed_file(path, f"shards[{i}]", shards[i]) for i in range(len(shards))),
    )


def _field(path: Path, content: dict[str, Any], name: str, kind: type) -> Any:
    value = content.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{path}: its {name!r} is {value!r}, not of type {kind.__name__}")
    return value


def _class_names(path: Path, content: dict[str, Any]) -> tuple[str, ...]:
    names = _field(path, content, "class_names", list)
    for index, name in enumerate(names):
        if not isinstance(name, str):
            raise ValueError(f"{path}: its 'class_names[{index}]' is {name!r:.60}, not a text")
    return tuple(names)


def _packed_file(path: Path, place: str, record: Any) -> PackedFile:
    if not isinstance(record, dict):
        raise ValueError(f"{path}: its {place!r} is {record!r}, not the record of a file")
    kinds = {"name": str, "size": int, "sha256": str, "images": int}
    file = PackedFile(**{name: _field(path, record, name, kind) for name, kind in kinds.items()})
    if Path(file.name).name != file.name:
        raise ValueError(f"{path}: the name {file.name!r} of {place!r} is not that of a file in it")
    if file.images < 1:
        raise ValueError(f"{path}: {place!r} has {file.images} images; expected 1 or more")
    return file


def _check_file(folder: Path, file: PackedFile, *, verify: bool) -> None:
    path = folder / file.name
    if not os.path.isfile(path):  # noqa: PTH113 (False too where no file can have the name)
        raise FileNotFoundError(f"{path} is missing: {MANIFEST} lists it; copy it again")
    size = path.stat().st_size
    if size != file.size:
        raise ValueError(
            f"{path} is cut short or altered: it has {size} bytes, and {MANIFEST} says "
            f"{file.size}; copy it again"
        )
    if verify:
        _compare(folder, file, sha256_of(path))


def sha256_of(path: Path) -> str:
    """Returns the checksum of a file's content, in hexadecimal."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _compare(folder: Path, file: PackedFile, sha256: str) -> None:
    if sha256 != file.sha256:
        raise ValueError(
            f"{folder / file.name} is altered: its sha256 is {sha256}, and {MANIFEST} says "
            f"{file.sha256}; copy it again"
        )


def _check_counts(folder: Path, manifest: Manifest, columns: Columns) -> None:
    images = sum(shard.images for shard in manifest.shards)
    if not manifest.images == images == len(columns):
        raise ValueError(
            f"{folder / MANIFEST} says {manifest.images} images: its shards have {images} and "
            f"{manifest.annotations.name} has {len(columns)}; pack the data again"
        )
    if manifest.boxes != len(columns.arrays.boxes):
        raise ValueError(
            f"{folder / MANIFEST} says {manifest.boxes} boxes, and {manifest.annotations.name} has "
            f"{len(columns.arrays.boxes)}; pack the data again"
        )
    highest = int(columns.arrays.classes.max(initial=-1))
    if highest >= len(manifest.class_names):
        raise ValueError(
            f"{folder / MANIFEST} has {len(manifest.class_names)} class names, and "
            f"{manifest.annotations.name} has class {highest}; put the names back"
        )
