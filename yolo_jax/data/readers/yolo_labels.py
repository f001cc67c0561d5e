"""YOLO's files of labels, one an image; see `yolo`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from yolo_jax.core.boxes import box_cxcywh_to_xyxy
from yolo_jax.data.doctor import Fault, Kind, Problem
from yolo_jax.data.readers.records import (
    Box,
    files_below,
    place_box,
    read_lines,
    without_doubles,
)

_OVER = 0.01  # by which a number may leave 0–1 and be rounding, as in Ultralytics
_EXPECTED = "`class cx cy w h` or `class x1 y1 x2 y2 x3 y3 …`"


def label_file(image: Path) -> Path:
    """Returns where the labels of an image are: `labels` for the last `images` of its path."""
    parts = list(image.with_suffix(".txt").parts)
    for index in reversed(range(len(parts) - 1)):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts)


def report_unused(folder: Path, images: Sequence[Path], problems: list[Problem]) -> None:
    """Reports labels in the folder of labels of a folder of images that no image is of.

    The image may be missing, or the label file's name may differ in capitals or its suffix from the
    one that is sought, and then its boxes would be missed without a word.
    """
    place = label_file(folder / "any").parent
    if not place.is_dir():
        return
    used = {label_file(image) for image in images}
    files = {file for file in files_below(place) if file.suffix.lower() == ".txt"}
    for file in sorted(files - used):
        if _is_of_labels(file):
            reason = f"no image in {folder} has these labels, by its name in the same capitals"
            problems.append(Problem(file, "the file", f"{reason}; skipped"))


def _is_of_labels(file: Path) -> bool:
    """Tells labels from other texts, such as a list of classes or of images, by the first line."""
    with file.open("rb") as content:
        first = content.readline(1000).split()
    try:
        return len([float(word) for word in first]) > 1
    except ValueError:
        return False


def read_boxes(
    file: Path,
    size: tuple[int, int],
    class_names: Sequence[str],
    is_pose: bool,
    problems: list[Problem],
) -> list[Box] | None:
    """Returns the boxes of a label file, or None where it cannot be read."""
    if not file.exists():
        return []
    try:
        lines = read_lines(file, "a file of labels")
    except ValueError as error:
        reason = f"{error}; its image is skipped"
        problems.append(Problem(file, "the file", reason, loses_image=True))
        return None
    boxes = []
    for place, line in lines:
        box, fault = _box(place, line, size, len(class_names), is_pose)
        if box is not None:
            boxes.append(box)
        if fault:
            problems.append(Problem(file, place, *fault))
    boxes, doubles = without_doubles(boxes)
    problems += [Problem(file, "the file", *double) for double in doubles]
    return boxes


def _box(
    place: str, line: str, size: tuple[int, int], classes: int, is_pose: bool
) -> tuple[Box | None, Fault | None]:
    """Returns the box of a line if it is usable, and what is wrong or None."""
    try:
        number, *values = (float(word) for word in line.split())
    except ValueError:
        return None, Fault(f"found {line!r}, expected the numbers {_EXPECTED}; skipped")
    if is_pose:
        values = values[:4]
    is_box, is_polygon = len(values) == 4, len(values) >= 6 and len(values) % 2 == 0
    if not is_box and not is_polygon:
        return None, Fault(f"found {len(values) + 1} numbers, expected {_EXPECTED}; skipped")
    if number not in range(classes):
        reason = f"its class is {number:g}, not one of 0 to {classes - 1}; skipped"
        return None, Fault(reason, Kind.UNKNOWN_CLASS)
    shown = f"its {'box' if is_box else 'polygon'} {line!r}"
    # This way round NaN is refused too.
    if not all(-_OVER <= value <= 1 + _OVER for value in values):
        reason = f"{shown} is not of parts of the image's sides, 0 to 1; skipped"
        return None, Fault(reason, Kind.OUTSIDE)
    if is_box:
        corners = box_cxcywh_to_xyxy(np.asarray(values))
    else:
        points = np.asarray(values).reshape(-1, 2)
        corners = np.concatenate([points.min(axis=0), points.max(axis=0)])
    placed, fault = place_box(corners * np.tile(size, 2), *size, shown)
    if placed is None:
        return None, fault
    return Box(place, tuple(values), placed, int(number)), fault
