"""COCO's JSON: images, annotations and categories in one file.

Source: https://cocodataset.org/#format-data.
"""

import json
import math
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from yolo_jax.core.boxes import box_xywh_to_xyxy
from yolo_jax.core.types import Dataset
from yolo_jax.data.doctor import Fault, Kind, Problem, listed, report
from yolo_jax.data.readers.records import (
    Box,
    find_inside,
    make_annotation,
    place_box,
    read_text,
    without_doubles,
)

# Batches hold ids and sizes in 32 bits.
_LARGEST = 2**31 - 1
_IMAGE_FIELDS = ("id", "file_name", "width", "height")
_ANNOTATION_FIELDS = ("image_id", "category_id", "bbox")
# What is read of each list, or given anew where it is written.
_READ = {
    "images": (*_IMAGE_FIELDS, "source"),
    "annotations": (*_ANNOTATION_FIELDS, "id", "iscrowd"),
    "categories": ("id", "name"),
}
_SAME_AREA = 0.01  # px²


def read_coco(path: Path | str, *, strict: bool = False) -> tuple[Dataset, tuple[Problem, ...]]:
    """Reads a COCO JSON file; image files are sought relative to its folder.

    Those of COCO's own layout, `annotations/instances_NAME.json`, are sought in the folder `NAME`
    or `images/NAME` beside `annotations` first.

    A bad record (one that lacks a field, an image file that is missing or outside the folder, a
    box outside its image or of no size, an unknown category, an annotation that is given twice)
    is skipped and reported. Categories become class indices by growing id; images without boxes
    are kept: `doctor.check_trainable` refuses a set that has no box at all.

    Args:
        path: of the JSON file.
        strict: a bad record is an error.

    Returns:
        The data set, and the bad records that it is without.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read, is not COCO JSON, has no categories or no usable
            image, or strict and a record is bad.
    """
    path = Path(path)
    content = _load(path)
    problems: list[Problem] = []
    categories = _categories(path, content["categories"])
    images, files = _images(path, content["images"], problems)
    class_of = {number: index for index, number in enumerate(categories)}
    boxes = _boxes(path, content, images, class_of, problems)
    for number, image in images.items():
        boxes[number], doubles = without_doubles(boxes[number], "category and bbox")
        problems += [Problem(path, _image_name(image), *double) for double in doubles]
    report(problems, strict=strict)
    if not images:
        raise ValueError(f"{path} has no usable image, of {len(content['images'])} that it lists")
    annotations = tuple(
        make_annotation(
            number,
            files[number],
            (image["width"], image["height"]),
            boxes[number],
            source=str(image.get("source", "")),
        )
        for number, image in images.items()
    )
    names, lost = tuple(categories.values()), _not_kept(content, categories)
    return Dataset(annotations, names, path, not_kept=lost), tuple(problems)


def category_ids(path: Path) -> dict[str, int]:
    """Returns the id that a COCO JSON file gives each class; see `read_coco` for errors."""
    categories = _categories(path, _load(path)["categories"])
    return {name: number for number, name in categories.items()}


def _load(path: Path) -> dict[str, list[Any]]:
    text = read_text(path, "a COCO JSON file", "JSON")
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"{path} is not COCO JSON: its lists and objects nest too deep") from error
    except ValueError as error:  # bad JSON, or a number of thousands of digits
        raise ValueError(f"{path} is not JSON in UTF-8: {error}") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise ValueError(f"{path} is not COCO JSON: it lacks the list {key!r}")
    return content


