"""YOLO's folders as Ultralytics lays them out: a data.yaml, and a text file of labels an image.

Source: https://docs.ultralytics.com/datasets/detect/.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from yolo_jax.core.boxes import box_cxcywh_to_xyxy
from yolo_jax.core.types import Dataset
from yolo_jax.data.doctor import Problem, report
from yolo_jax.data.readers.records import (
    IMAGE_SUFFIXES,
    Box,
    climbs_out,
    find_image,
    make_annotation,
    place_box,
    read_class_names,
    read_lines,
    read_text,
    without_doubles,
)
from yolo_jax.data.readers.sizes import image_sizes

YAML_NAME = "data.yaml"
_SPLITS = ("train", "val", "test")
_OVER = 0.01  # by which a number may leave 0–1 and be rounding, as in Ultralytics
_EXPECTED = "`class cx cy w h` or `class x1 y1 x2 y2 x3 y3 …`"


def read_yolo(
    path: Path | str,
    split: str | None = None,
    *,
    class_names_file: Path | str | None = None,
    strict: bool = False,
) -> tuple[Dataset, tuple[Problem, ...]]:
    """Reads the data set of a data.yaml.

    `path` in it is the data's folder, as seen from the file (default: the file's own). `train`,
    `val` and `test` are each a folder of images, a text file that lists images, or a list of
    these, relative to the data's folder and inside it, or absolute. A line of a list is absolute,
    or inside the list's folder or the data's. The labels of an image lie where `labels` stands in
    place of the last `images` of its path; an image without that file shows no object. A polygon
    becomes the box around it; of a pose (`kpt_shape`) the box is taken. Bad records are skipped
    and reported. Image ids count from 0.

    Args:
        path: of the yaml file, or of the folder with a data.yaml.
        split: `train`, `val` or `test`; None takes what the file has if that is one thing.
        class_names_file: has a class a line, for a yaml without `names`.
        strict: a bad record is an error.

    Returns:
        The data set, and the bad records that it is without.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: the yaml cannot be read, it has a field that is wrong or names of another
            number than `nc`, it is unclear which split is meant, no image is usable, or strict
            and a record is bad.
    """
    path = Path(path)
    file = path / YAML_NAME if path.is_dir() else path
    content = _load(file)
    class_names = _class_names(file, content, class_names_file)
    problems: list[Problem] = []
    images = _images(file, content, _split(file, content, split), problems)
    labels = [_label_file(image) for image in images]
    if images and not any(label.is_file() for label in labels):
        reason = f"none of its {len(images)} images has labels, such as {labels[0]}"
        problems.append(Problem(file, "the split", reason))
    annotations = []
    for image, label, size in zip(images, labels, image_sizes(images), strict=True):
        if isinstance(size, str):
            problems.append(Problem(image, "the image", size))
            continue
        boxes = _boxes(label, size, class_names, "kpt_shape" in content, problems)
        if boxes is not None:
            annotations.append(make_annotation(len(annotations), image, size, boxes))
    report(problems, strict=strict)
    if not annotations:
        raise ValueError(f"{file} has no usable image, of {len(images)} that it leads to")
    return Dataset(tuple(annotations), class_names, file), tuple(problems)


def _load(file: Path) -> dict[str, Any]:
    text = read_text(file, "a YOLO data.yaml", "YAML")
    try:
        # Every scalar as text: a class named `no` or `007` is not False or 7.
        content = yaml.load(text, yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{file} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} is not a YOLO data.yaml: expected `train: …` and `names: …`")
    # What stands there without a value is not there.
    return {key: value for key, value in content.items() if value not in ("", "~", "null")}


def _class_names(
    file: Path, content: Mapping[str, Any], class_names_file: Path | str | None
) -> tuple[str, ...]:
    """Returns the names by class index, checked against `nc`."""
    names, count = content.get("names"), content.get("nc")
    where = f"{file}: names"
    if names is None and class_names_file is not None:
        names, where = list(read_class_names(class_names_file)), str(class_names_file)
    if isinstance(names, dict):
        numbers = [str(index) for index in range(len(names))]
        if set(names) != set(numbers):
            raise ValueError(
                f"{where} has the indices {list(names)}; expected 0 to {len(names) - 1}"
            )
        names = [names[number] for number in numbers]
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise ValueError(
            f"{where} is {names!r}; expected a list of class names, or `index: name` lines. "
            "Without it, give a file of class names"
        )
    if count is not None and count != str(len(names)):
        raise ValueError(
            f"{where} has {len(names)} class names, and nc in {file} is {count}; mend one of them"
        )
    return tuple(names)


def _split(file: Path, content: Mapping[str, Any], split: str | None) -> list[str]:
    """Returns the folders and lists of a split, as the yaml has them."""
    found = {name: content[name] for name in _SPLITS if name in content}
    if split is None:
        values = list(found.values())
        if not values or any(value != values[0] for value in values):
            raise ValueError(f"{file} has the splits {list(found)}; say which one is meant")
        split = next(iter(found))
    if split not in found:
        raise ValueError(f"{file} has no split {split!r}; it has {list(found)}")
    entries = found[split] if isinstance(found[split], list) else [found[split]]
    if not entries or not all(isinstance(entry, str) for entry in entries):
        raise ValueError(
            f"{file}: {split} is {found[split]!r}; expected a folder of images, a text file that "
            "lists them, or a list of these"
        )
    return entries


def _images(
    file: Path, content: Mapping[str, Any], entries: Sequence[str], problems: list[Problem]
) -> list[Path]:
    """Returns the image files of a split, each once."""
    root = file.parent / str(content.get("path", ""))
    if not root.is_dir():
        raise FileNotFoundError(
            f"{file}: path is {content['path']!r}, and there is no folder {root}; expected the "
            f"data's folder, absolute or as seen from {file.parent}"
        )
    images: dict[Path, None] = {}
    for entry in entries:
        place = _place(file, root, entry)
        if place.is_dir():
            found = sorted(p for p in place.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
            if not found:
                problems.append(Problem(file, entry, f"there is no image in {place}"))
        else:
            found = _listed(place, root, problems)
        for image in found:
            if image in images:
                problems.append(Problem(place, str(image), "it was listed before; skipped"))
            images[image] = None
    return list(images)


def _place(file: Path, root: Path, entry: str) -> Path:
    """Returns the folder or list of an entry."""
    # Roboflow writes `../train/images` and means `train/images`, as Ultralytics has come to know.
    if entry.startswith("../") and (root / entry.removeprefix("../")).exists():
        entry = entry.removeprefix("../")
    place = root / entry
    if climbs_out(entry):
        raise ValueError(f"{file}: {entry!r} lies outside {root}; set path to the data's folder")
    if not place.is_dir() and not (place.is_file() and place.suffix == ".txt"):
        raise FileNotFoundError(
            f"{file}: {entry!r}: there is no folder of images or .txt list {place}"
        )
    return place


def _listed(file: Path, root: Path, problems: list[Problem]) -> list[Path]:
    """Returns the image files that a text file lists."""
    images = []
    for place, line in read_lines(file, "a list of images"):
        image, reason = find_image(line, [file.parent, root])
        if reason:
            problems.append(Problem(file, f"{place} ({line})", reason))
        else:
            images.append(image)
    return images


def _label_file(image: Path) -> Path:
    parts = list(image.with_suffix(".txt").parts)
    for index in reversed(range(len(parts) - 1)):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return Path(*parts)


def _boxes(
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
        problems.append(Problem(file, "the file", f"{error}; its image is skipped"))
        return None
    boxes = []
    for place, line in lines:
        box, reason = _box(place, line, size, len(class_names), is_pose)
        if box is not None:
            boxes.append(box)
        if reason:
            problems.append(Problem(file, place, reason))
    boxes, reason = without_doubles(boxes)
    if reason:
        problems.append(Problem(file, "the file", reason))
    return boxes


def _box(
    place: str, line: str, size: tuple[int, int], classes: int, is_pose: bool
) -> tuple[Box | None, str]:
    """Returns the box of a line if it is usable, and what is wrong or ""."""
    try:
        number, *values = (float(word) for word in line.split())
    except ValueError:
        return None, f"found {line!r}, expected the numbers {_EXPECTED}; skipped"
    if is_pose:
        values = values[:4]
    is_box, is_polygon = len(values) == 4, len(values) >= 6 and len(values) % 2 == 0
    if not is_box and not is_polygon:
        found = f"found {len(values) + 1} numbers"
        return None, f"{found}, expected {_EXPECTED}; skipped"
    if number not in range(classes):
        return None, f"its class is {number:g}, not one of 0 to {classes - 1}; skipped"
    shown = f"its {'box' if is_box else 'polygon'} {line!r}"
    # This way round NaN is refused too.
    if not all(-_OVER <= value <= 1 + _OVER for value in values):
        return None, f"{shown} is not of parts of the image's sides, 0 to 1; skipped"
    if is_box:
        corners = box_cxcywh_to_xyxy(np.asarray(values))
    else:
        points = np.asarray(values).reshape(-1, 2)
        corners = np.concatenate([points.min(axis=0), points.max(axis=0)])
    placed, reason = place_box(corners * np.tile(size, 2), *size, shown)
    if placed is None:
        return None, reason
    return Box(place, tuple(values), placed, int(number)), reason
