"""The terms of the detection loss, one prediction at a time, and the forms that each may have.

Sources: YOLOv3 (arXiv:1804.02767) as keras-yolo3 reads it; generalised IoU (Rezatofighi et al.,
arXiv:1902.09630); distance and complete IoU (Zheng et al., arXiv:1911.08287); focal loss (Lin et
al., arXiv:1708.02002, equation 5); label smoothing (Szegedy et al., arXiv:1512.00567, section 7).
"""

from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from yolo_jax.core.boxes import (
    box_ciou_xyxy,
    box_cxcywh_to_xyxy,
    box_diou_xyxy,
    box_giou_xyxy,
    box_iou_xyxy,
)
from yolo_jax.detection.targets import Matches

BoxForm = Literal["yolov3", "giou", "diou", "ciou"]
ObjectnessTarget = Literal["one", "iou"]
ClassificationForm = Literal["bce", "focal"]
IgnoreScope = Literal["scale", "all"]
_OVERLAPS = {"giou": box_giou_xyxy, "diou": box_diou_xyxy, "ciou": box_ciou_xyxy}
# Of a decoded side over its anchor's: beyond, corners coincide or overflow in float32.
_LARGEST_LOG = 8.0
_FOCAL_ALPHA, _FOCAL_GAMMA = 0.25, 2.0  # the paper's best, table 1b


class LossTerms(NamedTuple):
    """The terms of each image, summed over cells, anchors and scales; None: the loss has not it.

    A box is learnt by `xy` and `wh`, or by its overlap `iou`.
    """

    xy: Float[Array, "b"] | None
    wh: Float[Array, "b"] | None
    objectness: Float[Array, "b"]
    classification: Float[Array, "b"]
    iou: Float[Array, "b"] | None = None

    def total(self) -> Float[Array, "b"]:
        """Returns the loss of each image."""
        return sum(self.named().values(), jnp.zeros(()))

    def named(self) -> dict[str, Array]:
        """Returns those that there are, by name."""
        return {name: term for name, term in self._asdict().items() if term is not None}


def term_names(box: BoxForm) -> tuple[str, ...]:
    """Returns the names of a loss's terms, in the order of `LossTerms.named`."""
    return (
        ("xy", "wh", "objectness", "classification")
        if box == "yolov3"
        else ("objectness", "classification", "iou")
    )


def binary_cross_entropy(target: Array | float, logits: Array) -> Array:
    """Returns −target·log σ(logits) − (1 − target)·log(1 − σ(logits)), in a form that is stable."""
    return jnp.maximum(logits, 0) - logits * target + jnp.log1p(jnp.exp(-jnp.abs(logits)))


def focal_loss(target: Array, logits: Array) -> Array:
    """Returns −α_t·(1 − p_t)^γ·log p_t with α = 0.25 and γ = 2 (arXiv:1708.02002, equation 5).

    Between 0 and 1, as label smoothing has them, targets count as Generalized Focal Loss has it
    (arXiv:2006.04388, equation 4): |target − p|^γ in the place of (1 − p_t)^γ.
    """
    share = target * _FOCAL_ALPHA + (1 - target) * (1 - _FOCAL_ALPHA)
    distance = jnp.abs(target - jax.nn.sigmoid(logits))
    return share * distance**_FOCAL_GAMMA * binary_cross_entropy(target, logits)


