"""Detections matched to true boxes one to one: what was taken for what, image by image."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from yolo_jax.core.boxes import box_iou_xyxy
from yolo_jax.core.types import Annotation, Dataset, Detections
from yolo_jax.evaluation.overlaps import MATCH_IOU, Pairs, lies_in_crowd, match_pairs


class Matches(NamedTuple):
    """How the sure detections of an image meet its true boxes; crowd regions are left out.

    Attributes:
        true: class of each true box.
        found: class of each detection, best score first, less those of crowd regions.
        pairs: (true box, detection) that overlap enough, whatever their classes.
    """

    true: Int[np.ndarray, "t"]
    found: Int[np.ndarray, "f"]
    pairs: list[tuple[int, int]]

    @property
    def right(self) -> int:
        """Returns the number of pairs of one class."""
        return sum(int(self.true[t] == self.found[f]) for t, f in self.pairs)

    @property
    def errors(self) -> int:
        """Returns the true boxes that were missed and the detections that were none."""
        return len(self.true) + len(self.found) - 2 * self.right

    @property
    def f1(self) -> float:
        """Returns 2·right / (true + found); 1 where nothing was to be found and nothing was."""
        total = len(self.true) + len(self.found)
        return 2 * self.right / total if total else 1.0


def match_boxes(annotation: Annotation, detections: Detections, threshold: float) -> Matches:
    """Matches detections, best score first, each to the free true box that it overlaps most.

    First those of the box's own class are matched, by COCO's rules, then what is left whatever its
    class, so that a confusion never takes the place of a hit. A detection that hits none and lies
    by half in a crowd region of its class is neither right nor wrong.

    Args:
        annotation: of the image.
        detections: of the image, without padding.
        threshold: least score; an overlap is an IoU of `MATCH_IOU` or more.
    """
    sure = np.asarray(detections.scores) >= threshold
    order = np.argsort(-np.asarray(detections.scores)[sure], kind="stable")
    boxes = np.asarray(detections.boxes, np.float64).reshape(-1, 4)[sure][order]
    found = np.asarray(detections.classes)[sure][order]
    target = ~annotation.crowd
    true = np.asarray(annotation.classes)[target]
    overlaps = box_iou_xyxy(boxes[:, None], annotation.boxes[target].astype(np.float64)[None])
    hits = _matched(np.where(found[:, None] == true[None], overlaps, 0))
    kept = ~lies_in_crowd(boxes, found, annotation)
    kept[hits[:, 0]] = True
    overlaps[~kept] = 0
    overlaps[hits[:, 0]] = 0
    overlaps[:, hits[:, 1]] = 0
    numbers = np.cumsum(kept) - 1
    pairs = [(t, int(numbers[f])) for f, t in [*hits.tolist(), *_matched(overlaps).tolist()]]
    return Matches(true, found[kept], pairs)


def _matched(overlaps: Float[np.ndarray, "f t"]) -> Int[np.ndarray, "k 2"]:
    """Returns (detection, true box) of each match."""
    found, true = np.nonzero(overlaps >= MATCH_IOU)
    return match_pairs(Pairs(found, true, overlaps[found, true]))


def match_dataset(
    dataset: Dataset, detections: Mapping[int, Detections], threshold: float
) -> dict[int, Matches]:
    """Matches the detections of each image; by image_id, in the data set's order."""
    return {
        one.image_id: match_boxes(one, detections[one.image_id], threshold)
        for one in dataset.annotations
    }


def confusion_matrix(matches: Mapping[int, Matches], classes: int) -> Int[np.ndarray, "c+1 c+1"]:
    """Counts what was taken for what: rows are the true classes, columns those that were found.

    The last row is of detections that meet no true box, the last column of true boxes that no
    detection met: both are background.
    """
    counts = np.zeros((classes + 1, classes + 1), np.int64)
    for true, found, pairs in matches.values():
        for t, f in pairs:
            counts[true[t], found[f]] += 1
        np.add.at(counts[:, classes], np.delete(true, [t for t, _ in pairs]), 1)
        np.add.at(counts[classes], np.delete(found, [f for _, f in pairs]), 1)
    return counts


def worst_and_best(matches: Mapping[int, Matches], count: int) -> tuple[list[int], list[int]]:
    """Returns the image_ids of the worst images, worst first, and of the best, best first.

    They are ranked by F1; of equals an image of more errors is worse, and one of more right boxes
    better. No image is both: of a few each gets half.
    """
    ranked = sorted(
        matches, key=lambda key: (matches[key].f1, -matches[key].errors, matches[key].right)
    )
    worst = ranked[: min(count, -(-len(ranked) // 2))]
    return worst, ranked[len(worst) :][::-1][:count]
