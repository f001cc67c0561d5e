"""Detections that overlap made one, with fixed shapes, inside jit: suppressed, decayed or fused."""

import numbers
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from yolo_jax.core.boxes import box_iou_xyxy
from yolo_jax.core.numbers import finite_number, whole_number
from yolo_jax.core.types import Detections
from yolo_jax.detection.decode import Predictions

Kind = Literal["greedy", "soft", "fusion"]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["score_threshold", "iou_threshold", "sigma"],
    meta_fields=["kind", "class_agnostic", "max_candidates", "max_detections", "views"],
)
@dataclass(frozen=True)
class Suppression:
    """What becomes of detections that overlap. As an argument of a program its thresholds may vary.

    Attributes:
        score_threshold: detections score more than this, 0–1.
        iou_threshold: overlap above which two boxes are of one object, 0–1. `soft` has none.
        kind: `greedy` drops the lower score; `soft` lowers it by exp(−IoU²/sigma) (Bodla et al.,
            arXiv:1704.04503, section 3); `fusion` averages the boxes, weighted by their scores, and
            the scores (Solovyev et al., arXiv:1910.13302, section 3).
        class_agnostic: boxes of different classes meet too, not only those of one class.
        max_candidates: the best pairs of box and class of an image that are considered.
        max_detections: that are returned of an image.
        sigma: of `soft`.
        views: of each image that the boxes are of. `fusion` takes it for a doubt when fewer boxes
            than these were fused, and lowers the score by their share (equation 6); what then
            scores too little is dropped.

    Raises:
        ValueError: a number is out of its range, or there is no such kind.
    """

    score_threshold: float = 0.25
    iou_threshold: float = 0.45
    kind: Kind = "greedy"
    class_agnostic: bool = False
    max_candidates: int = 1024
    max_detections: int = 100
    sigma: float = 0.5
    views: int = 1

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            kinds = ", ".join(get_args(Kind))
            raise ValueError(f"there is no suppression {self.kind!r}; expected one of {kinds}")
        whole_number("max_candidates", self.max_candidates, 1)
        whole_number("max_detections", self.max_detections, 1)
        whole_number("views", self.views, 1)
        # Traced ones have no value yet, and trees of other things than numbers are made of this.
        if isinstance(self.score_threshold, numbers.Real):
            finite_number("the score threshold", self.score_threshold, 0, 1)
        if isinstance(self.iou_threshold, numbers.Real):
            finite_number("the IoU threshold", self.iou_threshold, 0, 1)
        if isinstance(self.sigma, numbers.Real):
            finite_number("sigma", self.sigma, 1e-6)


def non_max_suppression(predictions: Predictions, how: Suppression) -> Detections:
    """Turns decoded predictions into detections, image by image.

    Every pair of box and class whose score exceeds the threshold is a candidate. What follows is
    exact on the `max_candidates` best candidates of an image; of equal scores the earlier box goes
    first, then the lower class.

    Args:
        predictions: boxes and class scores of a batch.
        how: what becomes of boxes that overlap.

    Returns:
        Detections in the boxes' unit, best score first; class −1 and score 0 fill up.
    """

    def one_image(boxes: Float[Array, "n 4"], scores: Float[Array, "n c"]) -> Detections:
        candidates = _best_pairs(boxes, scores, how.max_candidates)
        if how.kind == "fusion":
            return _fused(candidates, how)
        return _best_first(candidates, how)

    return jax.vmap(one_image)(predictions.boxes, predictions.scores)


class _Candidates(NamedTuple):
    """The best pairs of box and class of an image, best score first."""

    boxes: Float[Array, "n 4"]
    scores: Float[Array, "n"]
    classes: Int[Array, "n"]


