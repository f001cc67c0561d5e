"""The worst examples of a data set, drawn."""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from yolo_jax.core.draw import colour_of, draw_boxes
from yolo_jax.core.types import Annotation
from yolo_jax.data.doctor import Kind, Problem
from yolo_jax.data.doctor.findings import Part
from yolo_jax.data.doctor.statistics import BoxSizes
from yolo_jax.data.images import load_image

_SHOWN = 6  # examples of each sort
_SIDE = 360  # px, of a picture's longer side
_AROUND = 5  # a box is shown in a square of so many times its longer side
_LEAST_AROUND = 64  # px
_MARKED, _OTHER = colour_of(0), colour_of(4)


@dataclass(frozen=True)
class Picture:
    """An image, or a part of one, with its boxes.

    Attributes:
        jpeg: the file's content.
        caption: which image it is, and what is to be seen.
    """

    jpeg: bytes
    caption: str


def worst_examples(
    parts: Sequence[Part], boxes: Sequence[BoxSizes], problems: Mapping[Kind, Sequence[Problem]]
) -> dict[str, list[Picture]]:
    """Returns pictures by what they are examples of; red boxes are what is meant.

    Args:
        parts: of the data set.
        boxes: of each part.
        problems: of the data set, by kind.
    """
    narrow = [b.sizes.min(axis=1) for b in boxes]
    aspect = [_aspects(b.sizes) for b in boxes]
    most = [-b.per_image.astype(np.float64) for b in boxes]
    return {
        "Boxes that stick out, clipped": list(_outside(parts, problems.get(Kind.STICKS_OUT, ()))),
        "Images of another size than their record": list(
            _of_problems(parts, problems.get(Kind.OTHER_SIZE, ()))
        ),
        "Most boxes": [
            _whole(parts[part].dataset.annotations[row], parts[part], f"boxes: {-value:.0f}")
            for part, row, value in _least(parts, most, [_rows(b) for b in boxes])
            if value < 0
        ],
        "Smallest boxes": [
            _around(parts[part], boxes[part].place[row], boxes[part].sizes[row])
            for part, row, _ in _least(parts, narrow, [b.place[:, 0] for b in boxes])
        ],
        "Oddest aspects": [
            _around(parts[part], boxes[part].place[row], boxes[part].sizes[row])
            for part, row, _ in _least(parts, aspect, [b.place[:, 0] for b in boxes])
        ],
    }


def _rows(boxes: BoxSizes) -> Int[np.ndarray, "i"]:
    return np.arange(len(boxes.per_image))


