"""Data sets and detections as hypothesis draws them, on a grid: boxes touch, meet and repeat."""

from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from yolo_jax.core.types import Annotation, Dataset, Detections

CELL = 16  # px: boxes of 1 to 10 cells are small, medium and large to COCO
NAMES = ("ash", "birch", "cedar")
_SCORES = (0.1, 0.25, 0.3, 0.5, 0.5625, 0.9)  # few, so that many are the same


def _boxes(most: int) -> st.SearchStrategy:
    corner, side = st.integers(0, 6), st.integers(1, 10)
    box = st.tuples(corner, corner, side, side, st.integers(0, len(NAMES) - 1))
    return st.lists(box, max_size=most)


def _annotation(draw: st.DrawFn, image_id: int) -> Annotation:
    given = np.asarray(draw(_boxes(4)), np.float32).reshape(-1, 5)
    count = len(given)
    flags = st.lists(st.sampled_from([False, False, True]), min_size=count, max_size=count)
    areas = None
    if draw(st.booleans()):
        shares = st.sampled_from([np.nan, 0.3, 0.8])
        drawn = np.asarray(draw(st.lists(shares, min_size=count, max_size=count)), np.float64)
        areas = drawn * given[:, 2] * given[:, 3] * CELL**2
    return Annotation(
        image_id, Path(f"{image_id}.png"), 300, 300, _corners(given), given[:, 4].astype(np.int32),
        np.asarray(draw(flags), bool), "ab"[image_id % 2], areas,
    )  # fmt: skip


def _corners(given: np.ndarray) -> np.ndarray:
    return np.hstack([given[:, :2], given[:, :2] + given[:, 2:4]]) * CELL


def _detections(draw: st.DrawFn, annotation: Annotation) -> Detections:
    """Draws boxes of any place, and some that a true box has, or nearly, of any class."""
    given = np.asarray(draw(_boxes(4)), np.float32).reshape(-1, 5)
    boxes, classes = _corners(given), given[:, 4].astype(np.int32)
    if len(annotation.boxes):
        chosen = draw(st.lists(st.integers(0, len(annotation.boxes) - 1), max_size=4))
        moves = st.sampled_from([0, 0, 4, 8, 24])
        moved = np.asarray(draw(st.lists(moves, min_size=len(chosen), max_size=len(chosen))))
        near = annotation.boxes[chosen] + moved.reshape(-1, 1).astype(np.float32)
        wrong = draw(st.lists(st.booleans(), min_size=len(chosen), max_size=len(chosen)))
        kinds = (annotation.classes[chosen] + np.asarray(wrong, int)) % len(NAMES)
        boxes, classes = np.concatenate([boxes, near]), np.concatenate([classes, kinds])
    count = len(classes)
    scores = draw(st.lists(st.sampled_from(_SCORES), min_size=count, max_size=count))
    order = np.argsort(-np.asarray(scores), kind="stable")
    return Detections(boxes[order], np.asarray(scores, np.float32)[order], classes[order])


@st.composite
def drawn_sets(draw: st.DrawFn) -> tuple[Dataset, dict[int, Detections]]:
    """Draws images in any order of ids: empty, with crowd regions, without detections."""
    ids = draw(st.lists(st.integers(0, 50), min_size=1, max_size=5, unique=True))
    annotations = tuple(_annotation(draw, image_id) for image_id in ids)
    found = {one.image_id: _detections(draw, one) for one in annotations if draw(st.integers(0, 5))}
    return Dataset(annotations, NAMES), found