def box_terms(
    form: BoxForm,
    rows: Float[Array, "b t 4"],
    anchor: Float[Array, "b t 2"],
    origin: Float[Array, "b t 2"],
    match: Matches,
    grid: tuple[int, int],
    stride: int,
) -> tuple[dict[str, Float[Array, "b"]], Float[Array, "b t"]]:
    """Computes what the boxes of one scale lose, weighted by 2 − w·h each.

    Args:
        form: of the loss.
        rows: raw predictions of the boxes' cells: t_x, t_y, t_w, t_h.
        anchor: sizes of the boxes' anchors, px.
        origin: (column, row) of the boxes' cells.
        match: the boxes.
        grid: (rows, columns).
        stride: px of a cell.

    Returns:
        `xy` and `wh`, or `iou`; and the IoU of each prediction with its box, 0 for none.
    """
    is_own = match.owner[..., None]
    centre, true_size = match.boxes[..., :2], match.boxes[..., 2:]
    columns_rows = jnp.asarray([grid[1], grid[0]], jnp.float32)
    weight = jnp.where(match.owner, 2 - true_size[..., 0] * true_size[..., 1], 0)
    # What is no box must not reach a log or a division, whose gradients would be NaN.
    raw = jnp.where(is_own, rows[..., :4], 0)
    true_size = jnp.where(is_own, true_size * columns_rows * stride / anchor, 1)
    offset = jnp.where(is_own, centre * columns_rows - origin, 0.5)

    def corners(offset: Array, size: Array) -> Array:
        return box_cxcywh_to_xyxy(
            jnp.concatenate([(offset + origin) * stride, size * anchor], axis=-1)
        )

    size = jnp.exp(jnp.clip(raw[..., 2:], -_LARGEST_LOG, _LARGEST_LOG))
    found = corners(jax.nn.sigmoid(raw[..., :2]), size)
    true = corners(offset, true_size)
    overlap = jax.lax.stop_gradient(jnp.where(match.owner, box_iou_xyxy(found, true), 0))
    if form != "yolov3":
        lost = weight * (1 - _OVERLAPS[form](found, true))
        return {"iou": lost.sum(axis=1)}, overlap
    xy = weight[..., None] * binary_cross_entropy(offset, raw[..., :2])
    wh = weight[..., None] * 0.5 * jnp.square(jnp.log(true_size) - raw[..., 2:])
    return {"xy": xy.sum((1, 2)), "wh": wh.sum((1, 2))}, overlap


def classification_term(
    form: ClassificationForm,
    logits: Float[Array, "b t c"],
    match: Matches,
    classes: Int[Array, "b t"],
    label_smoothing: float | Array,
) -> Float[Array, "b"]:
    """Sums the class term over the owners; a cell's bits are the classes of all its boxes.

    Args:
        form: of the loss.
        logits: of the boxes' cells.
        match: the boxes.
        classes: of the boxes.
        label_smoothing: ε: bits are 1 − ε/2 and ε/2, as Keras's binary cross-entropy has them.
    """
    boxes = classes.shape[1]
    # A box leaves its bit in the row of its cell's owner, the last that shares the cell; one that
    # has no cell leaves it beyond the rows, where it is dropped.
    owner = jnp.where(match.same_cell, jnp.arange(boxes), -1).max(axis=-1)
    owner = jnp.where(match.cell >= 0, owner, boxes)

    def set_bits(owner: Int[Array, "t"], classes: Int[Array, "t"]) -> Float[Array, "t c"]:
        return jnp.zeros(logits.shape[1:]).at[owner, classes].set(1, mode="drop")

    bits = jax.vmap(set_bits)(owner, classes)
    bits = bits * (1 - label_smoothing) + 0.5 * label_smoothing
    losses = {"bce": binary_cross_entropy, "focal": focal_loss}
    loss = losses[form](bits, logits).sum(axis=-1)
    return jnp.where(match.owner, loss, 0).sum(axis=1)


def objectness_term(
    logits: Float[Array, "b n"],
    is_object: Bool[Array, "b n"],
    ignored: Bool[Array, "b n"],
    target: Float[Array, "b n"],
) -> Float[Array, "b"]:
    """Sums over predictions that have an object, with its target, and over the not ignored rest."""
    loss = binary_cross_entropy(target, logits)
    return jnp.where(is_object | ~ignored, loss, 0).sum(axis=1)


def check_form(name: str, value: Any, forms: Any) -> None:
    """Raises ValueError unless a loss has such a form."""
    if value not in get_args(forms):
        raise ValueError(f"{name} is {value!r}; expected one of {', '.join(get_args(forms))}")
