"""Any data set to the packed form, which `readers.array_record` describes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter

from yolo_jax.core.types import Annotation, Dataset
from yolo_jax.data.images import read_annotated
from yolo_jax.data.readers.array_record import (
    ANNOTATIONS,
    MANIFEST,
    Manifest,
    PackedFile,
    image_name,
    sha256_of,
)
from yolo_jax.data.readers.columns import Columns
from yolo_jax.data.writers.folder import names_lost, new_folder

# Single records can be read, and images are compressed already.
_WRITER_OPTIONS = "group_size:1,uncompressed"
_LARGEST_ID = 2**31 - 1


def write_array_record(
    dataset: Dataset, folder: Path | str, *, images_per_shard: int = 2000
) -> list[str]:
    """Packs a data set into a new folder, whole or not at all; see `folder.new_folder`.

    Args:
        dataset: whose images are copied as they are encoded.
        folder: to make; it may exist, but must be empty.
        images_per_shard: 2000 photos of 100 to 200 KB make files of a few hundred MB.

    Returns:
        What the form cannot hold of the data set. Of the images' paths it keeps the names.

    Raises:
        FileNotFoundError: there is no such image file.
        ImageError: an image cannot be read.
        ValueError: the folder is not empty, or is a file; the data set has no images, an id twice,
            an id that is not of 32 bits, or a class without a name; a number is not positive.
        OSError: the disk is full, or may not be written to.
    """
    if images_per_shard < 1:
        raise ValueError(f"images_per_shard is {images_per_shard}; it has to be 1 or more")
    with new_folder(folder) as unfinished:
        _write_files(dataset, unfinished, Path(folder).name, images_per_shard)
    return names_lost(dataset)


def _write_files(dataset: Dataset, folder: Path, name: str, images_per_shard: int) -> None:
    packed: list[Annotation] = []
    shards = []
    for start in range(0, len(dataset.annotations), images_per_shard):
        shard = folder / f"{name}-{len(shards):05d}.array_record"
        part = dataset.annotations[start : start + images_per_shard]
        packed += _write_shard(dataset, part, shard)
        shards.append(_packed_file(shard, len(part)))
    if not packed:
        raise ValueError(f"{dataset.origin} has no images to pack")
    columns = Columns.of(packed, dataset.origin)
    columns.save(folder / ANNOTATIONS)
    manifest = Manifest(
        images=len(columns),
        boxes=len(columns.arrays.boxes),
        most_boxes=int(np.diff(columns.arrays.starts).max()),
        class_names=dataset.class_names,
        annotations=_packed_file(folder / ANNOTATIONS, len(columns)),
        shards=tuple(shards),
    )
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")


def _write_shard(dataset: Dataset, part: Sequence[Annotation], path: Path) -> list[Annotation]:
    """Writes images, one a record; returns their annotations under the names of the records."""
    packed = []
    writer = ArrayRecordWriter(str(path), _WRITER_OPTIONS)
    for number, annotation in enumerate(part):
        _check(dataset, annotation)
        encoded = read_annotated(dataset, annotation)
        with _disk_errors(path):
            writer.write(encoded)
        name = f"{path.name}#{number} ({image_name(dataset, annotation)})"
        packed.append(replace(annotation, path=Path(name)))
    with _disk_errors(path):
        writer.close()
    return packed


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Makes an OSError of array_record's RuntimeError, which has no other cause."""
    try:
        yield
    except RuntimeError as error:
        raise OSError(f"{path} cannot be written: {error}") from error


def _check(dataset: Dataset, annotation: Annotation) -> None:
    place = f"{dataset.origin}: image {annotation.image_id} ({annotation.path})"
    if not 0 <= annotation.image_id <= _LARGEST_ID:
        raise ValueError(f"{place}: its id is not a whole number of 0 to {_LARGEST_ID}")
    if (highest := annotation.classes.max(initial=-1)) >= len(dataset.class_names):
        raise ValueError(
            f"{place}: it has a box of class {highest}, and there are {len(dataset.class_names)} "
            "class names; name all classes"
        )


def _packed_file(path: Path, images: int) -> PackedFile:
    return PackedFile(path.name, path.stat().st_size, sha256_of(path), images)