def _aspects(sizes: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n"]:
    """Returns values that are the less the odder a box's aspect."""
    sizes = np.maximum(sizes, 1e-6)
    return -np.abs(np.log(sizes[:, 0] / sizes[:, 1]))


def _least(
    parts: Sequence[Part],
    values: Sequence[Float[np.ndarray, "n"]],
    images: Sequence[Int[np.ndarray, "n"]],
) -> list[tuple[int, int, float]]:
    """Returns (part, row, value) of the least values, one an image that can be shown.

    Args:
        parts: of the data set.
        values: of each part.
        images: row of the image that each value is of.
    """
    joined = np.concatenate(values)
    part_of = np.repeat(np.arange(len(parts)), [len(v) for v in values])
    row_of = np.concatenate([np.arange(len(v)) for v in values])
    chosen: dict[tuple[int, int], tuple[int, int, float]] = {}
    for index in np.argsort(joined, kind="stable"):
        part, row = int(part_of[index]), int(row_of[index])
        image = int(images[part][row])
        scanned, annotation = parts[part].scans[image], parts[part].dataset.annotations[image]
        if scanned.size == (annotation.width, annotation.height):
            chosen.setdefault((part, image), (part, row, float(joined[index])))
        if len(chosen) == _SHOWN:
            break
    return list(chosen.values())


def _outside(parts: Sequence[Part], problems: Sequence[Problem]) -> Iterator[Picture]:
    """Yields images whose boxes were clipped; those that end at the edge are marked."""
    for part, annotation, reason in _located(parts, problems):
        limits = np.asarray([annotation.width, annotation.height], np.float32)
        boxes = annotation.boxes
        at_edge = (boxes[:, :2] <= 0).any(axis=1) | (boxes[:, 2:] >= limits).any(axis=1)
        yield _whole(annotation, part, reason, np.flatnonzero(at_edge))


def _of_problems(parts: Sequence[Part], problems: Sequence[Problem]) -> Iterator[Picture]:
    for part, annotation, reason in _located(parts, problems):
        yield _whole(annotation, part, reason)


def _located(
    parts: Sequence[Part], problems: Sequence[Problem]
) -> list[tuple[Part, Annotation, str]]:
    """Returns the first images that problems are of, as far as can be told, with the reasons."""
    found: dict[tuple[int, int], tuple[Part, Annotation, str]] = {}
    by_id = [{a.image_id: row for row, a in enumerate(p.dataset.annotations)} for p in parts]
    by_stem = [{a.path.stem: row for row, a in enumerate(p.dataset.annotations)} for p in parts]
    for problem in problems:
        for number, part in enumerate(parts):
            # Records of COCO, and those of the doctor, name the image; else a file is of one image.
            named = re.search(r"\bimage (\d+)", problem.record)
            if problem.file != part.dataset.origin:
                row = by_stem[number].get(problem.file.stem)
            else:
                row = by_id[number].get(int(named[1])) if named else None
            if row is not None and not part.scans[row].fault:
                found.setdefault(
                    (number, row), (part, part.dataset.annotations[row], problem.reason)
                )
                break
        if len(found) == _SHOWN:
            break
    return list(found.values())


def _whole(
    annotation: Annotation, part: Part, text: str, marked: Sequence[int] | np.ndarray = ()
) -> Picture:
    """Draws an image with its boxes."""
    pixels = load_image(part.dataset, annotation)
    window = (0, 0, pixels.shape[1], pixels.shape[0])
    jpeg = _draw(pixels, annotation.boxes, marked, window)
    return Picture(jpeg, f"{_title(part, annotation)}: {text}")


def _around(part: Part, place: np.ndarray, size: np.ndarray) -> Picture:
    """Draws a box in what is around it."""
    annotation = part.dataset.annotations[int(place[0])]
    box = annotation.boxes[place[1]]
    side = max(_AROUND * float((box[2:] - box[:2]).max()), _LEAST_AROUND)
    # Moved into the image, where that is large enough.
    whole = np.asarray([annotation.width, annotation.height], np.float64)
    reach = np.minimum(side, whole)
    start = np.clip((box[:2] + box[2:]) / 2 - reach / 2, 0, whole - reach)
    window = *np.floor(start).astype(int), *np.ceil(start + reach).astype(int)
    pixels = load_image(part.dataset, annotation)
    jpeg = _draw(pixels, annotation.boxes, [int(place[1])], window)
    name = part.dataset.class_names[annotation.classes[place[1]]]
    own = box[2:] - box[:2]
    text = f"{name}, {own[0]:.3g}×{own[1]:.3g} px, {size[0]:.3g}×{size[1]:.3g} px in the network"
    return Picture(jpeg, f"{_title(part, annotation)}: {text}")


def _draw(
    pixels: np.ndarray,
    boxes: Float[np.ndarray, "n 4"],
    marked: Sequence[int] | np.ndarray,
    window: tuple[int, ...],
) -> bytes:
    """Draws boxes on the part of an image in a window xyxy, the marked ones on top."""
    left, top, right, bottom = window
    image = Image.fromarray(pixels[top:bottom, left:right])
    zoom = _SIDE / max(image.size)
    size = max(1, round(image.width * zoom)), max(1, round(image.height * zoom))
    # Small images keep their pixels, as squares.
    image = image.resize(size, Image.Resampling.NEAREST if zoom >= 1 else Image.Resampling.LANCZOS)
    moved = (boxes - np.asarray([left, top, left, top], np.float32)) * zoom
    chosen = np.isin(np.arange(len(boxes)), marked)
    drawn = np.asarray(image)
    for part, colour, width in ((~chosen, _OTHER, 1), (chosen, _MARKED, 3)):
        drawn = draw_boxes(drawn, moved[part], [colour] * int(part.sum()), width=width)
    content = io.BytesIO()
    Image.fromarray(drawn).save(content, "jpeg", quality=88)
    return content.getvalue()


def _title(part: Part, annotation: Annotation) -> str:
    return f"{part.name + ' ' if part.name else ''}{annotation.path.name}"
