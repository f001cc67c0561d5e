"""The YOLOv3 loss, from padded boxes and from dense grids.

For each scale, with the object mask m, the box scale s = 2 − w·h and the raw predictions t:

    xy         = m · s · BCE(offset of the centre in its cell, t_xy)
    wh         = m · s · ½ (log(wh · input / anchor) − t_wh)²
    objectness = m · BCE(1, t_o) + (1 − m) · ignore · BCE(0, t_o)
    class      = m · BCE(class bits, t_c)

where ignore is 0 for a prediction whose box overlaps a true box of its scale by `ignore_thresh`
or more. Summed over cells, anchors and scales; divided by the batch size. Source: keras-yolo3's
`yolo_loss`; YOLOv3 (arXiv:1804.02767), section 2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from yolo_jax.core.anchors import AnchorSet, anchor_set
from yolo_jax.core.boxes import box_cxcywh_to_xyxy
from yolo_jax.core.numbers import finite_number
from yolo_jax.detection.decode import cell_origins, decode_boxes, flat_head
from yolo_jax.detection.heads import check_heads, input_shape_of, read_head
from yolo_jax.detection.ignore import overlaps_any
from yolo_jax.detection.loss_terms import (
    BoxForm,
    ClassificationForm,
    IgnoreScope,
    LossTerms,
    ObjectnessTarget,
    binary_cross_entropy,
    box_terms,
    check_form,
    classification_term,
    objectness_term,
)
from yolo_jax.detection.targets import Matches, match_boxes, valid_boxes


def _sum_terms(scales: Sequence[LossTerms]) -> LossTerms:
    return jax.tree.map(lambda *terms: sum(terms), *scales)


@dataclass(frozen=True)
class DetectionLoss:
    """The loss from padded boxes: nothing dense is built but the gradient of the heads.

    The numbers among its settings may be JAX's, so that one program serves many of them.

    Attributes:
        anchors: of the network.
        num_classes: C.
        ignore_thresh: IoU from which a prediction without an object is not punished.
        exact_centres: False rounds centres down to whole pixels, as keras-yolo3 does.
        box: `yolov3` is the xy and wh of above; `giou`, `diou` and `ciou` lose 1 − that overlap of
            the decoded box, times s.
        objectness: what a prediction with an object is to say: `one`, or its box's `iou`.
        classification: `bce`, or `focal`.
        label_smoothing: ε of the class bits, 1 − ε/2 and ε/2.
        ignore_scope: true boxes that the ignore mask looks at: of the prediction's `scale`, or
            `all`, as darknet does.
        match_iou: IoU of sizes above which anchors beside a box's best learn it too; None: none.
        box_weight: of the box terms.
        objectness_weight: of the objectness term.
        classification_weight: of the class term.

    Raises:
        ValueError: there is no such form, or the anchors' centres are stretched.
    """

    anchors: AnchorSet
    num_classes: int
    ignore_thresh: float | Array = 0.5
    exact_centres: bool = True
    box: BoxForm = "yolov3"
    objectness: ObjectnessTarget = "one"
    classification: ClassificationForm = "bce"
    label_smoothing: float | Array = 0.0
    ignore_scope: IgnoreScope = "scale"
    match_iou: float | Array | None = None
    box_weight: float | Array = 1.0
    objectness_weight: float | Array = 1.0
    classification_weight: float | Array = 1.0

    def __post_init__(self) -> None:
        self.anchors.check_plain_centres()
        check_form("box", self.box, BoxForm)
        check_form("objectness", self.objectness, ObjectnessTarget)
        check_form("classification", self.classification, ClassificationForm)
        check_form("ignore_scope", self.ignore_scope, IgnoreScope)

    @jax.named_scope("loss")
    def __call__(
        self,
        heads: Sequence[Float[Array, "b gh gw *rest"]],
        boxes: Float[Array, "b t 4"],
        classes: Int[Array, "b t"],
    ) -> LossTerms:
        """Computes the loss of each image.

        Args:
            heads: raw predictions, coarse to fine, `[b, gh, gw, 3*(5+C)]` or
                `[b, gh, gw, 3, 5+C]`.
            boxes: xyxy in pixels of the network's input.
            classes: −1 marks padding, which may stand anywhere.

        Returns:
            The terms; NaN for an image with a box that is not finite.

        Raises:
            ValueError: the heads do not fit the anchors or the number of classes.
        """
        check_heads(heads, self.anchors, self.num_classes)
        input_shape = input_shape_of(heads[0], self.anchors)
        match = partial(
            match_boxes,
            anchors=self.anchors,
            input_shape=input_shape,
            exact_centres=self.exact_centres,
            match_iou=self.match_iou,
        )
        matches = jax.vmap(match)(boxes, classes)
        is_true = valid_boxes(boxes, classes)
        terms = _sum_terms(
            [
                self._scale_terms(scale, head, matches[scale], classes, is_true, input_shape)
                for scale, head in enumerate(heads)
            ]
        )
        # No anchor need answer for a box without a size or a place, whose loss would go unnoticed.
        broken = ((classes >= 0) & ~jnp.isfinite(boxes).all(axis=-1)).any(axis=1)
        return terms._replace(objectness=jnp.where(broken, jnp.nan, terms.objectness))

    def _scale_terms(
        self,
        scale: int,
        head: Float[Array, "b gh gw *rest"],
        match: Matches,
        classes: Int[Array, "b t"],
        is_true: Bool[Array, "b t"],
        input_shape: tuple[int, int],
    ) -> LossTerms:
        sizes = self.anchors.scale_sizes(scale)
        grid = (head.shape[1], head.shape[2])
        raw = flat_head(head, len(sizes)).astype(jnp.float32)
        cells = raw.shape[1]
        cell = jnp.where(match.owner, match.cell, 0)
        rows, objectness = read_head(raw, cell, match.owner)

        # Only the boxes' own rows have box and class terms: [b, t] instead of [b, cells].
        anchor = jnp.asarray(sizes)[cell % len(sizes)]
        origin = jnp.asarray(cell_origins(*grid, len(sizes)))[cell]
        stride = self.anchors.strides[scale]
        boxes, overlap = box_terms(self.box, rows[..., :4], anchor, origin, match, grid, stride)

        # An index beyond the cells is dropped.
        place = partial(_placed, cells, jnp.where(match.owner, match.cell, cells))
        is_object = place(jnp.ones_like(match.owner))
        target = place(overlap) if self.objectness == "iou" else is_object.astype(jnp.float32)
        predicted = decode_boxes(lax.stop_gradient(raw), sizes, grid, stride)
        # Of the pairs of a box with its anchors, one speaks for the box.
        pairs = match.cell.shape[1] // classes.shape[1]
        true_boxes = match.boxes[:, ::pairs]
        looked_at = is_true
        if self.ignore_scope == "scale":
            looked_at = match.owner.reshape(*classes.shape, pairs).any(axis=-1)
        true_boxes = box_cxcywh_to_xyxy(true_boxes) * _box_scale(input_shape)
        ignored = overlaps_any(predicted, true_boxes, looked_at, self.ignore_thresh)
        confidence = objectness_term(objectness, is_object, ignored, target)
        classification = classification_term(
            self.classification, rows[..., 5:], match, jnp.repeat(classes, pairs, axis=1),
            self.label_smoothing,
        )  # fmt: skip
        return LossTerms(
            xy=_weighted(self.box_weight, boxes.get("xy")),
            wh=_weighted(self.box_weight, boxes.get("wh")),
            objectness=self.objectness_weight * confidence,
            classification=self.classification_weight * classification,
            iou=_weighted(self.box_weight, boxes.get("iou")),
        )


def _weighted(weight: float | Array, term: Float[Array, "b"] | None) -> Float[Array, "b"] | None:
    return None if term is None else weight * term


def _placed(cells: int, index: Int[Array, "b t"], values: Array) -> Array:
    """Returns an array `[b, cells]` with the values of each image at their cells, elsewhere 0."""
    zeros = jnp.zeros((len(index), cells), values.dtype)
    return jax.vmap(lambda z, i, v: z.at[i].set(v, mode="drop"))(zeros, index, values)


def dense_terms(
    heads: Sequence[Float[Array, "b gh gw *rest"]],
    targets: Sequence[Float[Array, "b gh gw a 5+C"]],
    anchors: AnchorSet,
    ignore_thresh: float = 0.5,
) -> LossTerms:
    """Computes the loss of each image from dense grids, for users who bring their own.

    Args:
        heads: raw predictions, coarse to fine.
        targets: grids as `targets.dense_targets` lays them out.
        anchors: of the network.
        ignore_thresh: IoU from which a prediction without an object is not punished.

    Raises:
        ValueError: heads and targets do not fit each other or the anchors, or the anchors' centres
            are stretched.
    """
    anchors.check_plain_centres()
    check_heads(heads, anchors, targets[0].shape[-1] - 5)
    input_shape = input_shape_of(heads[0], anchors)
    scales = []
    for scale, (head, target) in enumerate(zip(heads, targets, strict=True)):
        sizes = anchors.scale_sizes(scale)
        grid = (head.shape[1], head.shape[2])
        if target.shape != (*head.shape[:3], len(sizes), target.shape[-1]):
            raise ValueError(
                f"scale {scale}: the head is {head.shape}, so y_true should be "
                f"{(*head.shape[:3], len(sizes), target.shape[-1])}; found {target.shape}"
            )
        raw, true = (flat_head(a, len(sizes)).astype(jnp.float32) for a in (head, target))
        is_object = true[..., 4] > 0
        count = is_object.sum(axis=1)
        first = jnp.argsort(~is_object, axis=1, stable=True)[..., None]
        true_boxes = jnp.take_along_axis(true[..., :4], first, axis=1)
        ignored = overlaps_any(
            decode_boxes(lax.stop_gradient(raw), sizes, grid, anchors.strides[scale]),
            box_cxcywh_to_xyxy(true_boxes) * _box_scale(input_shape),
            jnp.arange(raw.shape[1]) < count[:, None],
            ignore_thresh,
            count=count.max(),
        )
        anchor = jnp.tile(jnp.asarray(sizes), (grid[0] * grid[1], 1))
        offset = true[..., :2] * jnp.asarray([grid[1], grid[0]], jnp.float32)
        offset = offset - cell_origins(*grid, len(sizes))
        has_size = is_object[..., None] & (true[..., 2:4] > 0)
        true_wh = jnp.where(has_size, true[..., 2:4] * _box_scale(input_shape)[:2] / anchor, 1)
        weight = (true[..., 4] * (2 - true[..., 2] * true[..., 3]))[..., None]
        xy = weight * binary_cross_entropy(offset, raw[..., :2])
        wh = weight * 0.5 * jnp.square(jnp.log(true_wh) - raw[..., 2:4])
        classification = true[..., 4:5] * binary_cross_entropy(true[..., 5:], raw[..., 5:])
        scales.append(
            LossTerms(
                xy=xy.sum((1, 2)),
                wh=wh.sum((1, 2)),
                objectness=objectness_term(
                    raw[..., 4], is_object, ignored, is_object.astype(raw.dtype)
                ),
                classification=classification.sum((1, 2)),
            )
        )
    return _sum_terms(scales)


def yolo_loss(
    args: Sequence[Array],
    anchors: Float[np.ndarray, "k 2"] | Sequence[Sequence[float]],
    num_classes: int,
    ignore_thresh: float = 0.5,
) -> Float[Array, ""]:
    """Computes keras-yolo3's loss, as its users pass it to `Lambda`.

    Args:
        args: `[*outputs, *y_true]`, each coarse to fine: heads `[b, gh, gw, 3*(5+C)]` or
            `[b, gh, gw, 3, 5+C]`, grids `[b, gh, gw, 3, 5+C]`.
        anchors: (width, height) in pixels of the input, 9 for three scales or 6 for two.
        num_classes: C.
        ignore_thresh: IoU from which a prediction without an object is not punished.

    Returns:
        The scalar loss: the sum of all terms, divided by the batch size.

    Raises:
        ValueError: the shapes, anchors and number of classes do not fit each other, or the
            threshold is no IoU.
    """
    finite_number("ignore_thresh", ignore_thresh, 0, 1)
    if len(args) % 2:
        raise ValueError(f"yolo_loss takes as many heads as y_true grids; found {len(args)} arrays")
    heads, targets = args[: len(args) // 2], args[len(args) // 2 :]
    used = anchor_set(anchors, len(heads))
    check_heads(heads, used, num_classes)
    return dense_terms(heads, targets, used, ignore_thresh).total().mean()


def _box_scale(input_shape: tuple[int, int]) -> Float[Array, "4"]:
    """Returns the factors from boxes relative to the input to pixels."""
    height, width = input_shape
    return jnp.asarray([width, height, width, height], jnp.float32)
