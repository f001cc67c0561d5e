"""Raw predictions to boxes.

Source: YOLOv3 (arXiv:1804.02767), section 2.1: b_xy = (σ(t_xy) + cell) / grid,
b_wh = anchor · exp(t_wh); YOLOv4 (arXiv:2004.10934), section 3.4, has s · σ(t_xy) − (s − 1) / 2 in
place of σ(t_xy), so that centres reach their cells' borders.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from yolo_jax.core.anchors import AnchorSet
from yolo_jax.core.boxes import box_cxcywh_to_xyxy


class Predictions(NamedTuple):
    """Decoded predictions of all scales.

    Attributes:
        boxes: xyxy in pixels of the network's input.
        scores: objectness times class probability.
    """

    boxes: Float[Array, "b n 4"]
    scores: Float[Array, "b n c"]


def cell_origins(rows: int, columns: int, used: int) -> Float[np.ndarray, "n 2"]:
    """Returns (column, row) of every cell, once for each of its `used` anchors, flat."""
    row, column = np.mgrid[:rows, :columns]
    origins = np.stack([column, row], axis=-1).reshape(-1, 1, 2)
    return np.repeat(origins, used, axis=1).reshape(-1, 2).astype(np.float32)


def flat_head(head: Float[Array, "b gh gw *rest"], used: int) -> Float[Array, "b n 5+C"]:
    """Reshapes a head, `[b, gh, gw, a*(5+C)]` or `[b, gh, gw, a, 5+C]`, to a row a prediction."""
    batch, rows, columns = head.shape[:3]
    return head.reshape(batch, rows * columns * used, -1)


def decode_boxes(
    raw: Float[Array, "b n 4"],
    anchor_sizes: Float[np.ndarray, "a 2"],
    grid: tuple[int, int],
    stride: int,
    xy_scale: float = 1.0,
) -> Float[Array, "b n 4"]:
    """Decodes the four box numbers of one scale to cxcywh in pixels of the input.

    Args:
        raw: t_x, t_y, t_w, t_h, in the order of `flat_head`.
        anchor_sizes: (width, height) of the scale's anchors, px.
        grid: (rows, columns).
        stride: pixels of the input that a cell covers.
        xy_scale: s of above.
    """
    rows, columns = grid
    sizes = np.tile(np.asarray(anchor_sizes, np.float32), (rows * columns, 1))
    offset = jax.nn.sigmoid(raw[..., :2])
    if xy_scale != 1:
        offset = xy_scale * offset - (xy_scale - 1) / 2
    centre = (offset + cell_origins(rows, columns, len(anchor_sizes))) * stride
    return jnp.concatenate([centre, jnp.exp(raw[..., 2:4]) * sizes], axis=-1)


def decode(heads: list[Array] | tuple[Array, ...], anchors: AnchorSet) -> Predictions:
    """Decodes all scales.

    Args:
        heads: raw predictions, coarse to fine, `[b, gh, gw, a*(5+C)]` or `[b, gh, gw, a, 5+C]`.
        anchors: of the network.

    Returns:
        Boxes and scores of every cell and anchor, coarse scales first.

    Raises:
        ValueError: the number of heads differs from the anchors' number of scales.
    """
    if len(heads) != len(anchors.masks):
        raise ValueError(f"found {len(heads)} heads for anchors of {len(anchors.masks)} scales")
    boxes, scores = [], []
    for scale, head in enumerate(heads):
        sizes = anchors.scale_sizes(scale)
        raw = flat_head(head, len(sizes)).astype(jnp.float32)
        rows, columns = head.shape[1:3]
        stride, xy_scale = anchors.strides[scale], anchors.xy_scale(scale)
        cxcywh = decode_boxes(raw[..., :4], sizes, (rows, columns), stride, xy_scale)
        boxes.append(box_cxcywh_to_xyxy(cxcywh))
        scores.append(jax.nn.sigmoid(raw[..., 4:5]) * jax.nn.sigmoid(raw[..., 5:]))
    return Predictions(jnp.concatenate(boxes, axis=1), jnp.concatenate(scores, axis=1))
