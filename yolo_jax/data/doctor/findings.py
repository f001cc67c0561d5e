"""Problems by kind: those that readers report, and those that only images or splits show."""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from yolo_jax.core.types import Annotation, Dataset
from yolo_jax.data.doctor.problems import Problem
from yolo_jax.data.doctor.scan import Scanned

UNREADABLE_SPLIT = "split that cannot be read"
NOTHING = "nothing to learn"
UNREADABLE = "unreadable image"
OTHER_SIZE = "image of another size than its record"
IN_TWO_SPLITS = "image in two splits"
DOUBLE_IMAGE = "duplicate image"
OUTSIDE = "box outside the image"
NO_SIZE = "box without width or height"
STICKS_OUT = "box that sticks out"
DOUBLE_BOX = "duplicate box"
UNKNOWN_CLASS = "box of an unknown class"
CLASS_NAMES = "class names that differ between splits"
CROWDED = "image of more boxes than max_boxes"
OTHER = "other bad record"

# The gravest first.
KINDS = (
    *(UNREADABLE_SPLIT, NOTHING, UNREADABLE, OTHER_SIZE, IN_TWO_SPLITS, CLASS_NAMES),
    *(UNKNOWN_CLASS, OUTSIDE, NO_SIZE, STICKS_OUT, DOUBLE_BOX, DOUBLE_IMAGE, CROWDED, OTHER),
)

# By the words that readers find for them; what is in no words here is `OTHER`.
_WORDS = {
    OUTSIDE: "lies outside the image|is not of parts of the image's sides",
    NO_SIZE: "has no width or no height",
    STICKS_OUT: "sticks out of the image",
    DOUBLE_BOX: r" doubles .*: the same ",
    UNKNOWN_CLASS: "^category .* is not among|^its class |is of no class of|is of class .* no name",
    UNREADABLE: "there is no such image file|its file |^it cannot be read|^it is not an image|"
    "^it has too many pixels|its image cannot be read|its image has too many pixels",
}


@dataclass(frozen=True)
class Part:
    """A split of a data set, or all of it, with what was found in it.

    Attributes:
        name: of the split, or "".
        dataset: what its reader made of it.
        problems: the bad records that its reader met.
        scans: what each annotation's image is, in their order.
    """

    name: str
    dataset: Dataset
    problems: Sequence[Problem]
    scans: Sequence[Scanned]

    def images(self) -> Iterator[tuple[Annotation, Scanned]]:
        """Yields each annotation with what its image is."""
        return zip(self.dataset.annotations, self.scans, strict=True)


def is_training(part: Part) -> bool:
    """Tells whether a split is, by its name, the one that networks are trained on."""
    return part.name.startswith("train")


def kind_of(problem: Problem) -> str:
    """Returns the kind of a reader's problem."""
    return next((k for k, words in _WORDS.items() if re.search(words, problem.reason)), OTHER)


def find_problems(parts: Sequence[Part], max_boxes: int | None) -> dict[str, list[Problem]]:
    """Returns what is wrong with a data set by kind, the gravest first; only kinds that occur.

    Args:
        parts: its splits, or all of it.
        max_boxes: boxes kept an image, T; None: all.
    """
    found: dict[str, list[Problem]] = {kind: [] for kind in KINDS}
    first = _first_of_each(parts)
    for number, part in enumerate(parts):
        boxes = sum(int((~annotation.crowd).sum()) for annotation in part.dataset.annotations)
        if not boxes and (is_training(part) or len(parts) == 1):
            reason = f"of its {len(part.scans)} images none has a box; add boxes, or mend records"
            found[NOTHING].append(Problem(part.dataset.origin, part.name or "all", reason))
        for problem in part.problems:
            found[kind_of(problem)].append(problem)
        if part.dataset.class_names != parts[0].dataset.class_names:
            names = list(part.dataset.class_names), list(parts[0].dataset.class_names)
            reason = f"they are {names[0]}, and in {parts[0].name} {names[1]}"
            found[CLASS_NAMES].append(Problem(part.dataset.origin, part.name, reason))
        for index, (annotation, scanned) in enumerate(part.images()):
            wrong = list(_wrong_image(annotation, scanned, max_boxes))
            place = first.get(scanned.digest, (number, index))
            if _is_usable(annotation, scanned) and place != (number, index):
                wrong.append(_double(annotation, parts[place[0]], place[1], part))
            for kind, reason in wrong:
                name = _name(annotation)
                found[kind].append(Problem(part.dataset.origin, name, reason))
    return {kind: problems for kind, problems in found.items() if problems}


