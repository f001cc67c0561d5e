"""Figures of drawn data sets against pycocotools on files, and VOC's rules in plain loops."""

import contextlib
import dataclasses
import io
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_sets import NAMES, drawn_sets
from hypothesis import given, settings
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from yolo_jax.core.types import Annotation, Dataset, Detections
from yolo_jax.evaluation.average_precision import coco_average_precision
from yolo_jax.evaluation.confidence import THRESHOLDS, by_confidence
from yolo_jax.evaluation.matches import confusion_matrix, match_dataset
from yolo_jax.evaluation.overlaps import NOTHING, find_overlaps
from yolo_jax.evaluation.scores import score_detections
from yolo_jax.evaluation.voc import voc_average_precision

SUMMARY = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]


def xywh(box) -> list[float]:
    x1, y1, x2, y2 = map(float, box)
    return [x1, y1, x2 - x1, y2 - y1]


def pycocotools_scorer(dataset: Dataset, found: dict[int, Detections]) -> Any:
    """Runs COCO's own evaluation on files, as its users do."""
    truth: dict[str, list] = {
        "images": [{"id": one.image_id} for one in dataset.annotations],
        "categories": [{"id": i, "name": name} for i, name in enumerate(NAMES)],
        "annotations": [],
    }
    for one in dataset.annotations:
        for place, box in enumerate(one.boxes):
            x, y, w, h = xywh(box)
            area = math.nan if one.areas is None else float(one.areas[place])
            record = {"id": len(truth["annotations"]) + 1, "image_id": one.image_id}
            record |= {"bbox": [x, y, w, h], "area": w * h if math.isnan(area) else area}
            record |= {"category_id": int(one.classes[place]), "iscrowd": int(one.crowd[place])}
            truth["annotations"].append(record)
    results = [
        {"image_id": key, "bbox": xywh(box), "score": float(score), "category_id": int(index)}
        for key, one in found.items()
        for box, score, index in zip(*one, strict=True)
    ]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        file, answers = Path(folder, "truth.json"), Path(folder, "results.json")
        file.write_text(json.dumps(truth))
        answers.write_text(json.dumps(results))
        coco = COCO(str(file))
        if results:
            answer = coco.loadRes(str(answers))
        else:  # which it cannot load
            file.write_text(json.dumps(truth | {"annotations": []}))
            answer = COCO(str(file))
        scorer = COCOeval(coco, answer, "bbox")
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    return scorer


@settings(max_examples=30, deadline=None)
@given(drawn_sets())
def test_the_summary_is_that_of_pycocotools(drawn):
    figures = coco_average_precision(*drawn).figures
    assert list(figures) == SUMMARY
    expected = pycocotools_scorer(*drawn).stats
    found = [-1 if math.isnan(value) else value for value in figures.values()]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(drawn_sets())
def test_figures_by_confidence_are_of_pycocotools_matches(drawn):
    dataset, found = drawn
    scorer = pycocotools_scorer(dataset, found)
    everything = scorer.params.areaRng[0]
    images = [e for e in scorer.evalImgs if e is not None and e["aRng"] == everything]
    parts = [
        images,
        *([e for e in images if e["category_id"] == i] for i in range(len(NAMES))),
    ]
    whole, classes = by_confidence(find_overlaps(dataset, found), len(NAMES))
    for curve, part in zip([whole, *classes], parts, strict=True):
        true = sum(int((~np.asarray(e["gtIgnore"], bool)).sum()) for e in part)
        scores = np.concatenate([[], *(e["dtScores"] for e in part)])
        right = np.concatenate([[], *(e["dtMatches"][0] > 0 for e in part)]).astype(bool)
        counted = ~np.concatenate([[], *(e["dtIgnore"][0] for e in part)]).astype(bool)
        for place, threshold in enumerate(THRESHOLDS):
            sure = (scores >= threshold) & counted
            hits, all_found = int((sure & right).sum()), int(sure.sum())
            expected = [
                hits / all_found if all_found else math.nan,
                hits / true if true else math.nan,
                2 * hits / (all_found + true) if all_found + true else math.nan,
            ]
            got = [curve.precision[place], curve.recall[place], curve.f1[place]]
            np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)
        if true and counted.any():
            f1 = [
                2 * int((sure & right).sum()) / (int(sure.sum()) + true)
                for sure in ((scores >= score) & counted for score in scores[counted])
            ]
            assert curve.best.f1 == pytest.approx(max(f1))
            best = scores[counted][np.isclose(f1, max(f1))].max()
            assert curve.best.confidence == pytest.approx(best)
        else:
            assert math.isnan(curve.best.f1)


