"""Exact greedy non-maximum suppression with fixed shapes, inside jit."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from yolo_jax.core.boxes import box_iou_xyxy
from yolo_jax.core.types import Detections
from yolo_jax.detection.decode import Predictions


def greedy_keep(
    boxes: Float[Array, "n 4"],
    classes: Int[Array, "n"],
    valid: Bool[Array, "n"],
    iou_threshold: float,
) -> Bool[Array, "n"]:
    """Decides which boxes greedy suppression keeps, class by class.

    A box is kept when no kept box before it has its class and overlaps it by more than the
    threshold. Walking the boxes one by one is slow on accelerators; instead the rule is applied
    to all of them at once until nothing changes. Each round settles at least the first box that
    is not settled yet, so the fixed point is the sequential answer, and it is reached in as many
    rounds as the longest chain of suppressions has links.

    Args:
        boxes: xyxy, best score first.
        classes: of the boxes.
        valid: False marks padding.
        iou_threshold: overlap above which a box goes.
    """
    order = jnp.arange(len(boxes))
    rivals = (classes[:, None] == classes[None]) & (order[:, None] < order[None])
    suppresses = rivals & (box_iou_xyxy(boxes[:, None], boxes[None]) > iou_threshold)

    def one_round(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        keep, _ = carry
        beaten = (suppresses & keep[:, None]).any(axis=0)
        return valid & ~beaten, keep

    keep, _ = lax.while_loop(
        lambda carry: (carry[0] != carry[1]).any(), one_round, (valid, jnp.zeros_like(valid))
    )
    return keep


def non_max_suppression(
    predictions: Predictions,
    *,
    score_threshold: float,
    iou_threshold: float,
    max_candidates: int = 1024,
    max_detections: int = 100,
) -> Detections:
    """Turns decoded predictions into detections, suppressing within each class of each image.

    Every pair of box and class whose score exceeds the threshold is a candidate. The suppression
    is exact on the `max_candidates` best candidates of an image.

    Args:
        predictions: boxes and class scores of a batch.
        score_threshold: candidates score more than this.
        iou_threshold: overlap above which the lower score goes.
        max_candidates: candidates considered an image.
        max_detections: detections returned an image.

    Returns:
        Detections in the boxes' unit; class −1 and score 0 fill up.
    """
    num_classes = predictions.scores.shape[-1]
    pairs = predictions.scores.shape[1] * num_classes
    candidates = min(max_candidates, pairs)
    kept = min(max_detections, candidates)

    def one_image(boxes: Float[Array, "n 4"], scores: Float[Array, "n c"]) -> Detections:
        top_scores, top = lax.top_k(scores.reshape(-1), candidates)
        top_boxes, top_classes = boxes[top // num_classes], top % num_classes
        keep = greedy_keep(top_boxes, top_classes, top_scores > score_threshold, iou_threshold)
        # Kept candidates first, in the order of their scores: a stable sort of booleans.
        chosen = jnp.argsort(~keep, stable=True)[:kept]
        found = keep[chosen]
        return Detections(
            boxes=jnp.where(found[:, None], top_boxes[chosen], 0),
            scores=jnp.where(found, top_scores[chosen], 0),
            classes=jnp.where(found, top_classes[chosen], -1),
        )

    return jax.vmap(one_image)(predictions.boxes, predictions.scores)
