"""Detections written down: JSON, CSV, a COCO data set, YOLO's text files."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from yolo_jax.core.boxes import box_xyxy_to_cxcywh, box_xyxy_to_xywh
from yolo_jax.core.json_files import partial_of, save_json
from yolo_jax.inference.found import Found
from yolo_jax.inference.sources import file_name

# Thousandths of a pixel and millionths of a score are far below what a network means by them.
_PX, _SHARE = 3, 6


class Record(NamedTuple):
    """What is kept of an image when its pixels are gone: see `Found`.

    Attributes:
        size: (height, width), px.
    """

    name: str
    frame: int | None
    size: tuple[int, int]
    boxes: Float[np.ndarray, "n 4"]
    scores: Float[np.ndarray, "n"]
    classes: Int[np.ndarray, "n"]


def record_of(found: Found) -> Record:
    """Returns what is kept of an image when its pixels are gone."""
    height, width = found.pixels.shape[:2]
    return Record(
        found.name, found.frame, (height, width), found.boxes, found.scores, found.classes
    )


def write_json(path: Path, records: Sequence[Record], class_names: Sequence[str]) -> None:
    """Writes JSON: boxes xyxy in pixels of the image, from 0; `frame` in videos alone.

    `[{"image": …, "frame": 0, "width": …, "height": …, "detections": [{"class": name, "score": s,
    "box": [xmin, ymin, xmax, ymax]}]}]`
    """
    content = []
    for record in records:
        of_video = {} if record.frame is None else {"frame": record.frame}
        content.append({"image": record.name} | of_video | json_of(record, class_names))
    save_json(path, content)


def json_of(record: Record, class_names: Sequence[str]) -> dict[str, Any]:
    """Returns what `write_json` says of an image, but for its name and frame."""
    height, width = record.size
    found = [
        {"class": class_names[index], "score": score, "box": box}
        for box, score, index in _rounded(record)
    ]
    return {"width": width, "height": height, "detections": found}


def write_csv(path: Path, records: Sequence[Record], class_names: Sequence[str]) -> None:
    """Writes a row for each object: image, frame, class, score, xmin, ymin, xmax, ymax."""
    partial = partial_of(path)
    with partial.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "frame", "class", "score", "xmin", "ymin", "xmax", "ymax"])
        for record in records:
            frame = "" if record.frame is None else record.frame
            for box, score, index in _rounded(record):
                rows.writerow([record.name, frame, class_names[index], score, *box])
    partial.replace(path)


def write_coco_json(path: Path, records: Sequence[Record], class_names: Sequence[str]) -> None:
    """Writes a COCO data set of what was found, with `score` in each annotation.

    It can be looked at, mended and trained on like any other. Ids count from 1; images in the
    file's folder, or below it, are named as seen from there.
    """
    images, annotations = [], []
    for number, record in enumerate(records, 1):
        height, width = record.size
        file = _seen_from(path.parent, record.name)
        name = file if record.frame is None else f"{file}#{record.frame}"
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for box, score, index in _rounded(record):
            xywh = box_xyxy_to_xywh(np.asarray([box]))[0].round(_PX)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": index + 1,
                    "bbox": xywh.tolist(),
                    "area": round(float(xywh[2] * xywh[3]), _PX),
                    "iscrowd": 0,
                    "score": score,
                }
            )
    categories = [{"id": i, "name": name} for i, name in enumerate(class_names, 1)]
    content = {"images": images, "categories": categories, "annotations": annotations}
    save_json(path, content)


def write_yolo(folder: Path, records: Sequence[Record]) -> None:
    """Writes YOLO's labels, a text file an image: class, centre x and y, width, height, 0–1.

    Scores have no place there.

    Args:
        folder: of the files, which is there.
        records: of the images.

    Raises:
        ValueError: two images would have one file.
    """
    names: dict[str, str] = {}
    for record in records:
        name = labels_name(record.name, record.frame)
        if name in names:
            raise ValueError(
                f"{names[name]} and {record.name} would have one file of labels, {folder / name}; "
                "write them by two commands, or rename one"
            )
        names[name] = record.name
        height, width = record.size
        boxes = box_xyxy_to_cxcywh(np.asarray(record.boxes, np.float64).reshape(-1, 4))
        boxes /= [width, height, width, height]
        lines = [
            " ".join([str(int(index)), *(f"{side:.{_SHARE}f}" for side in box)]) + "\n"
            for box, index in zip(boxes, record.classes, strict=True)
        ]
        (folder / name).write_text("".join(lines), encoding="utf-8")


def labels_name(source: str, frame: int | None) -> str:
    """Returns the name of an image's file of YOLO's labels; a video's frames are numbered."""
    number = "" if frame is None else f"_{frame:06d}"
    return f"{Path(file_name(source)).stem}{number}.txt"


def _seen_from(folder: Path, name: str) -> str:
    path = Path(name).absolute()
    return str(path.relative_to(folder.absolute())) if folder.absolute() in path.parents else name


def _rounded(record: Record) -> list[tuple[list[float], float, int]]:
    """Returns (box, score, class) of each object, with as many digits as mean something."""
    return [
        ([round(float(side), _PX) for side in box], round(float(score), _SHARE), int(index))
        for box, score, index in zip(record.boxes, record.scores, record.classes, strict=True)
    ]
