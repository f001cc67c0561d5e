from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from yolo_jax.core.boxes import box_iou_xyxy
from yolo_jax.detection.decode import Predictions
from yolo_jax.detection.nms import Suppression, non_max_suppression

SCORE, IOU, SIGMA = 0.3, 0.45, 0.5
BOXES, CLASSES = 30, 3
LIMITS = [(1024, 100), (20, 100), (1024, 6)]

suppress = jax.jit(non_max_suppression)


def candidates(boxes, scores, how):
    """Returns (score, box, class) best first; ties go to the earlier box, then the lower class."""
    pairs = [(-score, i, c) for (i, c), score in np.ndenumerate(scores)]
    best = sorted(pairs)[: how.max_candidates]
    return [(-negative, boxes[i], c) for negative, i, c in best if -negative > how.score_threshold]


def greedy(boxes, scores, how):
    """Keeps a box unless one that was kept before overlaps it."""
    kept = []
    for score, box, c in candidates(boxes, scores, how):
        rivals = [k for k in kept if how.class_agnostic or k[2] == c]
        if all(box_iou_xyxy(rival[1], box) <= how.iou_threshold for rival in rivals):
            kept.append((score, box, c))
    return kept


def soft(boxes, scores, how):
    """Takes the best box, lowers the others, and so on."""
    left, kept = candidates(boxes, scores, how), []
    while left and max(one[0] for one in left) > how.score_threshold:
        best = max(range(len(left)), key=lambda i: left[i][0])
        score, box, c = left.pop(best)
        kept.append((score, box, c))
        left = [
            (s * np.exp(-(box_iou_xyxy(box, b) ** 2) / how.sigma), b, k)
            if how.class_agnostic or k == c
            else (s, b, k)
            for s, b, k in left
        ]
    return kept


def fusion(boxes, scores, how):
    """Puts each box to the mean that it overlaps most; less is sure of what some views missed."""
    groups = []
    for score, box, c in candidates(boxes, scores, how):
        overlaps = [
            float(box_iou_xyxy(np.average(g["boxes"], axis=0, weights=g["scores"]), box))
            if how.class_agnostic or g["class"] == c
            else 0
            for g in groups
        ]
        if overlaps and max(overlaps) > how.iou_threshold:
            group = groups[int(np.argmax(overlaps))]
        else:
            group = {"boxes": [], "scores": [], "class": c}
            groups.append(group)
        group["boxes"].append(box)
        group["scores"].append(score)
    fused = [
        (
            np.mean(g["scores"]) * min(len(g["scores"]), how.views) / how.views,
            np.average(g["boxes"], axis=0, weights=g["scores"]),
            g["class"],
        )
        for g in groups
    ]
    return sorted([one for one in fused if one[0] > how.score_threshold], key=lambda one: -one[0])


def check(found, row, expected, how):
    expected = expected[: how.max_detections]
    used = found.classes[row] >= 0
    assert used.sum() == len(expected)
    assert used[: len(expected)].all()
    assert not found.boxes[row][~used].any()
    assert not found.scores[row][~used].any()
    scores, boxes, classes = (list(part) for part in zip(*expected, strict=True)) if expected else (
        [], np.zeros((0, 4)), []
    )  # fmt: skip
    np.testing.assert_array_equal(found.classes[row][used], classes)
    np.testing.assert_allclose(found.scores[row][used], scores, rtol=1e-5)
    np.testing.assert_allclose(found.boxes[row][used], boxes, rtol=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    spread=st.sampled_from([10, 40, 150]),
    limits=st.sampled_from(LIMITS),
    agnostic=st.booleans(),
    thresholds=st.sampled_from([(0.3, 0.45), (0.0, 0.0), (0.7, 0.9), (1.0, 1.0)]),
)
def test_greedy_equals_a_sequential_loop(seed, spread, limits, agnostic, thresholds):
    generator = np.random.default_rng(seed)
    corner = generator.integers(0, spread, (2, BOXES, 2))
    size = generator.integers(0, 40, (2, BOXES, 2))
    boxes = np.concatenate([corner, corner + size], axis=-1).astype(np.float32)
    # Eleven values of the score: many ties.
    scores = (generator.integers(0, 11, (2, BOXES, CLASSES)) / 10).astype(np.float32)
    how = Suppression(
        *map(np.float32, thresholds), "greedy", agnostic,
        max_candidates=limits[0], max_detections=limits[1],
    )  # fmt: skip
    found = jax.device_get(suppress(Predictions(jnp.asarray(boxes), jnp.asarray(scores)), how))
    for row in range(2):
        check(found, row, greedy(boxes[row], scores[row], how), how)


