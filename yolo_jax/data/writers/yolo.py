"""Any data set to YOLO's folders; see `readers.yolo`."""

from pathlib import Path

import numpy as np
import yaml

from yolo_jax.core.boxes import box_xyxy_to_cxcywh
from yolo_jax.core.types import Annotation, Dataset
from yolo_jax.data.readers.yolo import YAML_NAME
from yolo_jax.data.writers.folder import (
    check_class_names,
    copy_images,
    crowds_lost,
    ids_lost,
    names_lost,
    new_folder,
    sources_lost,
)

_IMAGES, _LABELS = "images", "labels"
_NOTE = "# One set under both names: Ultralytics asks for both. Name your own for validation.\n"


def write_yolo(dataset: Dataset, folder: Path | str) -> list[str]:
    """Writes `data.yaml` and the folders `images` and `labels`.

    Args:
        dataset: whose images are copied as they are encoded.
        folder: to make; it may exist, but must be empty.

    Returns:
        What YOLO's folders cannot hold of the data set.

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
        (place / _LABELS).mkdir()
        for annotation, name in zip(dataset.annotations, names, strict=True):
            label = (place / _LABELS / name).with_suffix(".txt")
            label.write_text(_lines(annotation), encoding="utf-8")
        content = {
            "train": _IMAGES,
            "val": _IMAGES,
            "nc": len(dataset.class_names),
            "names": dict(enumerate(dataset.class_names)),
        }
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        (place / YAML_NAME).write_text(_NOTE + text, encoding="utf-8")
    return [
        *crowds_lost(dataset),
        *sources_lost(dataset),
        *ids_lost(dataset),
        *names_lost(dataset, names),
    ]


def _lines(annotation: Annotation) -> str:
    kept = ~annotation.crowd
    size = np.asarray([annotation.width, annotation.height] * 2, np.float64)
    boxes = box_xyxy_to_cxcywh(annotation.boxes[kept].astype(np.float64)) / size
    rows = zip(annotation.classes[kept], boxes, strict=True)
    # Of 8 decimals, an image of a million px has boxes to 0.01 px.
    return "".join(f"{index} " + " ".join(f"{v:.8f}" for v in box) + "\n" for index, box in rows)