def _not_kept(content: Mapping[str, Any], categories: Mapping[int, str]) -> tuple[str, ...]:
    """Returns what of the file is not read, in words."""
    lost = []
    if list(categories) != [*range(1, len(categories) + 1)]:
        lost.append(f"category ids ({listed(categories)}): classes are counted anew")
    for key, read in _READ.items():
        records = [record for record in content[key] if isinstance(record, dict)]
        counts = Counter(
            field
            for record in records
            for field, value in record.items()
            # What follows from the box is no loss, nor is what says nothing.
            if field not in read and value not in (None, "", [], {}) and not _follows(field, record)
        )
        lost += [f"{field} of {count:,} {key}" for field, count in sorted(counts.items())]
    info = content.get("info")
    if info and not (isinstance(info, dict) and set(info) == {"description"}):  # a writer's own
        lost.append("info")
    others = [key for key in content if key not in (*_READ, "info") and content[key]]
    return (*lost, *sorted(others))


def _follows(field: str, record: Mapping[str, Any]) -> bool:
    box = _four_numbers(record.get("bbox")) if field == "area" else None
    area = _number(record.get(field))  # NaN is like no other
    return box is not None and abs(box[2] * box[3] - area) < _SAME_AREA


def _is_whole(value: Any) -> bool:
    """Tells whether a value is a whole number; to Python, JSON's true and false are 1 and 0."""
    return isinstance(value, int) and not isinstance(value, bool)


def _missing(record: Any, fields: Sequence[str]) -> Fault | None:
    """Returns which fields a record lacks, or None where it has them all."""
    if not isinstance(record, dict):
        return Fault(f"it is {record!r}, not an object with the fields {list(fields)}; skipped")
    missing = [field for field in fields if field not in record]
    return Fault(f"it lacks the fields {missing}; skipped") if missing else None


def _categories(path: Path, records: list[Any]) -> dict[int, str]:
    """Returns names by id, by growing id; a bad one is an error: no class index would be sure."""
    if not records:
        raise ValueError(
            f"{path} has no categories: its list 'categories' is empty; add the classes"
        )
    categories: dict[int, str] = {}
    for index, record in enumerate(records):
        fault = _missing(record, ("id", "name"))
        reason = fault.reason.removesuffix("; skipped") if fault else ""
        if not reason and not _is_whole(record["id"]):
            reason = f"its id is {record['id']!r}, not a whole number"
        elif not reason and record["id"] in categories:
            reason = f"its id {record['id']} is that of a category before it"
        elif not reason and not isinstance(record["name"], str | int | float):
            reason = f"its name is {record['name']!r}, not a text"
        if reason:
            raise ValueError(f"{path}: categories[{index}]: {reason}")
        categories[record["id"]] = str(record["name"])
    return dict(sorted(categories.items()))


def _image_folders(path: Path) -> list[Path]:
    """Returns the folders that image files are sought in."""
    folders = [path.parent]
    if path.parent.name == "annotations" and path.stem.startswith("instances_"):
        root, name = path.parent.parent, path.stem.removeprefix("instances_")
        folders = [root / name, root / "images" / name, *folders]
    return folders


def _images(
    path: Path, records: list[Any], problems: list[Problem]
) -> tuple[dict[int, dict[str, Any]], dict[int, Path]]:
    """Returns the usable image records by id, in the file's order, and the image files."""
    folders = _image_folders(path)
    images: dict[int, dict[str, Any]] = {}
    files: dict[int, Path] = {}
    for index, record in enumerate(records):
        name, fault = f"images[{index}]", _missing(record, _IMAGE_FIELDS)
        if not fault:
            name, fault = _image_name(record), _wrong_image(record, images)
        if not fault:
            files[record["id"]], fault = find_inside(record["file_name"], folders)
        if fault:
            # Of what is given twice in the same words, one is left.
            number = record.get("id") if isinstance(record, dict) else None
            is_there = isinstance(number, int) and images.get(number) == record
            problems.append(Problem(path, name, *fault, loses_image=not is_there))
        else:
            images[record["id"]] = record
    return images, files


def _image_name(record: Mapping[str, Any]) -> str:
    name = str(record["file_name"])
    return f"image {record['id']} ({name if name.isprintable() else repr(name)})"


