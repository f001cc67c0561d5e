import jax
import jax.numpy as jnp
import numpy as np
import pytest

from yolo_jax.core.boxes import box_iou_xyxy
from yolo_jax.detection.decode import Predictions
from yolo_jax.detection.nms import non_max_suppression

SCORE, IOU = 0.3, 0.45


def sequential(boxes, scores, max_candidates, max_detections):
    """Suppresses one box after another; ties go to the earlier box, then the earlier class."""
    pairs = [
        (-scores[i, c], i, c)
        for i in range(scores.shape[0])
        for c in range(scores.shape[1])
        if scores[i, c] > SCORE
    ]
    kept = []
    for negative, i, c in sorted(pairs)[:max_candidates]:
        if all(k[2] != c or box_iou_xyxy(boxes[k[1]], boxes[i]) <= IOU for k in kept):
            kept.append((negative, i, c))
    return kept[:max_detections]


@pytest.mark.parametrize("limits", [(1024, 100), (40, 100), (1024, 10)])
@pytest.mark.parametrize("classes", [1, 4])
def test_equals_a_sequential_loop(classes, limits):
    max_candidates, max_detections = limits
    suppress = jax.jit(
        lambda p: non_max_suppression(
            p,
            score_threshold=SCORE,
            iou_threshold=IOU,
            max_candidates=max_candidates,
            max_detections=max_detections,
        )
    )
    generator = np.random.default_rng(classes)
    for spread in (20, 60, 200):
        corner = generator.integers(0, spread, (3, 60, 2))
        size = generator.integers(8, 40, (3, 60, 2))
        boxes = np.concatenate([corner, corner + size], axis=-1).astype(np.float32)
        # Eleven values of the score over 60 boxes: many ties.
        scores = (generator.integers(0, 11, (3, 60, classes)) / 10).astype(np.float32)
        found = jax.device_get(suppress(Predictions(jnp.asarray(boxes), jnp.asarray(scores))))
        for row in range(3):
            expected = sequential(boxes[row], scores[row], max_candidates, max_detections)
            used = found.classes[row] >= 0
            assert used.sum() == len(expected)
            assert used[: len(expected)].all()
            np.testing.assert_array_equal(
                found.boxes[row][used], [boxes[row, i] for _, i, _ in expected]
            )
            np.testing.assert_array_equal(found.scores[row][used], [-n for n, _, _ in expected])
            np.testing.assert_array_equal(found.classes[row][used], [c for _, _, c in expected])
            assert not found.boxes[row][~used].any()
            assert not found.scores[row][~used].any()


def test_a_chain_is_settled_from_its_head():
    """Each box overlaps the next alone: of a chain every second box stays."""
    left = np.arange(9) * 4.0
    boxes = np.stack([left, 0 * left, left + 12, 0 * left + 10], axis=-1)[None]
    scores = np.linspace(0.9, 0.5, 9)[None, :, None]
    found = non_max_suppression(
        Predictions(jnp.asarray(boxes), jnp.asarray(scores)),
        score_threshold=SCORE,
        iou_threshold=IOU,
    )
    kept = np.asarray(found.boxes[0])[np.asarray(found.classes[0]) >= 0]
    np.testing.assert_array_equal(kept[:, 0], left[::2])


def test_thresholds_are_exclusive():
    """A score equal to the threshold is no candidate; an overlap equal to it does not suppress."""
    boxes = jnp.asarray([[[0, 0, 10, 10], [0, 0, 10, 5], [50, 50, 60, 60]]], jnp.float32)
    scores = jnp.asarray([[[0.9], [0.8], [0.5]]], jnp.float32)
    found = non_max_suppression(Predictions(boxes, scores), score_threshold=0.5, iou_threshold=0.5)
    np.testing.assert_array_equal(found.classes[0], [0, 0, -1])
