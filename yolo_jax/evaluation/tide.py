"""TIDE: what kinds of errors there are, and how much AP50 each of them costs.

Source: Bolya et al., TIDE: A General Toolbox for Identifying Object Detection Errors,
arXiv:2008.08115, section 2, with the thresholds .5 and .1.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from yolo_jax.evaluation.overlaps import LEAST_IOU, MATCH_IOU, Overlaps, Pairs, find_hits

KINDS = ("classification", "localisation", "both", "duplicate", "background", "missed")
_CLASSIFICATION, _LOCALISATION, _BOTH, _DUPLICATE, _BACKGROUND, _MISSED = range(6)
_RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class Tide:
    """Errors by kind.

    Attributes:
        ap50: as they are; COCO's AP50. NaN without true boxes.
        counts: errors by kind and class: of the detection, or of the box that was missed.
        rises: by kind, how much AP50 rises when its errors are mended: dAP.
        false_positives: how much it rises without any wrong detection.
        false_negatives: how much it rises without the true boxes that nothing hits.
    """

    ap50: float
    counts: dict[str, Int[np.ndarray, "c"]]
    rises: dict[str, float]
    false_positives: float
    false_negatives: float


@dataclass(frozen=True)
class _Errors:
    """The errors, and what mends them.

    Attributes:
        kinds: place in `KINDS` of each detection's error, −1 where it is none.
        mends: true box that a detection would hit if it were mended, −1 where it would hit none.
        missed: true boxes that nothing hits, nor would if it were mended.
    """

    kinds: Int[np.ndarray, "n"]
    mends: Int[np.ndarray, "n"]
    missed: Bool[np.ndarray, "m"]


def find_errors(overlaps: Overlaps, classes: int) -> Tide:
    """Finds what is wrong with detections, and what it costs.

    Right is what `find_hits` finds. Of a wrong detection let o be its largest IoU with a box of its
    class, and x with one of another: .1 ≤ o < .5 is localisation, else x ≥ .5 classification, else
    o ≥ .5 (the box is hit by another) duplicate, else x ≥ .1 both, else background. A true box is
    missed that nothing hits, and that no classification or localisation error is about. What lies
    in crowd regions is no error.

    Mending gives the best score of the errors about a free box its class and place, and takes the
    other errors away; of missed boxes it takes the boxes away. A class of which no box is left then
    counts 0 where it has detections, and else not at all. A rise is 0 where it would be a fall, by
    the points that precision is read at. All this is as in the authors' program (tidecv 1.0.1),
    but for classes that have no true box from the first, which count nowhere here, as in COCO, and
    for detections in crowd regions, which there may be errors.

    Args:
        overlaps: of the data set.
        classes: number of them.
    """
    hits, positives = find_hits(overlaps), overlaps.positives(classes)
    right, counted = hits >= 0, (hits >= 0) | ~overlaps.in_crowd
    errors = _classify(overlaps, hits)
    before = _ap50(overlaps.found, right, counted, positives, positives)
    missed = np.bincount(overlaps.true[errors.missed], minlength=classes)

    def rise(found: np.ndarray, right: np.ndarray, kept: np.ndarray, left: np.ndarray) -> float:
        after = _ap50(found, right, kept, left, positives)
        return after - before if np.isnan(before) else max(after - before, 0.0)

    rises, counts = {}, {}
    for kind, name in enumerate(KINDS[:_MISSED]):
        wrong = errors.kinds == kind
        mended = wrong & (errors.mends >= 0)
        found = overlaps.found.copy()
        found[mended] = overlaps.true[errors.mends[mended]]
        rises[name] = rise(found, right | mended, counted & ~(wrong & ~mended), positives)
        counts[name] = np.bincount(overlaps.found[wrong], minlength=classes)
    rises[KINDS[_MISSED]] = rise(overlaps.found, right, counted, positives - missed)
    counts[KINDS[_MISSED]] = missed
    hit = np.bincount(overlaps.true[hits[right]], minlength=classes)
    return Tide(
        before,
        counts,
        rises,
        false_positives=rise(overlaps.found, right, right, positives),
        false_negatives=rise(overlaps.found, right, counted, hit),
    )


def _classify(overlaps: Overlaps, hits: Int[np.ndarray, "n"]) -> _Errors:
    targets = ~overlaps.crowd[overlaps.pairs.true]
    alike = overlaps.of_one_class()
    own, own_box = _largest(overlaps.pairs.where(targets & alike), len(hits))
    other, other_box = _largest(overlaps.pairs.where(targets & ~alike), len(hits))
    rules = [
        (own >= LEAST_IOU) & (own < MATCH_IOU),
        other >= MATCH_IOU,
        own >= MATCH_IOU,
        other >= LEAST_IOU,
    ]
    kinds = np.select(rules, [_LOCALISATION, _CLASSIFICATION, _DUPLICATE, _BOTH], _BACKGROUND)
    kinds[(hits >= 0) | overlaps.in_crowd] = -1
    about = np.select(
        [kinds == _LOCALISATION, kinds == _CLASSIFICATION], [own_box, other_box], default=-1
    )
    free = ~overlaps.crowd
    free[hits[hits >= 0]] = False
    errors = np.flatnonzero(about >= 0)
    about[errors[~free[about[errors]]]] = -1
    boxes, first = np.unique(about, return_index=True)  # the best score of those about a box
    mends = np.full(len(hits), -1)
    mends[first[boxes >= 0]] = boxes[boxes >= 0]
    free[boxes[boxes >= 0]] = False
    return _Errors(kinds, mends, free)


def _largest(pairs: Pairs, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns each detection's largest IoU and the true box of it; 0 and −1 without one."""
    order = np.lexsort((pairs.true, -pairs.iou, pairs.found))
    found, first = np.unique(pairs.found[order], return_index=True)
    iou, box = np.zeros(rows), np.full(rows, -1)
    iou[found], box[found] = pairs.iou[order][first], pairs.true[order][first]
    return iou, box


def _ap50(
    found: Int[np.ndarray, "n"],
    right: Bool[np.ndarray, "n"],
    kept: Bool[np.ndarray, "n"],
    positives: Int[np.ndarray, "c"],
    annotated: Int[np.ndarray, "c"],
) -> float:
    """Returns the mean over classes of COCO's average precision.

    Args:
        found: class of each detection, best score first.
        right: those that hit.
        kept: those that count.
        positives: true boxes of each class that are to be found.
        annotated: before any was taken away; classes without are of no account.
    """
    scores = []
    for index in np.flatnonzero(annotated):
        own = right[kept & (found == index)]
        if positives[index]:
            scores.append(_average_precision(own, int(positives[index])))
        elif len(own):
            scores.append(0.0)
    return float(np.mean(scores)) if scores else float("nan")


def _average_precision(right: Bool[np.ndarray, "n"], positives: int) -> float:
    """Returns the mean precision at recall 0:.01:1, as pycocotools' `accumulate` reads it."""
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(right) + 1)
    monotone = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0)
    return float(monotone[np.searchsorted(hits / positives, _RECALLS)].mean())
