"""Precision, recall and F1 of the detections that score a threshold or more, by the threshold."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from yolo_jax.evaluation.overlaps import Overlaps, find_hits

THRESHOLDS = np.arange(101) / 100


class Operation(NamedTuple):
    """What a threshold gives; NaN where it is of nothing.

    Attributes:
        confidence: the threshold.
        precision: right / (right + wrong).
        recall: right / true boxes.
        f1: 2·right / (right + wrong + true boxes).
    """

    confidence: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class ByConfidence:
    """Figures by threshold, at `THRESHOLDS`; NaN where they are of nothing.

    Attributes:
        precision: of the detections.
        recall: of the true boxes.
        f1: of both.
        best: at the score that gives the largest F1; of several the highest. NaN without detections
            or without true boxes.
    """

    precision: Float[np.ndarray, "101"]
    recall: Float[np.ndarray, "101"]
    f1: Float[np.ndarray, "101"]
    best: Operation


def by_confidence(overlaps: Overlaps, classes: int) -> tuple[ByConfidence, list[ByConfidence]]:
    """Returns the figures of all classes, whose counts are added up, and of each class.

    Right is what `find_hits` finds: COCO's matching at IoU .50. A prefix of the detections is
    matched as all of them are, so a threshold's figures are those of the confusion matrix at it.

    Args:
        overlaps: of the data set.
        classes: number of them.
    """
    right = find_hits(overlaps) >= 0
    counted = right | ~overlaps.in_crowd
    positives = overlaps.positives(classes)
    whole = _figures(overlaps.scores[counted], right[counted], int(positives.sum()))
    each = []
    for index, count in enumerate(positives.tolist()):
        own = counted & (overlaps.found == index)
        each.append(_figures(overlaps.scores[own], right[own], count))
    return whole, each


def _figures(
    scores: Float[np.ndarray, "n"], right: Bool[np.ndarray, "n"], positives: int
) -> ByConfidence:
    """Returns the figures of detections, best score first."""
    hits = np.concatenate([[0], np.cumsum(right)])

    def at(found: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns the figures of the first 1, 2, … detections."""
        with np.errstate(invalid="ignore"):  # 0 / 0
            return (
                hits[found] / found,
                hits[found] / np.float64(positives),
                2 * hits[found] / (found + np.float64(positives)),
            )

    curves = at(np.searchsorted(-scores, -THRESHOLDS, side="right"))
    best = Operation(*[float("nan")] * 4)
    if positives and len(scores):
        last = np.flatnonzero(np.append(np.diff(scores) < 0, True))  # of each score
        figures = np.stack(at(last + 1))
        place = int(figures[2].argmax())
        best = Operation(float(scores[last[place]]), *figures[:, place].tolist())
    return ByConfidence(*curves, best)
