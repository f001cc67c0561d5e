"""Detections and true boxes of a data set in columns, the pairs that overlap, and COCO's matching.

What is found once here is what precision by confidence, TIDE's errors and VOC's figures are counted
from, without another walk over images.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from yolo_jax.core.boxes import box_area_xyxy, box_intersection_xyxy, box_iou_xyxy
from yolo_jax.core.types import Annotation, Dataset, Detections

MATCH_IOU = 0.5
LEAST_IOU = 0.1  # TIDE's t_b: what overlaps by less is background
NOTHING = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))


class Pairs(NamedTuple):
    """Detections and true boxes of one image that overlap.

    Attributes:
        found: row of the detection.
        true: row of the true box.
        iou: of both, `LEAST_IOU` or more.
    """

    found: Int[np.ndarray, "p"]
    true: Int[np.ndarray, "p"]
    iou: Float[np.ndarray, "p"]

    def where(self, chosen: Bool[np.ndarray, "p"]) -> "Pairs":
        """Returns some of the pairs."""
        return Pairs(*(column[chosen] for column in self))


class Overlaps(NamedTuple):
    """A row for each detection, the best score first, and for each object that is annotated.

    Detections of equal scores stand by image_id, and within an image as they were given, which is
    the order that COCO's accumulation has.

    Attributes:
        scores: of the detections.
        found: class of each detection.
        in_crowd: half of the detection or more lies in a crowd region of its class.
        true: class of each true box, or crowd region.
        crowd: tells the crowd regions.
        pairs: of detections and true boxes, crowd regions among them.
    """

    scores: Float[np.ndarray, "n"]
    found: Int[np.ndarray, "n"]
    in_crowd: Bool[np.ndarray, "n"]
    true: Int[np.ndarray, "m"]
    crowd: Bool[np.ndarray, "m"]
    pairs: Pairs

    def of_one_class(self) -> Bool[np.ndarray, "p"]:
        """Tells the pairs whose detection has the true box's class."""
        return self.found[self.pairs.found] == self.true[self.pairs.true]

    def positives(self, classes: int) -> Int[np.ndarray, "c"]:
        """Returns the number of true boxes of each class, without crowd regions."""
        return np.bincount(self.true[~self.crowd], minlength=classes)


def find_overlaps(dataset: Dataset, detections: Mapping[int, Detections]) -> Overlaps:
    """Finds the pairs of a data set's images; an image without an entry has no detections.

    Args:
        dataset: true boxes and crowd regions.
        detections: by image_id, xyxy in pixels of the original image, without padding.
    """
    scores, found, in_crowd, true, crowd, pairs = ([] for _ in range(6))
    rows = boxes = 0
    for annotation in sorted(dataset.annotations, key=lambda one: one.image_id):
        given = detections.get(annotation.image_id, NOTHING)
        corners = np.asarray(given.boxes, np.float64).reshape(-1, 4)
        classes = np.asarray(given.classes)
        targets = annotation.boxes.astype(np.float64)
        iou = box_iou_xyxy(corners[:, None], targets[None])
        here, there = np.nonzero(iou >= LEAST_IOU)
        pairs.append((here + rows, there + boxes, iou[here, there]))
        in_crowd.append(lies_in_crowd(corners, classes, annotation))
        scores.append(np.asarray(given.scores))
        found.append(classes)
        true.append(annotation.classes)
        crowd.append(annotation.crowd)
        rows, boxes = rows + len(corners), boxes + len(targets)
    every = _joined(scores, float)
    order = np.argsort(-every, kind="stable")
    place = np.empty(rows, np.int64)
    place[order] = np.arange(rows)
    here, there, iou = zip(*pairs, strict=True) if pairs else ([], [], [])
    return Overlaps(
        every[order],
        _joined(found, np.int64)[order],
        _joined(in_crowd, bool)[order],
        _joined(true, np.int64),
        _joined(crowd, bool),
        Pairs(place[_joined(here, np.int64)], _joined(there, np.int64), _joined(iou, float)),
    )


def _joined(parts: Iterable[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype), *parts]).astype(dtype)


def lies_in_crowd(
    boxes: Float[np.ndarray, "f 4"], classes: Int[np.ndarray, "f"], annotation: Annotation
) -> Bool[np.ndarray, "f"]:
    """Tells of an image's detections whether half or more lies in a crowd region of their class."""
    if not annotation.crowd.any():
        return np.zeros(len(boxes), bool)
    regions = annotation.boxes[annotation.crowd].astype(np.float64)
    shared = box_intersection_xyxy(boxes[:, None], regions[None])
    shared[classes[:, None] != annotation.classes[annotation.crowd][None]] = 0
    return shared.max(axis=1) >= MATCH_IOU * np.maximum(box_area_xyxy(boxes), 1e-9)


def match_pairs(pairs: Pairs) -> Int[np.ndarray, "k 2"]:
    """Matches detections, in the order of their rows, each to the free true box of largest IoU.

    Of boxes that overlap it alike the last is taken, as pycocotools' `evaluateImg` does.

    Returns:
        (detection, true box) of each match.
    """
    order = np.lexsort((-pairs.true, -pairs.iou, pairs.found))
    met: dict[int, int] = {}
    taken: set[int] = set()
    for found, true in zip(pairs.found[order].tolist(), pairs.true[order].tolist(), strict=True):
        if found not in met and true not in taken:
            met[found] = true
            taken.add(true)
    return np.asarray([*met.items()], np.int64).reshape(-1, 2)


def find_hits(overlaps: Overlaps) -> Int[np.ndarray, "n"]:
    """Returns for each detection the true box that it hits, −1 where it hits none.

    By COCO's rules at `MATCH_IOU`: a true box is hit by one detection of its class, the best score
    first. A detection that hits none and lies in a crowd region is neither right nor wrong.
    """
    pairs = overlaps.pairs
    near = (pairs.iou >= MATCH_IOU) & overlaps.of_one_class() & ~overlaps.crowd[pairs.true]
    hits = np.full(len(overlaps.scores), -1, np.int64)
    found, true = match_pairs(pairs.where(near)).T
    hits[found] = true
    return hits
