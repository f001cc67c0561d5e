"""Detections drawn on images, and as JSON."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from yolo_jax.core.draw import colour_of, draw_boxes
from yolo_jax.core.types import Detections


def drawn(
    image: UInt8[np.ndarray, "h w 3"], found: Detections, class_names: Sequence[str]
) -> UInt8[np.ndarray, "h w 3"]:
    """Returns an image with its detections drawn and labelled."""
    pairs = list(zip(np.asarray(found.classes), np.asarray(found.scores), strict=True))
    labels = [f"{class_names[index]} {score:.2f}" for index, score in pairs]
    return draw_boxes(image, np.asarray(found.boxes), [colour_of(i) for i, _ in pairs], labels)


def write_json(
    path: Path, names: Sequence[str], found: Sequence[Detections], class_names: Sequence[str]
) -> None:
    """Writes detections as JSON: boxes xyxy in pixels of the original image, from 0.

    `[{"image": …, "detections": [{"class": name, "score": s, "box": [xmin, ymin, xmax, ymax]}]}]`
    """
    content = [
        {
            "image": name,
            "detections": [
                {
                    "class": class_names[int(index)],
                    "score": round(float(score), 6),
                    "box": [round(float(side), 3) for side in box],
                }
                for box, score, index in zip(*detections, strict=True)
            ],
        }
        for name, detections in zip(names, found, strict=True)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


def drawing_name(path: Path) -> str:
    """Returns the name of an image's drawing: its own, or as PNG what Pillow cannot write."""
    writable = Image.registered_extensions().get(path.suffix.lower()) in Image.SAVE
    return path.name if writable else f"{path.name}.png"


def write_images(
    folder: Path,
    paths: Sequence[Path],
    images: Sequence[UInt8[np.ndarray, "h w 3"]],
    found: Sequence[Detections],
    class_names: Sequence[str],
) -> None:
    """Writes each image with its detections drawn, as `drawing_name` says."""
    folder.mkdir(parents=True, exist_ok=True)
    for path, image, detections in zip(paths, images, found, strict=True):
        picture = Image.fromarray(drawn(image, detections, class_names))
        picture.save(folder / drawing_name(path))