def cleaned(parts: Sequence[Part]) -> list[Dataset]:
    """Returns the data sets of the parts without images that are bad or there before.

    Bad boxes went, and others were clipped, when they were read. An image in two splits leaves the
    one for training, so that figures on the others stay what they were.
    """
    first = _first_of_each(parts)
    return [
        dataclasses.replace(
            part.dataset,
            annotations=tuple(
                annotation
                for index, (annotation, scanned) in enumerate(part.images())
                if _is_usable(annotation, scanned) and first[scanned.digest] == (number, index)
            ),
        )
        for number, part in enumerate(parts)
    ]


def without_bad_images(
    dataset: Dataset, scanned: Sequence[Scanned]
) -> tuple[Dataset, list[Problem]]:
    """Returns a data set without the images that cannot be used, and why they cannot.

    Args:
        dataset: of any format.
        scanned: what `scan_images` found of each image.
    """
    pairs = list(zip(dataset.annotations, scanned, strict=True))
    problems = [
        Problem(dataset.origin, _name(annotation), f"{reason}; left out")
        for annotation, found in pairs
        for _, reason in _wrong_image(annotation, found, None)
    ]
    kept = tuple(annotation for annotation, found in pairs if _is_usable(annotation, found))
    return (dataclasses.replace(dataset, annotations=kept) if problems else dataset), problems


def _is_usable(annotation: Annotation, scanned: Scanned) -> bool:
    return not scanned.fault and scanned.size == (annotation.width, annotation.height)


def _first_of_each(parts: Sequence[Part]) -> dict[str, tuple[int, int]]:
    """Returns by its digest where each usable image stays: number of the part, index in it."""
    order = sorted(range(len(parts)), key=lambda number: is_training(parts[number]))
    first: dict[str, tuple[int, int]] = {}
    for number in order:
        for index, (annotation, scanned) in enumerate(parts[number].images()):
            if _is_usable(annotation, scanned):
                first.setdefault(scanned.digest, (number, index))
    return first


def _wrong_image(
    annotation: Annotation, scanned: Scanned, max_boxes: int | None
) -> Iterator[tuple[str, str]]:
    """Yields the kind and reason of what is wrong with an image by itself."""
    stated = (annotation.width, annotation.height)
    if scanned.fault:
        yield UNREADABLE, f"it {scanned.fault}"
    elif scanned.size != stated:
        yield (
            OTHER_SIZE,
            f"it has {scanned.size[0]}×{scanned.size[1]} px and its record says {stated[0]}×"
            f"{stated[1]}: the boxes are of another image",
        )
    boxes = int((~annotation.crowd).sum())
    if max_boxes is not None and boxes > max_boxes:
        yield CROWDED, f"it has {boxes} boxes, of which training keeps the first {max_boxes}"


def _double(annotation: Annotation, other: Part, index: int, part: Part) -> tuple[str, str]:
    """Returns the kind and reason of an image that is another one's double."""
    original = other.dataset.annotations[index]
    if other is not part:
        return IN_TWO_SPLITS, f"its file is that of {_name(original)} in {other.name}"
    same = np.array_equal(annotation.boxes, original.boxes)
    same = same and np.array_equal(annotation.classes, original.classes)
    return (
        DOUBLE_IMAGE,
        f"its file is that of {_name(original)}{'' if same else ', and its boxes are others'}",
    )


def _name(annotation: Annotation) -> str:
    name = annotation.path.name
    return f"image {annotation.image_id} ({name if name.isprintable() else repr(name)})"