@pytest.mark.parametrize(("kind", "plain"), [("soft", soft), ("fusion", fusion)])
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    spread=st.sampled_from([10, 40, 150]),
    limits=st.sampled_from(LIMITS),
    agnostic=st.booleans(),
    views=st.sampled_from([1, 3]),
)
def test_soft_and_fused_equal_plain_loops(kind, plain, seed, spread, limits, agnostic, views):
    generator = np.random.default_rng(seed)
    corner = generator.uniform(0, spread, (1, BOXES, 2))
    size = generator.uniform(5, 40, (1, BOXES, 2))
    boxes = np.concatenate([corner, corner + size], axis=-1).astype(np.float32)
    scores = generator.random((1, BOXES, CLASSES), np.float32)
    how = Suppression(
        SCORE, IOU, kind, agnostic,
        max_candidates=limits[0], max_detections=limits[1], sigma=SIGMA, views=views,
    )  # fmt: skip
    found = jax.device_get(suppress(Predictions(jnp.asarray(boxes), jnp.asarray(scores)), how))
    expected = plain(boxes[0], scores[0], how)
    # No two scores alike, of the means neither: what rounding makes of ties is not right or wrong.
    assume(all(np.diff([-score for score, _, _ in expected]) > 1e-5))
    check(found, 0, expected, how)


def test_a_chain_is_settled_from_its_head():
    """Each box overlaps the next alone: of a chain every second box stays."""
    left = np.arange(9) * 4.0
    boxes = np.stack([left, 0 * left, left + 12, 0 * left + 10], axis=-1)[None]
    scores = np.linspace(0.9, 0.5, 9)[None, :, None]
    predictions = Predictions(jnp.asarray(boxes), jnp.asarray(scores))
    found = non_max_suppression(predictions, Suppression(SCORE, IOU))
    kept = np.asarray(found.boxes[0])[np.asarray(found.classes[0]) >= 0]
    np.testing.assert_array_equal(kept[:, 0], left[::2])


def test_thresholds_are_exclusive():
    """A score equal to the threshold is no candidate; an overlap equal to it does not suppress."""
    boxes = jnp.asarray([[[0, 0, 10, 10], [0, 0, 10, 5], [50, 50, 60, 60]]], jnp.float32)
    scores = jnp.asarray([[[0.9], [0.8], [0.5]]], jnp.float32)
    found = non_max_suppression(Predictions(boxes, scores), Suppression(0.5, 0.5))
    np.testing.assert_array_equal(found.classes[0], [0, 0, -1])


def test_other_thresholds_are_the_same_program():
    traced = []

    @jax.jit
    def count(predictions, how):
        traced.append(how.kind)
        return (non_max_suppression(predictions, how).classes >= 0).sum()

    scores = jnp.asarray([[[0.9], [0.8], [0.5]]], jnp.float32)
    predictions = Predictions(jnp.arange(12.0).reshape(1, 3, 4), scores)
    counts = [int(count(predictions, Suppression(score))) for score in (0.1, 0.6, 0.95)]
    assert counts == [3, 2, 0]
    assert traced == ["greedy"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kind": "hard"}, "no suppression 'hard'; expected one of greedy, soft, fusion"),
        ({"score_threshold": 1.5}, "the score threshold is a finite number from 0 to 1; found 1.5"),
        ({"iou_threshold": float("nan")}, "the IoU threshold is a finite number"),
        ({"max_detections": 0}, "max_detections is a whole number, 1 or more; found 0"),
        ({"max_candidates": 2.5}, "max_candidates is a whole number"),
        ({"sigma": 0.0}, "sigma is a finite number"),
    ],
)
def test_numbers_that_cannot_be_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        partial(Suppression, **wrong)()
