"""What was taken for what, counted by hand."""

from pathlib import Path

import numpy as np
import pytest

from yolo_jax.core.types import Annotation, Dataset, Detections
from yolo_jax.evaluation.matches import (
    confusion_matrix,
    match_boxes,
    match_dataset,
    worst_and_best,
)

LEFT, RIGHT, FAR = [0, 0, 10, 10], [20, 0, 30, 10], [50, 50, 60, 60]


def annotated(boxes, classes, crowd=(), image_id=0) -> Annotation:
    return Annotation(
        image_id=image_id,
        path=Path(f"{image_id}.png"),
        width=100,
        height=100,
        boxes=np.asarray(boxes, np.float32).reshape(-1, 4),
        classes=np.asarray(classes, np.int32),
        crowd=np.asarray(crowd or [False] * len(boxes), bool),
    )


def found(boxes, classes, scores=None) -> Detections:
    scores = np.linspace(0.9, 0.5, len(boxes)) if scores is None else np.asarray(scores, float)
    return Detections(np.asarray(boxes, float).reshape(-1, 4), scores, np.asarray(classes, int))


def test_each_true_box_is_matched_once_by_the_best_score():
    matches = match_boxes(annotated([LEFT], [0]), found([LEFT, [0, 0, 10, 9]], [0, 0]), 0.3)
    assert matches.pairs == [(0, 0)]
    assert (matches.right, matches.errors) == (1, 1)
    assert matches.f1 == pytest.approx(2 / 3)


def test_a_surer_detection_of_another_class_takes_no_hit_away():
    detections = found([LEFT, [0, 0, 10, 9]], [1, 0])
    matches = match_boxes(annotated([LEFT], [0]), detections, 0.3)
    assert matches.pairs == [(0, 1)]
    assert matches.right == 1


def test_what_is_not_sure_enough_or_lies_elsewhere_is_no_match():
    detections = found([LEFT, FAR], [0, 0], [0.2, 0.9])
    matches = match_boxes(annotated([LEFT, RIGHT], [0, 0]), detections, 0.3)
    assert matches.pairs == []
    assert (matches.f1, matches.errors) == (0, 3)


def test_a_crowd_is_neither_target_nor_error():
    record = annotated([LEFT, [40, 40, 80, 80]], [0, 0], [False, True])
    matches = match_boxes(record, found([FAR, LEFT], [0, 0]), 0.3)
    assert matches.pairs == [(0, 0)]
    assert (matches.f1, len(matches.found)) == (1, 1)


def test_the_matrix_has_confusions_misses_and_inventions():
    records = (
        annotated([LEFT, RIGHT], [0, 1], image_id=3),
        annotated([LEFT], [1], image_id=4),
        annotated([], [], image_id=5),
    )
    detections = {3: found([LEFT, RIGHT], [0, 0]), 4: found([], []), 5: found([FAR], [1])}
    matches = match_dataset(Dataset(records, ("ash", "oak")), detections, 0.3)
    # Rows are true (ash, oak, background), columns found.
    assert confusion_matrix(matches, 2).tolist() == [[1, 0, 0], [1, 0, 1], [0, 1, 0]]


def test_images_are_ranked_by_f1_then_by_errors():
    records = tuple(
        annotated(boxes, [0] * len(boxes), image_id=number)
        for number, boxes in enumerate([[LEFT], [LEFT, RIGHT], [LEFT, RIGHT], [LEFT], []])
    )
    detections = {
        0: found([LEFT], [0]),  # F1 1, one right
        1: found([LEFT, RIGHT], [0, 0]),  # F1 1, two right
        2: found([FAR], [0]),  # F1 0, three errors
        3: found([], []),  # F1 0, one error
        4: found([], []),  # nothing to find: 1
    }
    matches = match_dataset(Dataset(records, ("tree",)), detections, 0.3)
    assert worst_and_best(matches, 2) == ([2, 3], [1, 0])
    assert worst_and_best(matches, 9) == ([2, 3, 4], [1, 0])
    assert worst_and_best({}, 2) == ([], [])
