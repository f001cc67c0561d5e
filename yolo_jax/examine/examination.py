"""All that the doctor found, and what is said of it in words and in numbers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from yolo_jax.core.anchors import AnchorSet
from yolo_jax.data.doctor import Kind, Problem
from yolo_jax.data.doctor.findings import Part, is_training
from yolo_jax.data.doctor.scan import Scanned
from yolo_jax.data.doctor.statistics import (
    FIT_IOU,
    AnchorFit,
    BoxSizes,
    box_sizes,
    class_counts,
    clustered,
    fit_anchors,
    quantiles,
)

# Of 255: all that the pixels of a blank image, or of one whose scale was mistaken, differ by.
_FLAT = 16
# A box is tiny that is narrower or lower in the network's input. Source: YOLOv5's check_anchors.
_TINY_PX = 3
_NAMED = 10


@dataclass(frozen=True)
class Examination:
    """A data set, examined.

    Attributes:
        source: what was asked for.
        parts: of the data set.
        problems: what is wrong, by kind, the gravest first.
        network: `tiny` or `yolov3`.
        anchors: of that network.
        input_size: side of its square input, px.
        max_boxes: boxes kept an image, T; None: all.
    """

    source: str
    parts: Sequence[Part]
    problems: Mapping[Kind, Sequence[Problem]]
    network: str
    anchors: AnchorSet
    input_size: int
    max_boxes: int | None

    @cached_property
    def boxes(self) -> list[BoxSizes]:
        """The boxes of each part."""
        shape = (self.input_size, self.input_size)
        return [box_sizes(part.dataset, shape) for part in self.parts]

    @cached_property
    def sizes(self) -> Float[np.ndarray, "n 2"]:
        """(width, height) of all boxes, px of the input."""
        return np.concatenate([boxes.sizes for boxes in self.boxes])

    @cached_property
    def trained_sizes(self) -> Float[np.ndarray, "n 2"]:
        """Those of the split `train…`, or of all where there is none: others choose no anchors."""
        pairs = zip(self.parts, self.boxes, strict=True)
        chosen = [boxes.sizes for part, boxes in pairs if is_training(part)]
        return np.concatenate(chosen) if chosen else self.sizes

    @cached_property
    def classes(self) -> dict[str, dict[str, int]]:
        """Boxes of each class in each part."""
        return class_counts({part.name: part.dataset for part in self.parts})

    @cached_property
    def fits(self) -> dict[str, AnchorFit]:
        """How anchors fit: those of the network, and those that k-means finds."""
        sets = {f"{self.network}'s": self.anchors}
        found = clustered(self.trained_sizes, self.anchors)
        if found is not None:
            sets["by k-means"] = found
        fits = {name: fit_anchors(self.trained_sizes, anchors) for name, anchors in sets.items()}
        return {name: fit for name, fit in fits.items() if fit is not None}

    def heading(self) -> str:
        """Returns what the data set is, in a line."""
        images = sum(len(part.dataset.annotations) for part in self.parts)
        named = [part.name for part in self.parts if part.name]
        splits = f" in {', '.join(named)}" if named else ""
        counts = (
            counted(len(self.sizes), "box", "boxes"),
            counted(len(self.classes), "class", "classes"),
        )
        return f"{counted(images, 'image', 'images')}{splits}, {', '.join(counts)}"

    def notes(self) -> list[str]:
        """Returns what is not wrong but worth a look."""
        notes = []
        empty = [name for name, row in self.classes.items() if not any(row.values())]
        if empty:
            more = f" and {len(empty) - _NAMED} more" if len(empty) > _NAMED else ""
            shown = ", ".join(empty[:_NAMED])
            notes.append(f"classes without a box: {shown}{more}")
        bare = sum(int((boxes.per_image == 0).sum()) for boxes in self.boxes)
        if bare:
            notes.append(f"images without a box, which teach what is background: {bare:,}")
        for what, found in (
            (
                "images of nearly one colour (of 16 bits values up to 65535 are expected)",
                self._names(lambda scanned: not scanned.fault and scanned.contrast < _FLAT),
            ),
            (
                "images with something odd in the file, though their pixels are whole",
                self._names(lambda scanned: bool(scanned.remark)),
            ),
        ):
            if found:
                shown = ", ".join(found[:_NAMED]) + (" …" if len(found) > _NAMED else "")
                notes.append(f"{what}: {len(found):,}, {shown}")
        tiny = int((self.sizes < _TINY_PX).any(axis=1).sum())
        if tiny:
            notes.append(
                f"boxes less than {_TINY_PX} px wide or high in an input of {self.input_size} px: "
                f"{tiny:,} ({tiny / len(self.sizes):.1%})"
            )
        fit = self.fits.get(f"{self.network}'s")
        if fit is not None and fit.unlearnt:
            notes.append(
                f"{fit.unlearnt:.1%} of the boxes are nearest to an anchor that no scale of "
                f"{self.network} has: nothing is learnt of them; take a larger input, or yolov3"
            )
        return notes

    def _names(self, is_meant: Callable[[Scanned], bool]) -> list[str]:
        """Returns the names of the images that are as is asked for."""
        return [
            annotation.path.name
            for part in self.parts
            for annotation, scanned in part.images()
            if is_meant(scanned)
        ]

    def figures(self) -> dict[str, Any]:
        """Returns all numbers and problems, for JSON."""
        positive = self.sizes[(self.sizes > 0).all(axis=1)]
        return {
            "data": self.source,
            "splits": {
                part.name or "all": {
                    "origin": str(part.dataset.origin),
                    "images": len(part.dataset.annotations),
                    "boxes": len(boxes.sizes),
                    "crowds": sum(int(a.crowd.sum()) for a in part.dataset.annotations),
                    "images_without_box": int((boxes.per_image == 0).sum()),
                    "most_boxes": int(boxes.per_image.max(initial=0)),
                }
                for part, boxes in zip(self.parts, self.boxes, strict=True)
            },
            "problems": {
                kind: [
                    {"file": str(p.file), "record": p.record, "reason": p.reason} for p in problems
                ]
                for kind, problems in self.problems.items()
            },
            "notes": self.notes(),
            "classes": {
                name: {split or "all": count for split, count in row.items()}
                for name, row in self.classes.items()
            },
            "network": self.network,
            "input_size": self.input_size,
            "max_boxes": self.max_boxes,
            "boxes_an_image": quantiles(np.concatenate([b.per_image for b in self.boxes])),
            "width_px": quantiles(self.sizes[:, 0]),
            "height_px": quantiles(self.sizes[:, 1]),
            "aspect": quantiles(positive[:, 0] / positive[:, 1]),
            "anchors": {
                name: {
                    "anchors": fit.anchors.round(1).astype(float).round(1).tolist(),
                    "mean_best_iou": round(fit.mean_iou, 4),
                    "best_possible_recall": round(fit.recall, 4),
                    "recall_above_iou": FIT_IOU,
                    "not_learnt": round(fit.unlearnt, 4),
                }
                for name, fit in self.fits.items()
            },
        }

    def summary(self) -> list[str]:
        """Returns lines for the terminal, what is wrong first."""
        lines = [f"{self.source}: {self.heading()}"]
        if self.problems:
            lines.append("wrong:")
        for kind, problems in self.problems.items():
            lines += [f"  {len(problems):6,}  {kind}, such as", f"          {problems[0]}"]
        if not self.problems:
            lines.append("nothing is wrong with it")
        notes = self.notes()
        if notes:
            lines += ["worth a look:", *(f"  {note}" for note in notes)]
        if self.fits:
            lines.append(f"anchors at {self.input_size} px, {self.fitted_on()}:")
        for name, fit in self.fits.items():
            lines.append(
                f"  {name}: mean best IoU {fit.mean_iou:.3f}, best possible recall "
                f"{fit.recall:.1%} (IoU > {FIT_IOU:g}), not learnt {fit.unlearnt:.1%}"
            )
        return lines

    def fitted_on(self) -> str:
        """Returns which boxes the anchors were held against."""
        names = [part.name for part in self.parts if is_training(part)]
        boxes = counted(len(self.trained_sizes), "box", "boxes")
        return f"{boxes} of {', '.join(names)}" if names else boxes


def counted(number: int, one: str, many: str) -> str:
    """Returns a number with the word for what it counts."""
    return f"{number:,} {one if number == 1 else many}"
