"""Problems by kind: those that readers report, and those that only images or splits show."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from yolo_jax.core.types import Annotation, Dataset
from yolo_jax.data.doctor.problems import Fault, Kind, Problem, listed
from yolo_jax.data.doctor.scan import Scanned
from yolo_jax.data.examples import why_other_size


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


def find_problems(parts: Sequence[Part], max_boxes: int | None) -> list[list[Problem]]:
    """Returns what is wrong with each part of a data set.

    Args:
        parts: its splits, or all of it.
        max_boxes: boxes kept an image, T; None: all.
    """
    first = _first_of_each(parts)
    found = []
    for number, part in enumerate(parts):
        origin, names = part.dataset.origin, part.dataset.class_names
        problems = list(part.problems)
        boxes = sum(int((~annotation.crowd).sum()) for annotation in part.dataset.annotations)
        if not boxes and (is_training(part) or len(parts) == 1):
            reason = f"of its {len(part.scans)} images none has a box; add boxes, or mend records"
            problems.append(Problem(origin, part.name or "all", reason, Kind.NOTHING))
        if names != parts[0].dataset.class_names:
            others = listed(map(repr, parts[0].dataset.class_names))
            reason = f"they are [{listed(map(repr, names))}], and in {parts[0].name} [{others}]"
            problems.append(Problem(origin, part.name, reason, Kind.CLASS_NAMES))
        for index, (annotation, scanned) in enumerate(part.images()):
            faults = list(_wrong_image(annotation, scanned, max_boxes))
            place = first.get(scanned.digest, (number, index))
            if _is_usable(annotation, scanned) and place != (number, index):
                faults.append(_double(annotation, parts[place[0]], place[1], part))
            problems += [Problem(origin, _name(annotation), *fault) for fault in faults]
        found.append(problems)
    return found


def by_kind(problems: Iterable[Problem]) -> dict[Kind, list[Problem]]:
    """Returns problems by kind, the gravest first; only kinds that occur."""
    found: dict[Kind, list[Problem]] = {kind: [] for kind in Kind}
    for problem in problems:
        found[problem.kind].append(problem)
    return {kind: own for kind, own in found.items() if own}


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
        Problem(dataset.origin, _name(annotation), f"{fault.reason}; left out", fault.kind)
        for annotation, found in pairs
        for fault in _wrong_image(annotation, found, None)
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
) -> Iterator[Fault]:
    """Yields what is wrong with an image by itself."""
    stated = (annotation.width, annotation.height)
    if scanned.fault:
        yield Fault(f"it {scanned.fault}", Kind.UNREADABLE)
    elif scanned.size != stated:
        yield Fault(
            f"it has {scanned.size[0]}×{scanned.size[1]} px and its record says {stated[0]}×"
            f"{stated[1]}: {why_other_size(annotation, scanned.size)}",
            Kind.OTHER_SIZE,
        )
    boxes = int((~annotation.crowd).sum())
    if max_boxes is not None and boxes > max_boxes:
        reason = f"it has {boxes} boxes, of which training keeps the first {max_boxes}"
        yield Fault(reason, Kind.CROWDED)


def _double(annotation: Annotation, other: Part, index: int, part: Part) -> Fault:
    """Returns what is wrong with an image that is another one's double."""
    original = other.dataset.annotations[index]
    if other is not part:
        reason = f"its file is that of {_name(original)} in {other.name}"
        return Fault(reason, Kind.IN_TWO_SPLITS)
    same = np.array_equal(annotation.boxes, original.boxes)
    same = same and np.array_equal(annotation.classes, original.classes)
    what = "" if same else ", and its boxes are others"
    return Fault(f"its file is that of {_name(original)}{what}", Kind.DOUBLE_IMAGE)


def _name(annotation: Annotation) -> str:
    name = annotation.path.name
    return f"image {annotation.image_id} ({name if name.isprintable() else repr(name)})"
