"""TIDE's errors against their definition in plain loops, and against its authors' program."""

import math
from pathlib import Path

import numpy as np
import pytest
from drawn_sets import NAMES, drawn_sets
from hypothesis import given, settings

from yolo_jax.core.types import Annotation, Dataset, Detections
from yolo_jax.evaluation.overlaps import NOTHING, find_overlaps
from yolo_jax.evaluation.tide import KINDS, Tide, find_errors


def iou(first, second) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(width, 0) * max(height, 0)
    areas = sum((b[2] - b[0]) * (b[3] - b[1]) for b in (first, second))
    return shared / (areas - shared)


def largest(box, trues) -> tuple[float, dict | None]:
    """Returns the largest IoU with some true boxes, and the first that has it."""
    best, most = None, 0.0
    for true in trues:
        if (value := iou(box, true["box"])) > most:
            best, most = true, value
    return most, best


def is_spared(box, regions) -> bool:
    x1, y1, x2, y2 = box
    for u1, v1, u2, v2 in regions:
        shared = max(min(x2, u2) - max(x1, u1), 0) * max(min(y2, v2) - max(y1, v1), 0)
        if shared >= 0.5 * (x2 - x1) * (y2 - y1):
            return True
    return False


def judge(annotation: Annotation, detections: Detections) -> tuple[list[dict], list[dict]]:
    """Returns an image's true boxes and detections, each as what it is."""
    columns = zip(annotation.boxes.tolist(), annotation.classes, annotation.crowd, strict=True)
    everything = [
        {"box": b, "class": int(k), "crowd": bool(c), "hit": False} for b, k, c in columns
    ]
    trues = [true for true in everything if not true["crowd"]]
    rows = []
    boxes = np.asarray(detections.boxes).tolist()
    for box, score, kind in zip(boxes, detections.scores, detections.classes, strict=True):
        row = {"box": box, "score": float(score), "class": int(kind), "about": None}
        best, most = None, 0.5
        for true in trues:  # of equals the last, as pycocotools has it
            if true["class"] == kind and not true["hit"] and iou(box, true["box"]) >= most:
                best, most = true, iou(box, true["box"])
        if best is not None:
            best["hit"], row["kind"] = True, "right"
        elif is_spared(box, [t["box"] for t in everything if t["crowd"] and t["class"] == kind]):
            row["kind"] = "spared"
        rows.append(row)
    for row in rows:
        if "kind" not in row:
            own, own_true = largest(row["box"], [t for t in trues if t["class"] == row["class"]])
            other, other_true = largest(
                row["box"], [t for t in trues if t["class"] != row["class"]]
            )
            if 0.1 <= own < 0.5:
                row |= {"kind": "localisation", "about": own_true}
            elif other >= 0.5:
                row |= {"kind": "classification", "about": other_true}
            elif own >= 0.5:
                row["kind"] = "duplicate"
            else:
                row["kind"] = "both" if other >= 0.1 else "background"
    return trues, rows


def ap50(rows, positives, annotated) -> float:
    """Returns the mean of the classes' AP by 101 recalls; rows are (score, class, right)."""
    values, rows = [], sorted(rows, key=lambda row: -row[0])
    for kind in range(len(NAMES)):
        own = [right for _, k, right in rows if k == kind]
        if not annotated[kind] or (not positives[kind] and not own):
            continue
        hits, curve = 0, []
        for place, right in enumerate(own, 1):
            hits += right
            curve.append((hits / max(positives[kind], 1), hits / place))
        points = [max([p for r, p in curve if r >= t], default=0) for t in np.linspace(0, 1, 101)]
        values.append(sum(points) / 101 if positives[kind] else 0.0)
    return sum(values) / len(values) if values else math.nan


