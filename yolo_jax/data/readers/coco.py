"""COCO's JSON: images, annotations and categories in one file.

Source: https://cocodataset.org/#format-data.
"""

import json
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from yolo_jax.core.boxes import box_xywh_to_xyxy, clip_boxes_xyxy
from yolo_jax.core.types import Annotation, Dataset
from yolo_jax.data.doctor import Problem, report

# A box that sticks out by less is clipped as rounding; by this or more it is reported too.
_TOLERANCE_PX = 1.0
# Batches hold ids in 32 bits.
_LARGEST_ID = 2**31 - 1
_IMAGE_FIELDS = ("id", "file_name", "width", "height")
_ANNOTATION_FIELDS = ("image_id", "category_id", "bbox")


def read_coco(path: Path | str, *, strict: bool = False) -> tuple[Dataset, tuple[Problem, ...]]:
    """Reads a COCO JSON file; image files are sought relative to its folder.

    A bad record (one that lacks a field, an image file that is missing or outside the folder, a
    box outside its image or of no size, an unknown category) is skipped and reported. Categories
    become class indices by growing id; images without boxes are kept.

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
    categories = _categories(path, content["categories"])
    class_of = {number: index for index, number in enumerate(categories)}
    images = _images(path, content["images"], problems)
    boxes: dict[int, list[tuple[np.ndarray, int, bool]]] = {number: [] for number in images}
    listed = [record.get("id") for record in content["images"] if isinstance(record, dict)]
    for index, record in enumerate(content["annotations"]):
        name, reason = f"annotations[{index}]", _missing(record, _ANNOTATION_FIELDS)
        if not reason:
            name = f"annotation {record.get('id')} of image {record['image_id']}"
            number = record["image_id"]
            if isinstance(number, int) and number in images:
                box, reason = _box(record, images[number], class_of)
                if box is not None:
                    boxes[number].append(box)
            elif number not in listed:  # else the image itself is reported
                reason = "the file has no such image; skipped"
        if reason:
            problems.append(Problem(path, name, reason))
    report(problems, strict=strict)
    if not images:
        raise ValueError(f"{path} has no usable image")
    annotations = tuple(_annotation(path, images[number], boxes[number]) for number in images)
    return Dataset(annotations, tuple(categories.values()), path), tuple(problems)


def _load(path: Path) -> dict[str, list[Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON in UTF-8: {error}") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise ValueError(f"{path} is not COCO JSON: it lacks the list {key!r}")
    return content


def _missing(record: Any, fields: Sequence[str]) -> str:
    """Returns which fields a record lacks, or "" where it has them all."""
    if not isinstance(record, dict):
        return f"it is {record!r}, not an object with the fields {list(fields)}; skipped"
    missing = [field for field in fields if field not in record]
    return f"it lacks the fields {missing}; skipped" if missing else ""


def _categories(path: Path, records: list[Any]) -> dict[int, str]:
    """Returns names by id, by growing id; without a category no class index would be sure."""
    categories: dict[int, str] = {}
    for index, record in enumerate(records):
        reason = _missing(record, ("id", "name"))
        if not reason and not isinstance(record["id"], int):
            reason = f"its id is {record['id']!r}, not a whole number"
        elif not reason and record["id"] in categories:
            reason = f"its id {record['id']} is that of a category before it"
        if reason:
            raise ValueError(f"{path}: categories[{index}]: {reason.removesuffix('; skipped')}")
        categories[record["id"]] = str(record["name"])
    return dict(sorted(categories.items()))


def _images(path: Path, records: list[Any], problems: list[Problem]) -> dict[int, dict[str, Any]]:
    """Returns the usable image records by id, in the file's order."""
    images: dict[int, dict[str, Any]] = {}
    for index, record in enumerate(records):
        name, reason = f"images[{index}]", _missing(record, _IMAGE_FIELDS)
        if not reason:
            name = f"image {record['id']} ({record['file_name']})"
            reason = _wrong_image(path.parent, record, images)
        if reason:
            problems.append(Problem(path, name, reason))
        else:
            images[record["id"]] = record
    return images


def _wrong_image(folder: Path, record: Mapping[str, Any], images: Container[int]) -> str:
    """Returns why an image record cannot be used, or ""."""
    number, size = record["id"], (record["width"], record["height"])
    if not isinstance(number, int) or not 0 <= number <= _LARGEST_ID:
        return f"its id is {number!r}, not a whole number of 0 to {_LARGEST_ID}; skipped"
    if number in images:
        return "its id is that of an image before it; skipped"
    if not all(isinstance(side, int) and side > 0 for side in size):
        return f"its (width, height) is {size}, not two whole numbers of px above 0; skipped"
    file = (folder / str(record["file_name"])).resolve()
    if not file.is_relative_to(folder.resolve()):
        return f"its file lies outside {folder}; skipped"
    if not file.is_file():
        return "there is no such image file; skipped"
    return ""


def _box(
    record: Mapping[str, Any], image: Mapping[str, Any], class_of: Mapping[int, int]
) -> tuple[tuple[np.ndarray, int, bool] | None, str]:
    """Returns the box with its class and crowd flag if it is usable, and what is wrong or ""."""
    bbox, category = record["bbox"], record["category_id"]
    if category not in list(class_of):
        return None, f"category {category!r} is not among the file's ({list(class_of)}); skipped"
    numbers = isinstance(bbox, list) and all(isinstance(value, int | float) for value in bbox)
    if not numbers or len(bbox) != 4 or not np.isfinite(bbox).all():
        return None, f"its bbox is {bbox}, not four finite numbers; skipped"
    if min(bbox[2:]) <= 0:
        return None, f"its bbox {bbox} has no width or no height; skipped"
    size = f"{image['width']}×{image['height']} px"
    box = box_xywh_to_xyxy(np.asarray(bbox, np.float64))
    clipped = clip_boxes_xyxy(box, image["width"], image["height"])
    if (clipped[2:] <= clipped[:2]).any():
        return None, f"its bbox {bbox} lies outside the image of {size}; skipped"
    reason = ""
    if np.abs(clipped - box).max() >= _TOLERANCE_PX:
        reason = f"its bbox {bbox} sticks out of the image of {size}; clipped"
    return (clipped, class_of[category], bool(record.get("iscrowd", 0))), reason


def _annotation(
    path: Path, image: Mapping[str, Any], boxes: list[tuple[np.ndarray, int, bool]]
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
