"""COCO's JSON: images, annotations and categories in one file.

Source: https://cocodataset.org/#format-data.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from yolo_jax.core.boxes import box_xywh_to_xyxy
from yolo_jax.core.types import Annotation, Dataset
from yolo_jax.data.doctor import Problem, report

# A box may stick out by rounding; by more it is clipped and reported.
_TOLERANCE_PX = 1.0


def read_coco(path: Path | str, *, strict: bool = False) -> tuple[Dataset, tuple[Problem, ...]]:
    """Reads a COCO JSON file; image files are sought relative to its folder.

    A bad record (an image file that is missing or outside the folder, a box outside its image or
    of no size, an unknown category) is skipped and reported. Categories become class indices by
    growing id; images without boxes are kept.

    Args:
        path: of the JSON file.
        strict: a bad record is an error.

    Returns:
        The data set, and the bad records that it is without.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not COCO JSON, has no usable image, or strict and a record is bad.
    """
    path = Path(path)
    content = _load(path)
    problems: list[Problem] = []
    categories = sorted(content["categories"], key=lambda category: category["id"])
    class_of = {category["id"]: index for index, category in enumerate(categories)}
    images = _images(path, content["images"], problems)
    boxes: dict[int, list[tuple[np.ndarray, int, bool]]] = {number: [] for number in images}
    for record in content["annotations"]:
        found = _box(record, images, class_of)
        if isinstance(found, str):
            name = f"annotation {record.get('id')} of image {record.get('image_id')}"
            problems.append(Problem(path, name, found))
        elif found is not None:
            box, index, crowd, note = found
            if note:
                problems.append(Problem(path, f"annotation {record.get('id')}", note))
            boxes[record["image_id"]].append((box, index, crowd))
    report(problems, strict=strict)
    if not images:
        raise ValueError(f"{path} has no usable image")
    annotations = tuple(_annotation(path, images[number], boxes[number]) for number in images)
    names = tuple(str(category["name"]) for category in categories)
    return Dataset(annotations, names, path), tuple(problems)


def _load(path: Path) -> dict[str, list[dict[str, Any]]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON in UTF-8: {error}") from error
    for key, fields in (
        ("images", ("id", "file_name", "width", "height")),
        ("annotations", ("image_id", "category_id", "bbox")),
        ("categories", ("id", "name")),
    ):
        records = content.get(key) if isinstance(content, dict) else None
        if not isinstance(records, list):
            raise ValueError(f"{path} is not COCO JSON: it lacks the list {key!r}")
        for index, record in enumerate(records):
            missing = [f for f in fields if not isinstance(record, dict) or f not in record]
            if missing:
                raise ValueError(f"{path}: {key}[{index}] lacks the fields {missing}")
    return content


def _images(
    path: Path, records: list[dict[str, Any]], problems: list[Problem]
) -> dict[int, dict[str, Any]]:
    """Returns the usable image records by id, in the file's order."""
    folder = path.parent.resolve()
    images: dict[int, dict[str, Any]] = {}
    for record in records:
        file = (folder / record["file_name"]).resolve()
        name = f"image {record['id']} ({record['file_name']})"
        if record["id"] in images:
            problems.append(Problem(path, name, "its id is that of an image before it; skipped"))
        elif not file.is_relative_to(folder):
            problems.append(Problem(path, name, f"its file lies outside {path.parent}; skipped"))
        elif not file.is_file():
            problems.append(Problem(path, name, "there is no such image file; skipped"))
        else:
            images[record["id"]] = record
    return images


def _box(
    record: Mapping[str, Any], images: Mapping[int, dict[str, Any]], class_of: Mapping[int, int]
) -> tuple[np.ndarray, int, bool, str] | str | None:
    """Returns box, class, crowd and a note; or what is wrong; or None where the image was."""
    image = images.get(record["image_id"])
    if image is None:
        return "its image is not in the file or was skipped; skipped"
    if record["category_id"] not in class_of:
        known = sorted(class_of)
        return f"category {record['category_id']} is not among the file's ({known}); skipped"
    xywh = np.asarray(record["bbox"], np.float64)
    if xywh.shape != (4,) or not np.isfinite(xywh).all():
        return f"its bbox is {record['bbox']}, not four finite numbers; skipped"
    if (xywh[2:] <= 0).any():
        return f"its bbox {record['bbox']} has no width or no height; skipped"
    limits = np.array([image["width"], image["height"]] * 2, np.float64)
    box = box_xywh_to_xyxy(xywh)
    clipped = np.clip(box, 0, limits)
    size = f"{image['width']}×{image['height']} px"
    if (clipped[2:] <= clipped[:2]).any():
        return f"its bbox {record['bbox']} lies outside the image of {size}; skipped"
    note = ""
    if np.abs(clipped - box).max() > _TOLERANCE_PX:
        note = f"its bbox {record['bbox']} sticks out of the image of {size}; clipped"
    crowd = bool(record.get("iscrowd", 0))
    return clipped, class_of[record["category_id"]], crowd, note


def _annotation(
    path: Path, image: dict[str, Any], boxes: list[tuple[np.ndarray, int, bool]]
) -> Annotation:
    return Annotation(
        image_id=image["id"],
        path=path.parent / image["file_name"],
        width=image["width"],
        height=image["height"],
        boxes=np.asarray([box for box, _, _ in boxes], np.float32).reshape(-1, 4),
        classes=np.asarray([index for _, index, _ in boxes], np.int32),
        crowd=np.asarray([crowd for _, _, crowd in boxes], bool),
        source=str(image.get("source", "")),
    )