def _best_pairs(boxes: Float[Array, "n 4"], scores: Float[Array, "n c"], limit: int) -> _Candidates:
    count, classes = scores.shape
    # They are among as many boxes of the best classes, and to sort the boxes is less to do.
    _, rows = lax.top_k(scores.max(axis=1), min(limit, count))
    rows = jnp.sort(rows)  # so that of equal scores the earlier box's comes first
    best, pairs = lax.top_k(scores[rows].reshape(-1), min(limit, count * classes))
    return _Candidates(boxes[rows[pairs // classes]], best, pairs % classes)


def _best_first(candidates: _Candidates, how: Suppression) -> Detections:
    """Takes the best candidate again and again, and lowers the scores of those that overlap it.

    It is the definition of greedy suppression, and ends with the last detection: mostly after a few
    turns, each of which looks at one row of overlaps.
    """
    boxes, scores, classes = candidates
    kept = min(how.max_detections, len(scores))

    def goes_on(carry: tuple[Array, Array, Array, Array]) -> Bool[Array, ""]:
        turn, left, _, _ = carry
        return (turn < kept) & (left.max() > how.score_threshold)

    def take(carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        turn, left, chosen, found = carry
        best = jnp.argmax(left)
        overlaps = box_iou_xyxy(boxes[best], boxes)
        if how.kind == "soft":
            lowered = left * jnp.exp(-(overlaps**2) / how.sigma)
        else:
            lowered = jnp.where(overlaps > how.iou_threshold, -jnp.inf, left)
        rivals = how.class_agnostic | (classes == classes[best])
        after = jnp.where(rivals, lowered, left).at[best].set(-jnp.inf)
        return turn + 1, after, chosen.at[turn].set(best), found.at[turn].set(left[best])

    start = (jnp.asarray(0), scores, jnp.full(kept, -1), jnp.zeros(kept, scores.dtype))
    _, _, chosen, found = lax.while_loop(goes_on, take, start)
    return _filled(chosen >= 0, boxes[chosen], found, classes[chosen])


def _fused(candidates: _Candidates, how: Suppression) -> Detections:
    """Puts each candidate, best first, to the fused box that it overlaps most, or begins another.

    A fused box is the mean of its boxes by their scores, its score the mean of theirs (less where
    not all views found it), and its class that of its best box.
    """
    boxes, scores, classes = candidates
    room = len(scores)

    def add(carry: tuple[Array, ...]) -> tuple[Array, ...]:
        turn, groups, sums, total, members, owners = carry
        fused = sums / jnp.where(total > 0, total, 1)[:, None]
        overlaps = box_iou_xyxy(boxes[turn], fused)
        may_join = (members > 0) & (how.class_agnostic | (owners == classes[turn]))
        overlaps = jnp.where(may_join & (overlaps > how.iou_threshold), overlaps, -1)
        joins = overlaps.max() > 0
        group = jnp.where(joins, jnp.argmax(overlaps), groups)
        return (
            turn + 1,
            groups + ~joins,
            sums.at[group].add(scores[turn] * boxes[turn]),
            total.at[group].add(scores[turn]),
            members.at[group].add(1),
            owners.at[group].set(jnp.where(joins, owners[group], classes[turn])),
        )

    def goes_on(carry: tuple[Array, ...]) -> Bool[Array, ""]:
        turn = carry[0]
        return (turn < room) & (scores[jnp.minimum(turn, room - 1)] > how.score_threshold)

    nothing = jnp.zeros(room, scores.dtype)
    zero = jnp.asarray(0)
    start = (zero, zero, jnp.zeros_like(boxes), nothing, nothing, jnp.full(room, -1))
    _, _, sums, total, members, owners = lax.while_loop(goes_on, add, start)
    mean = total / jnp.maximum(members, 1) * jnp.minimum(members, how.views) / how.views
    best, chosen = lax.top_k(mean, min(how.max_detections, room))
    fused = sums[chosen] / jnp.where(total > 0, total, 1)[chosen][:, None]
    # A fused box that some views missed may score too little by now; one of no boxes scores 0.
    return _filled(best > how.score_threshold, fused, best, owners[chosen])


def _filled(
    used: Bool[Array, "n"],
    boxes: Float[Array, "n 4"],
    scores: Float[Array, "n"],
    classes: Int[Array, "n"],
) -> Detections:
    """Returns detections with the rows that are not used as padding."""
    return Detections(
        boxes=jnp.where(used[:, None], boxes, 0),
        scores=jnp.where(used, scores, 0),
        classes=jnp.where(used, classes, -1),
    )