def _wrong_image(record: Mapping[str, Any], images: Container[int]) -> Fault | None:
    """Returns why an image record by itself cannot be used, or None."""
    number, size = record["id"], (record["width"], record["height"])
    reason = ""
    if not _is_whole(number) or not 0 <= number <= _LARGEST:
        reason = f"its id is {number!r}, not a whole number of 0 to {_LARGEST}"
    elif number in images:
        reason = "its id is that of an image before it"
    elif not all(_is_whole(side) and 0 < side <= _LARGEST for side in size):
        reason = f"its (width, height) is {size}, not two whole numbers of px, 1 to {_LARGEST}"
    elif not isinstance(record["file_name"], str):
        reason = f"its file_name is {record['file_name']!r}, not a text"
    return Fault(f"{reason}; skipped") if reason else None


def _boxes(
    path: Path,
    content: Mapping[str, list[Any]],
    images: Mapping[int, Mapping[str, Any]],
    class_of: Mapping[int, int],
    problems: list[Problem],
) -> dict[int, list[Box]]:
    """Returns the usable boxes by image id, in the file's order."""
    boxes: dict[int, list[Box]] = {number: [] for number in images}
    # By repr, which tells 1 from true and 1.0, and makes a key of whatever stands there.
    listed = {repr(record.get("id")) for record in content["images"] if isinstance(record, dict)}
    for index, record in enumerate(content["annotations"]):
        name, fault = f"annotations[{index}]", _missing(record, _ANNOTATION_FIELDS)
        if not fault:
            number = record["image_id"]
            if "id" in record:
                name = f"annotation {record['id']} of image {number}"
            if _is_whole(number) and number in images:
                box, fault = _box(f"annotations[{index}]", record, images[number], class_of)
                if box is not None:
                    boxes[number].append(box)
            elif repr(number) not in listed:  # else the image itself is reported
                fault = Fault(f"the file has no such image as {number!r}; skipped")
        if fault:
            problems.append(Problem(path, name, *fault))
    return boxes


def _box(
    place: str, record: Mapping[str, Any], image: Mapping[str, Any], class_of: Mapping[int, int]
) -> tuple[Box | None, Fault | None]:
    """Returns the box if it is usable, and what is wrong or None."""
    category, crowd = record["category_id"], record.get("iscrowd", 0)
    if not _is_whole(category) or category not in class_of:
        reason = f"category {category!r} is not among the file's ([{listed(class_of)}]); skipped"
        return None, Fault(reason, Kind.UNKNOWN_CLASS)
    if crowd not in (0, 1, None):
        return None, Fault(f"its iscrowd is {crowd!r}, not 0 or 1; skipped")
    bbox = _four_numbers(record["bbox"])
    if bbox is None:
        return None, Fault(f"its bbox is {record['bbox']}, not four finite numbers; skipped")
    xyxy = box_xywh_to_xyxy(np.asarray(bbox, np.float64))
    placed, fault = place_box(xyxy, image["width"], image["height"], f"its bbox {record['bbox']}")
    if placed is None:
        return None, fault
    if "id" in record:
        place = f"{place} (id {record['id']})"
    area = _number(record.get("area"))
    return Box(place, bbox, placed, class_of[category], bool(crowd), area), fault


def _number(value: Any) -> float:
    """Returns an area as a float, NaN where it is not a finite number of 0 or more."""
    number = _four_numbers([value] * 4)
    return number[0] if number and number[0] >= 0 else math.nan


def _four_numbers(values: Any) -> tuple[float, ...] | None:
    """Returns a bbox as floats, or None where it is not four finite numbers."""
    if not isinstance(values, list) or len(values) != 4:
        return None
    if not all(isinstance(value, float) or _is_whole(value) for value in values):
        return None
    try:
        numbers = tuple(float(value) for value in values)
    except OverflowError:  # JSON's whole numbers may have hundreds of digits
        return None
    return numbers if np.isfinite(numbers).all() else None
