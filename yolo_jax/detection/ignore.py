"""The ignore mask: which predictions overlap a true box too well to be punished as background."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from yolo_jax.core.boxes import box_cxcywh_to_xyxy

# True boxes compared in one round of the ignore mask's loop: unrolled, they share one pass over
# the predictions (measured on CPU: 8 at a time take a third of a broadcast's time).
_BLOCK = 8


def overlaps_any(
    predicted: Float[Array, "b n 4"],
    true_boxes: Float[Array, "b t 4"],
    is_true: Bool[Array, "b t"],
    threshold: float | Array,
    *,
    count: Int[Array, ""] | int | None = None,
) -> Bool[Array, "b n"]:
    """Tells which predictions overlap any true box of their image by the threshold or more.

    IoU ≥ θ is tested as shared − κ·area_true ≥ κ·area_predicted with κ = θ / (1 + θ), which needs
    no division.

    Args:
        predicted: cxcywh.
        true_boxes: xyxy, in the same unit.
        is_true: False marks padding.
        threshold: of the IoU, θ.
        count: true boxes to look at, when those of every image stand before it; None: all.
    """
    rounds = -(-(true_boxes.shape[1] if count is None else count) // _BLOCK)
    padding = (0, -true_boxes.shape[1] % _BLOCK)
    true_boxes = jnp.pad(true_boxes, ((0, 0), padding, (0, 0)))
    is_true = jnp.pad(is_true, ((0, 0), padding))
    kappa = threshold / (1 + threshold)
    corners = box_cxcywh_to_xyxy(predicted)
    # The barrier keeps XLA from decoding the predictions anew for every true box.
    x1, y1, x2, y2, area = lax.optimization_barrier(
        (*(corners[..., i] for i in range(4)), kappa * predicted[..., 2] * predicted[..., 3])
    )
    size = true_boxes[..., 2:] - true_boxes[..., :2]
    true_area = jnp.where(is_true, kappa * size[..., 0] * size[..., 1], jnp.inf)

    def one_block(block: Array, best: Array) -> Array:
        boxes = lax.dynamic_slice_in_dim(true_boxes, block * _BLOCK, _BLOCK, axis=1)
        areas = lax.dynamic_slice_in_dim(true_area, block * _BLOCK, _BLOCK, axis=1)
        for i in range(_BLOCK):
            tx1, ty1, tx2, ty2 = (boxes[:, i, side, None] for side in range(4))
            width = jnp.maximum(jnp.minimum(x2, tx2) - jnp.maximum(x1, tx1), 0)
            height = jnp.maximum(jnp.minimum(y2, ty2) - jnp.maximum(y1, ty1), 0)
            best = jnp.maximum(best, width * height - areas[:, i, None])
        return best

    best = lax.fori_loop(0, rounds, one_block, jnp.full(x1.shape, -jnp.inf, x1.dtype))
    return best >= area
