"""Any data set to the annotation lines of keras-yolo3; see `readers.keras_yolo3`."""

from pathlib import Path

import numpy as np
from jaxtyping import Bool

from yolo_jax.core.types import Annotation, Dataset
from yolo_jax.data.readers.keras_yolo3 import CLASSES_FILE, LINES_NAME
from yolo_jax.data.writers.folder import (
    DECIMALS,
    check_class_names,
    copy_images,
    crowds_lost,
    ids_lost,
    names_lost,
    new_folder,
    shortest,
    sources_lost,
)

_IMAGES = "images"


def write_keras_yolo3(dataset: Dataset, folder: Path | str) -> list[str]:
    """Writes `annotations.txt`, `classes.txt` and the folder `images`.

    Args:
        dataset: whose images are copied as they are encoded.
        folder: to make; it may exist, but must be empty.

    Returns:
        What the lines cannot hold of the data set, and what keras-yolo3's own program cannot read
        of them.

    Raises:
        FileNotFoundError: there is no such image file.
        ImageError: an image cannot be read.
        ValueError: the folder is not empty, or is a file; the data set has no images, or class
            names that are the same or cannot be listed.
        OSError: the disk is full, or may not be written to.
    """
    check_class_names(dataset)
    with new_folder(folder) as place:
        names = copy_images(dataset, place / _IMAGES)
        lines = [
            " ".join([f"{_IMAGES}/{name}", *_boxes(annotation)]) + "\n"
            for annotation, name in zip(dataset.annotations, names, strict=True)
        ]
        (place / LINES_NAME).write_text("".join(lines), encoding="utf-8")
        classes = "".join(f"{name}\n" for name in dataset.class_names)
        (place / CLASSES_FILE).write_text(classes, encoding="utf-8")
    broken = sum(int(_has_decimals(annotation).sum()) for annotation in dataset.annotations)
    decimals = f"{broken} boxes have decimals, which keras-yolo3's own program cannot read"
    return [
        *crowds_lost(dataset),
        *sources_lost(dataset),
        *ids_lost(dataset),
        *names_lost(dataset, names),
        *([decimals] if broken else []),
    ]


def _boxes(annotation: Annotation) -> list[str]:
    kept = ~annotation.crowd
    boxes = annotation.boxes[kept].astype(np.float64)
    return [
        ",".join([*(shortest(value) for value in box), str(index)])
        for box, index in zip(boxes, annotation.classes[kept], strict=True)
    ]


def _has_decimals(annotation: Annotation) -> Bool[np.ndarray, "n"]:
    boxes = annotation.boxes[~annotation.crowd].astype(np.float64).round(DECIMALS)
    return (boxes % 1 != 0).any(axis=1)
