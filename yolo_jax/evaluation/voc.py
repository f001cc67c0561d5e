"""Pascal VOC's average precision: the 11 points of 2007, and the area under the curve of 2012."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from yolo_jax.evaluation.average_precision import mean_known
from yolo_jax.evaluation.overlaps import MATCH_IOU, Overlaps


@dataclass(frozen=True)
class VOCAveragePrecision:
    """VOC's figures at IoU .50, by class index; NaN of a class without true boxes.

    Attributes:
        eleven_points: mean of the precisions at recall 0:.1:1, as VOC2007 has it.
        area: under the curve, made monotone, as VOC2010 to VOC2012 have it.
    """

    eleven_points: Float[np.ndarray, "c"]
    area: Float[np.ndarray, "c"]

    @property
    def figures(self) -> dict[str, float]:
        """Returns the means over the classes that have true boxes, by name."""
        return {"AP11": mean_known(self.eleven_points), "AP_area": mean_known(self.area)}


def voc_average_precision(overlaps: Overlaps, classes: int) -> VOCAveragePrecision:
    """Scores detections by the rules of the VOC devkit, and not COCO's.

    A detection belongs to the object of its class that it overlaps most, whether that is found
    already or not; of several the first. At IoU .50 or more it is right, unless a better score had
    the object: then it is wrong. Objects that are `difficult` (crowd regions, in an annotation) are
    overlapped like others; what belongs to one is neither right nor wrong.

    The devkit measures boxes of whole pixels whose last is inside, so by x2 − x1 + 1. Boxes here
    are by their edges, and the VOC reader moves the first ones by a pixel: x2 − x1 is the same
    number, and so is the IoU. A recall of exactly .3 reaches the point .3, which the devkit's
    rounding misses.

    Source: VOCevaldet.m of the VOC2007 devkit; VOCap.m of the VOC2012 devkit.

    Args:
        overlaps: of the data set.
        classes: number of them.
    """
    right, counted = _judged(overlaps)
    positives = overlaps.positives(classes)
    eleven_points, area = np.full((2, classes), np.nan)
    for index in np.flatnonzero(positives):
        own = right[counted & (overlaps.found == index)]
        eleven_points[index] = _eleven_points(own, int(positives[index]))
        area[index] = _area(own, int(positives[index]))
    return VOCAveragePrecision(eleven_points, area)


def _judged(overlaps: Overlaps) -> tuple[Bool[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
    """Tells which detections are right, and which are right or wrong."""
    near = (overlaps.pairs.iou >= MATCH_IOU) & overlaps.of_one_class()
    found, true, iou = overlaps.pairs.where(near)
    order = np.lexsort((true, -iou, found))
    found, largest = np.unique(found[order], return_index=True)
    true = true[order][largest]
    counted = np.ones(len(overlaps.scores), bool)
    counted[found[overlaps.crowd[true]]] = False
    # `found` goes by score, and `unique` tells of each object the first that has it.
    objects, first = np.unique(true, return_index=True)
    right = np.zeros(len(overlaps.scores), bool)
    right[found[first[~overlaps.crowd[objects]]]] = True
    return right, counted


def _eleven_points(right: Bool[np.ndarray, "n"], positives: int) -> float:
    reached = np.cumsum(right)
    precision = reached / np.arange(1, len(right) + 1)
    best = [precision[10 * reached >= point * positives].max(initial=0) for point in range(11)]
    return float(np.mean(best))


def _area(right: Bool[np.ndarray, "n"], positives: int) -> float:
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    monotone = np.maximum.accumulate(precision[::-1])[::-1]
    return float(monotone[right].sum() / positives)  # recall rises where one is right
