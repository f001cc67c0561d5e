"""Data sets from one format to another, for the command line."""

import os
from pathlib import Path

from yolo_jax.data.doctor import report
from yolo_jax.data.doctor.findings import without_bad_images
from yolo_jax.data.doctor.scan import scan_images
from yolo_jax.data.readers import read_dataset, split_names
from yolo_jax.data.writers.array_record import write_array_record
from yolo_jax.data.writers.coco import write_coco
from yolo_jax.data.writers.folder import check_apart, check_new
from yolo_jax.data.writers.keras_yolo3 import write_keras_yolo3
from yolo_jax.data.writers.voc import write_voc
from yolo_jax.data.writers.yolo import write_yolo

_WITHOUT_CROWDS = ("yolo", "keras_yolo3")
# The images are read to see that they are whole, as small as decoders make them.
_GLANCE = (32, 32)

WRITERS = {
    "coco": write_coco,
    "voc": write_voc,
    "yolo": write_yolo,
    "keras_yolo3": write_keras_yolo3,
    "array_record": write_array_record,
}


def convert_dataset(
    source: str,
    to: str,
    out: Path,
    *,
    split: str | None = None,
    class_names_file: Path | None = None,
    strict: bool = False,
) -> None:
    """Converts a data set, and prints what was written and what the new format cannot hold.

    Args:
        source: a file, a folder or `tfds:NAME`; see `readers.read_dataset`.
        to: a key of `WRITERS`.
        out: folder to make; it may exist, but must be empty.
        split: part of the data set to convert, where it has parts.
        class_names_file: has a class a line; see `readers.read_dataset`.
        strict: a bad record is an error.

    Raises:
        FileNotFoundError: a file or folder is missing.
        ValueError: the source cannot be read, or the folder cannot be made or is in the source.
        OSError: the disk is full, or may not be written to.
    """
    # Said before the data are read, which may take minutes.
    check_new(out, source)
    if split is None and (names := split_names(source)):
        raise ValueError(f"{source} has the splits {names}; say by --split which one is converted")
    dataset, problems = read_dataset(
        source, split=split, strict=strict, class_names_file=class_names_file
    )
    check_apart(out, dataset)
    # A box is in pixels of the image it was drawn on: on another it is wrong.
    scanned = scan_images(dataset, _GLANCE, os.cpu_count() or 1)
    dataset, unusable = without_bad_images(dataset, scanned)
    report(unusable, strict=strict)
    lost = WRITERS[to](dataset, out)
    images = len(dataset.annotations)
    crowds = to not in _WITHOUT_CROWDS
    boxes = sum(int((crowds | ~one.crowd).sum()) for one in dataset.annotations)
    print(f"{out}: {images} images with {boxes} boxes of {len(dataset.class_names)} classes")
    if problems or unusable:
        bad = len(problems) + len(unusable)
        print(f"{bad} bad records of {source} are left out or mended, as said above")
    for text in (*dataset.not_kept, *lost):
        print(f"not kept: {text}")