def by_loops(dataset: Dataset, found: dict[int, Detections]) -> Tide:
    trues, rows = [], []
    for one in sorted(dataset.annotations, key=lambda one: one.image_id):
        some, others = judge(one, found.get(one.image_id, NOTHING))
        trues, rows = trues + some, rows + others
    mender = {}  # of a free box: the best score of the errors about it
    for row in sorted(rows, key=lambda row: -row["score"]):
        if row["about"] is not None and not row["about"]["hit"]:
            mender.setdefault(id(row["about"]), row)
    missed = [t for t in trues if not t["hit"] and id(t) not in mender]
    annotated = [sum(t["class"] == k for t in trues) for k in range(len(NAMES))]

    def points(mended=None, dropped=()):
        for row in rows:
            if row["kind"] == mended and row["about"] is not None:
                if mender.get(id(row["about"])) is row:
                    yield row["score"], row["about"]["class"], True
            elif row["kind"] not in ("spared", mended, *dropped):
                yield row["score"], row["class"], row["kind"] == "right"

    before = ap50(points(), annotated, annotated)

    def rise(some, positives) -> float:
        return max(ap50(some, positives, annotated) - before, 0) if any(annotated) else math.nan

    counts = {k: np.zeros(len(NAMES), int) for k in KINDS}
    for row in rows:
        if row["kind"] in counts:
            counts[row["kind"]][row["class"]] += 1
    for true in missed:
        counts["missed"][true["class"]] += 1
    rises = {kind: rise(points(kind), annotated) for kind in KINDS[:-1]}
    rises["missed"] = rise(points(), annotated - counts["missed"])
    hit = [sum(t["class"] == k and t["hit"] for t in trues) for k in range(len(NAMES))]
    return Tide(before, counts, rises, rise(points(dropped=KINDS), annotated), rise(points(), hit))


def check_equal(got: Tide, expected: Tide) -> None:
    for kind in KINDS:
        np.testing.assert_array_equal(got.counts[kind], expected.counts[kind])
    for name in ("ap50", "false_positives", "false_negatives"):
        value = getattr(got, name)
        assert value == pytest.approx(getattr(expected, name), abs=1e-12, nan_ok=True), name
    assert got.rises == pytest.approx(expected.rises, abs=1e-12, nan_ok=True)


@settings(max_examples=60, deadline=None)
@given(drawn_sets())
def test_the_definition_by_loops(drawn):
    check_equal(find_errors(find_overlaps(*drawn), len(NAMES)), by_loops(*drawn))


def test_what_the_authors_program_finds():
    """Of drawn boxes, by tidecv 1.0.1: `TIDE().evaluate(truth, found, mode=TIDE.BOX)`, by 100."""
    images = [
        (
            [(100.5, 73.5, 143.8, 133.2), (86.9, 52.0, 131.1, 85.4), (81.9, 35.3, 107.8, 50.5),
             (77.8, 71.4, 104.8, 118.9), (42.8, 21.2, 73.7, 55.7)],
            [1, 0, 1, 1, 0],
            [(70.7, 76.7, 107.2, 119.0), (35.6, 20.0, 79.5, 60.8), (87.0, 80.2, 109.1, 126.0),
             (30.7, 27.5, 76.9, 54.6), (10.2, 33.6, 25.3, 59.2), (32.7, 24.4, 67.7, 41.9),
             (80.7, 34.6, 115.2, 50.2), (93.8, 23.2, 138.5, 51.2)],
            [1, 0, 1, 0, 0, 0, 0, 0],
            [0.966, 0.840, 0.741, 0.659, 0.602, 0.434, 0.373, 0.276],
        ),
        (
            [(52.1, 81.0, 73.8, 98.0), (87.1, 54.2, 120.6, 80.3)],
            [1, 0],
            [(68.1, 43.5, 106.1, 73.0), (54.1, 76.1, 75.6, 91.6), (82.9, 51.8, 123.3, 85.9),
             (95.3, 58.7, 121.0, 81.3), (34.8, 34.3, 78.0, 89.1), (51.6, 82.4, 73.0, 102.1)],
            [0, 1, 0, 0, 1, 1],
            [0.984, 0.753, 0.206, 0.105, 0.063, 0.012],
        ),
    ]  # fmt: skip
    annotations, found = [], {}
    for image_id, (boxes, classes, others, kinds, scores) in enumerate(images):
        none = np.zeros(len(boxes), bool)
        path = Path(f"{image_id}.png")
        annotations.append(
            Annotation(image_id, path, 200, 200, np.asarray(boxes), np.asarray(classes), none)
        )
        found[image_id] = Detections(np.asarray(others), np.asarray(scores), np.asarray(kinds))
    tide = find_errors(find_overlaps(Dataset(tuple(annotations), ("ash", "birch")), found), 2)
    assert tide.ap50 == pytest.approx(0.303217821782178)
    assert {kind: int(each.sum()) for kind, each in tide.counts.items()} == {
        "classification": 1, "localisation": 4, "both": 1, "duplicate": 2, "background": 2,
        "missed": 2,
    }  # fmt: skip
    expected = (
        0.080091937765205, 0.130775577557756, 0.005834512022631, 0.005834512022631,
        0.018210749646393, 0.118564356435644,
    )  # fmt: skip
    assert tide.rises == pytest.approx(dict(zip(KINDS, expected, strict=True)))
    assert tide.false_positives == pytest.approx(0.280940594059406)
    assert tide.false_negatives == pytest.approx(0.236386138613862)
