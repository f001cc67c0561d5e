"""Any data set to COCO's JSON; see `readers.coco`."""

import json
from pathlib import Path

import numpy as np

from yolo_jax.core.boxes import box_xyxy_to_xywh
from yolo_jax.core.types import Dataset
from yolo_jax.data.writers.folder import DECIMALS, copy_images, names_lost, new_folder

FILE_NAME = "annotations.json"
_IMAGES = "images"


def write_coco(dataset: Dataset, folder: Path | str) -> list[str]:
    """Writes `annotations.json` and the folder `images`.

    Categories are numbered from 1, as COCO's are; a source is the field `source` of an image.

    Args:
        dataset: whose images are copied as they are encoded.
        folder: to make; it may exist, but must be empty.

    Returns:
        What COCO cannot hold of the data set.

    Raises:
        FileNotFoundError: there is no such image file.
        ImageError: an image cannot be read.
        ValueError: the folder is not empty, or is a file, or the data set has no images.
        OSError: the disk is full, or may not be written to.
    """
    with new_folder(folder) as place:
        names = copy_images(dataset, place / _IMAGES)
        images, annotations = [], []
        for annotation, name in zip(dataset.annotations, names, strict=True):
            image = {
                "id": annotation.image_id,
                "file_name": f"{_IMAGES}/{name}",
                "width": annotation.width,
                "height": annotation.height,
            }
            images.append(image | ({"source": annotation.source} if annotation.source else {}))
            boxes = box_xyxy_to_xywh(annotation.boxes.astype(np.float64)).round(DECIMALS)
            for box, index, crowd in zip(
                boxes.tolist(), annotation.classes, annotation.crowd, strict=True
            ):
                annotations.append(
                    {
                        "id": len(annotations) + 1,  # COCO's own scoring takes 0 for no match
                        "image_id": annotation.image_id,
                        "category_id": int(index) + 1,
                        "bbox": box,
                        "area": round(box[2] * box[3], DECIMALS),
                        "iscrowd": int(crowd),
                        "segmentation": [],
                    }
                )
        categories = [{"id": i, "name": name} for i, name in enumerate(dataset.class_names, 1)]
        content = {
            "info": {"description": f"made of {dataset.origin.name}"},
            "images": images,
            "annotations": annotations,
            "categories": categories,
        }
        (place / FILE_NAME).write_text(json.dumps(content), encoding="utf-8")
    return names_lost(dataset, names)