@settings(max_examples=30, deadline=None)
@given(drawn_sets())
def test_figures_by_confidence_are_those_of_the_confusion_matrix(drawn):
    dataset, found = drawn
    every = {one.image_id: found.get(one.image_id, NOTHING) for one in dataset.annotations}
    whole, classes = by_confidence(find_overlaps(dataset, found), len(NAMES))
    for place in (0, 10, 25, 30, 51, 95):
        matches = match_dataset(dataset, every, THRESHOLDS[place])
        counts = confusion_matrix(matches, len(NAMES))
        with np.errstate(invalid="ignore"):
            hits = np.diagonal(counts)[:-1]
            columns, rows = counts[:, :-1].sum(axis=0), counts[:-1].sum(axis=1)
            np.testing.assert_allclose([c.precision[place] for c in classes], hits / columns)
            np.testing.assert_allclose([c.recall[place] for c in classes], hits / rows)
            np.testing.assert_allclose(whole.precision[place], hits.sum() / columns.sum())
            np.testing.assert_allclose(whole.recall[place], hits.sum() / rows.sum())


def overlap(first, second) -> float:
    """IoU as VOCevaldet.m has it: of whole pixels, counted from 1, the last of which is inside."""
    (x1, y1, x2, y2), (u1, v1, u2, v2) = first, second
    width = min(x2, u2) - max(x1, u1) + 1
    height = min(y2, v2) - max(y1, v1) + 1
    if width <= 0 or height <= 0:
        return 0.0
    areas = (x2 - x1 + 1) * (y2 - y1 + 1) + (u2 - u1 + 1) * (v2 - v1 + 1)
    return width * height / (areas - width * height)


def devkit(box) -> tuple[int, ...]:
    """Returns a box by its edges as VOC's files state it."""
    x1, y1, x2, y2 = (int(side) for side in box)
    return x1 + 1, y1 + 1, x2, y2


def voc_by_loops(dataset: Dataset, found: dict[int, Detections], index: int) -> tuple[float, float]:
    """Returns a class's AP by 11 points and by area, as the devkit goes about it."""
    images = {one.image_id: one for one in dataset.annotations}
    positives = sum(
        int(kind == index and not hard)
        for one in images.values()
        for kind, hard in zip(one.classes, one.crowd, strict=True)
    )
    if not positives:
        return math.nan, math.nan
    rows = [
        (-float(score), key, devkit(box))
        for key in sorted(found)
        for box, score, kind in zip(*found[key], strict=True)
        if kind == index
    ]
    rows.sort(key=lambda row: row[0])  # stable
    taken, right, wrong, curve = set(), 0, 0, []
    for _, key, box in rows:
        best, most = -1, 0.0
        for place, (true, kind) in enumerate(
            zip(images[key].boxes, images[key].classes, strict=True)
        ):
            if kind == index and overlap(box, devkit(true)) > most:
                best, most = place, overlap(box, devkit(true))
        if most >= 0.5 and images[key].crowd[best]:
            continue
        if most >= 0.5 and (key, best) not in taken:
            taken.add((key, best))
            right += 1
        else:
            wrong += 1
        curve.append((right, right / (right + wrong)))
    eleven = [max([p for r, p in curve if 10 * r >= k * positives], default=0) for k in range(11)]
    area = 0.0
    for reached in range(1, positives + 1):
        area += max([p for r, p in curve if r >= reached], default=0) / positives
    return sum(eleven) / 11, area


@settings(max_examples=60, deadline=None)
@given(drawn_sets())
def test_voc_by_loops(drawn):
    dataset, found = drawn
    got = voc_average_precision(find_overlaps(dataset, found), len(NAMES))
    expected = [voc_by_loops(dataset, found, index) for index in range(len(NAMES))]
    np.testing.assert_allclose(got.eleven_points, [row[0] for row in expected], atol=1e-12)
    np.testing.assert_allclose(got.area, [row[1] for row in expected], atol=1e-12)


def test_a_surer_detection_has_a_difficult_object_for_good():
    """VOC looks for the largest overlap alone: what is next to it is not looked at."""
    boxes = np.asarray([[0, 0, 10, 10], [0, 0, 10, 12]], np.float32)
    record = Annotation(0, Path("a.png"), 50, 50, boxes, np.zeros(2, int), np.asarray([0, 1], bool))
    dataset = Dataset((record,), ("tree",))
    near = np.asarray([[0, 0, 10, 11.5], [0, 0, 10, 10]], np.float32)
    found = {0: Detections(near, np.asarray([0.9, 0.8]), np.zeros(2, int))}
    assert voc_average_precision(find_overlaps(dataset, found), 1).area == pytest.approx([1])
    alone = {0: Detections(near[:1], np.asarray([0.9]), np.zeros(1, int))}
    assert voc_average_precision(find_overlaps(dataset, alone), 1).area == pytest.approx([0])
    assert coco_average_precision(dataset, alone).ap50 == pytest.approx(1)  # by COCO it is a hit


@settings(max_examples=15, deadline=None)
@given(drawn_sets())
def test_the_order_of_images_changes_nothing(drawn):
    dataset, found = drawn
    other = dataclasses.replace(dataset, annotations=dataset.annotations[::-1])
    figures = score_detections(dataset, found).figures()
    assert figures == score_detections(other, dict(reversed(found.items()))).figures()
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert figures["TIDE"]["AP50"] == pytest.approx(figures["COCO"]["AP50"], abs=1e-9)
