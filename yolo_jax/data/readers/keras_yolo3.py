"""The annotation lines of keras-yolo3: `path xmin,ymin,xmax,ymax,class …`, an image a line.

Source: https://github.com/qqwweee/keras-yolo3, "Training" in its README.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from yolo_jax.core.types import Dataset
from yolo_jax.data.doctor import Fault, Kind, Problem, report
from yolo_jax.data.readers.records import (
    Box,
    find_image,
    make_annotation,
    place_box,
    read_class_names,
    read_lines,
    without_doubles,
)
from yolo_jax.data.readers.sizes import image_sizes

LINES_NAME, CLASSES_FILE = "annotations.txt", "classes.txt"
_BOX = re.compile(r"-?\d+(\.\d+)?(,-?\d+(\.\d+)?){4}")
# What was meant as a box; a path may hold such a word too.
_FIELD = re.compile(r"-?[\d.]+,\S*")


def read_keras_yolo3(
    path: Path | str,
    *,
    class_names_file: Path | str | None = None,
    strict: bool = False,
) -> tuple[Dataset, tuple[Problem, ...]]:
    """Reads a text file of annotation lines.

    Paths in it are absolute, or inside its folder, or else inside the working directory, as
    keras-yolo3 takes them. Bad records (a missing image, a box of no size or outside its image, a
    class without a name) are skipped and reported. Image ids count from 0.

    Args:
        path: of the file.
        class_names_file: has a class a line; None takes `classes.txt` beside the file.
        strict: a bad record is an error.

    Returns:
        The data set, and the bad records that it is without.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file or that of the classes cannot be read, no image is usable, or strict
            and a record is bad.
    """
    path = Path(path)
    lines = read_lines(path, "a file of annotation lines")
    if class_names_file is None and not (path.parent / CLASSES_FILE).is_file():
        raise FileNotFoundError(
            f"the class names of {path} are not known: there is no {CLASSES_FILE} beside it; put "
            "it there, a name a line, or give such a file: to `yolo-jax train` by --data.classes, "
            "to the other commands by --classes"
        )
    class_names = read_class_names(class_names_file or path.parent / CLASSES_FILE)
    problems: list[Problem] = []
    images: dict[Path, tuple[str, Float[np.ndarray, "n 5"]]] = {}
    for place, line in lines:
        image, boxes, fault = _image(path.parent, line)
        if fault:
            problems.append(Problem(path, place, *fault, loses_image=True))
        elif image in images:
            reason = f"its image is that of {images[image][0]}; skipped: one line has all boxes"
            problems.append(Problem(path, place, reason))
        else:
            images[image] = place, boxes
    annotations = []
    for (image, (place, boxes)), size in zip(
        images.items(), image_sizes(list(images)), strict=True
    ):
        if isinstance(size, Fault):
            problems.append(Problem(path, f"{place} ({image})", *size, loses_image=True))
            continue
        usable = _boxes(path, place, boxes, size, class_names, problems)
        annotations.append(make_annotation(len(annotations), image, size, usable))
    report(problems, strict=strict)
    if not annotations:
        raise ValueError(f"{path} has no usable image, of {len(lines)} lines")
    return Dataset(tuple(annotations), class_names, path), tuple(problems)


def parse_line(line: str) -> tuple[str, Float[np.ndarray, "n 5"]]:
    """Splits an annotation line at its first word that is a box and followed by boxes alone.

    Args:
        line: `path xmin,ymin,xmax,ymax,class …`; the path may hold spaces.

    Returns:
        The path, and a row (xmin, ymin, xmax, ymax, class) a box, px.

    Raises:
        ValueError: the line names no image.
    """
    words = list(re.finditer(r"\S+", line))
    first = len(words)
    while first and _BOX.fullmatch(words[first - 1].group()):
        first -= 1
    if not first:
        raise ValueError(
            f"an annotation line is `path xmin,ymin,xmax,ymax,class …`; found {line.strip()!r}"
        )
    boxes = [[float(number) for number in word.group().split(",")] for word in words[first:]]
    # Cut out as it is: the path may hold two spaces in a row.
    path = line[words[0].start() : words[first - 1].end()]
    return path, np.asarray(boxes, np.float64).reshape(-1, 5)


def meant_as_box(path: str) -> str | None:
    """Returns a word of a path that is rather a box with a mistake in it, or None."""
    words = path.split()[1:]
    return next((w for w in words if _FIELD.fullmatch(w) and not _BOX.fullmatch(w)), None)


def _image(folder: Path, line: str) -> tuple[Path, Float[np.ndarray, "n 5"], Fault | None]:
    """Returns a line's image file and boxes, and what is wrong or None."""
    try:
        name, boxes = parse_line(line)
    except ValueError as error:
        return folder, np.zeros((0, 5)), Fault(f"{error}; skipped")
    image, fault = find_image(name, [folder, Path.cwd()])
    if fault:
        word = meant_as_box(name)
        hint = f" ({word!r} is not a box, xmin,ymin,xmax,ymax,class)" if word is not None else ""
        fault = Fault(f"image {name!r}: {fault.reason}{hint}", fault.kind)
    return image, boxes, fault


def _boxes(
    path: Path,
    place: str,
    numbers: Float[np.ndarray, "n 5"],
    size: tuple[int, int],
    class_names: Sequence[str],
    problems: list[Problem],
) -> list[Box]:
    boxes = []
    for index, row in enumerate(numbers, 1):
        where, placed = f"{place}, box {index}", None
        shown = "its box " + ",".join(f"{number:.10g}" for number in row)
        if row[4] in range(len(class_names)):
            placed, fault = place_box(row[:4], *size, shown)
        else:
            reason = f"{shown} is of no class of 0 to {len(class_names) - 1}; skipped"
            fault = Fault(reason, Kind.UNKNOWN_CLASS)
        if placed is not None:
            boxes.append(Box(f"box {index}", tuple(row[:4]), placed, int(row[4])))
        if fault:
            problems.append(Problem(path, where, *fault))
    boxes, doubles = without_doubles(boxes)
    problems += [Problem(path, place, *double) for double in doubles]
    return boxes
