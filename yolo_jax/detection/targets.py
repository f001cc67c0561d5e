"""Which cell and anchor of which scale answers for which box.

A box goes to the anchor whose size overlaps its own best (the first on ties), on every scale that
uses that anchor, in the cell that holds the box's centre. Source: keras-yolo3's
`preprocess_true_boxes`; YOLOv3 (arXiv:1804.02767), section 2.1.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from yolo_jax.core.anchors import AnchorSet
from yolo_jax.core.boxes import size_iou


class Matches(NamedTuple):
    """The boxes of one image as one scale sees them; where boxes match several anchors, each pair.

    Attributes:
        cell: flat index (row · columns + column) · anchors + anchor of the box; −1 when the scale
            does not answer for it.
        owner: the box whose numbers the cell holds: of several in one cell the last.
        same_cell: pairs of boxes that share a cell, each box with itself too.
        boxes: cxcywh relative to the input, 0–1.
    """

    cell: Int[Array, "t"]
    owner: Bool[Array, "t"]
    same_cell: Bool[Array, "t t"]
    boxes: Float[Array, "t 4"]


def valid_boxes(boxes: Float[Array, "*b t 4"], classes: Int[Array, "*b t"]) -> Bool[Array, "*b t"]:
    """Tells objects (xyxy boxes with a class and a positive width and height) from padding."""
    size = boxes[..., 2:] - boxes[..., :2]
    return (classes >= 0) & (size > 0).all(axis=-1)


def relative_boxes(
    boxes: Float[Array, "*t 4"], input_shape: tuple[int, int], *, exact_centres: bool
) -> Float[Array, "*t 4"]:
    """Converts xyxy pixels to cxcywh relative to an input of (height, width) pixels.

    Args:
        boxes: in pixels of the input.
        input_shape: (height, width).
        exact_centres: False rounds centres down to whole pixels, as keras-yolo3 does.
    """
    lower, upper = boxes[..., :2], boxes[..., 2:]
    centre = (lower + upper) / 2 if exact_centres else (lower + upper) // 2
    scale = jnp.asarray([input_shape[1], input_shape[0]], boxes.dtype)
    return jnp.concatenate([centre / scale, (upper - lower) / scale], axis=-1)


def match_boxes(
    boxes: Float[Array, "t 4"],
    classes: Int[Array, "t"],
    anchors: AnchorSet,
    input_shape: tuple[int, int],
    *,
    exact_centres: bool = True,
    match_iou: float | Array | None = None,
) -> list[Matches]:
    """Matches the boxes of one image to every scale; rows of padding may stand anywhere.

    Args:
        boxes: xyxy in pixels of the input.
        classes: −1 marks padding.
        anchors: of the network.
        input_shape: (height, width) of the input, px.
        exact_centres: see `relative_boxes`.
        match_iou: IoU of sizes above which a box goes to an anchor too that is not its best, as
            darknet's `iou_thresh` has it (YOLOv4, arXiv:2004.10934); None: to its best alone.

    Returns:
        One `Matches` for each scale, coarse to fine: of t boxes, or with `match_iou` of the t·a
        pairs of a box with an anchor of the scale.

    Raises:
        ValueError: the anchors' centres are stretched.
    """
    anchors.check_plain_centres()
    valid = valid_boxes(boxes, classes)
    relative = relative_boxes(boxes, input_shape, exact_centres=exact_centres)
    sizes = jnp.asarray(anchors.sizes, boxes.dtype)
    overlaps = size_iou((boxes[:, 2:] - boxes[:, :2])[:, None], sizes[None])
    best = overlaps.argmax(axis=1)
    matches = []
    for mask, grid in zip(anchors.masks, anchors.grid_shapes(input_shape), strict=True):
        rows, columns = grid
        is_anchor = best[:, None] == jnp.asarray(mask)
        column = jnp.clip(jnp.floor(relative[:, 0] * columns).astype(jnp.int32), 0, columns - 1)
        row = jnp.clip(jnp.floor(relative[:, 1] * rows).astype(jnp.int32), 0, rows - 1)
        first = (row * columns + column) * len(mask)
        if match_iou is None:
            cell = first + is_anchor.argmax(axis=1)
            cell = jnp.where(valid & is_anchor.any(axis=1), cell, -1)
        else:
            is_anchor |= overlaps[:, jnp.asarray(mask)] > match_iou
            cell = first[:, None] + jnp.arange(len(mask))
            cell = jnp.where(valid[:, None] & is_anchor, cell, -1).reshape(-1)
        order = jnp.arange(len(cell))
        same_cell = (cell[:, None] == cell[None]) & (cell >= 0)[:, None]
        later = same_cell & (order[None] > order[:, None])
        owner = (cell >= 0) & ~later.any(axis=1)
        pairs = jnp.repeat(relative, len(cell) // len(boxes), axis=0)
        matches.append(Matches(cell, owner, same_cell, pairs))
    return matches


def dense_targets(
    boxes: Float[Array, "b t 4"],
    classes: Int[Array, "b t"],
    anchors: AnchorSet,
    num_classes: int,
    input_shape: tuple[int, int],
    *,
    exact_centres: bool = False,
) -> list[Float[Array, "b gh gw a 5+C"]]:
    """Lays padded boxes out as keras-yolo3's `y_true` grids.

    Each cell and anchor holds cxcywh relative to the input, objectness 1, and a bit for each class
    of its boxes. These grids take 3.6 MB an image at 416² with 80 classes; `DetectionLoss` does
    without them.

    Args:
        boxes: xyxy in pixels of the input.
        classes: −1 marks padding.
        anchors: of the network.
        num_classes: C.
        input_shape: (height, width) of the input, px.
        exact_centres: see `relative_boxes`.

    Returns:
        One grid for each scale, coarse to fine.

    Raises:
        ValueError: the anchors' centres are stretched.
    """

    def one_image(boxes: Float[Array, "t 4"], classes: Int[Array, "t"]) -> list[Array]:
        grids = []
        matches = match_boxes(boxes, classes, anchors, input_shape, exact_centres=exact_centres)
        for scale, match in enumerate(matches):
            rows, columns = anchors.grid_shapes(input_shape)[scale]
            used = len(anchors.masks[scale])
            cells = rows * columns * used
            # An index beyond the grid is dropped, which keeps padding and earlier boxes out.
            owner_cell = jnp.where(match.owner, match.cell, cells)
            any_cell = jnp.where(match.cell >= 0, match.cell, cells)
            grid = jnp.zeros((cells, 5 + num_classes), boxes.dtype)
            grid = grid.at[owner_cell, :4].set(match.boxes, mode="drop")
            grid = grid.at[any_cell, 4].set(1, mode="drop")
            grid = grid.at[any_cell, 5 + classes].set(1, mode="drop")
            grids.append(grid.reshape(rows, columns, used, 5 + num_classes))
        return grids

    return jax.vmap(one_image)(boxes, classes)
