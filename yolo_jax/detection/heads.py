"""Raw heads, as networks put them out: their shapes, and how the loss reads them."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from yolo_jax.core.anchors import AnchorSet


def input_shape_of(head: Float[Array, "b gh gw *rest"], anchors: AnchorSet) -> tuple[int, int]:
    """Returns (height, width) of the input in pixels, from the coarsest head."""
    return head.shape[1] * anchors.strides[0], head.shape[2] * anchors.strides[0]


def check_heads(
    heads: Sequence[Float[Array, "b gh gw *rest"]], anchors: AnchorSet, num_classes: int
) -> None:
    """Checks that the heads' shapes are those of the anchors and classes.

    Args:
        heads: coarse to fine, `[b, gh, gw, a*(5+C)]` or `[b, gh, gw, a, 5+C]`.
        anchors: of the network.
        num_classes: C.

    Raises:
        ValueError: they are not.
    """
    if len(heads) != len(anchors.masks):
        raise ValueError(f"found {len(heads)} heads for anchors of {len(anchors.masks)} scales")
    height, width = input_shape_of(heads[0], anchors)
    expected_grids = anchors.grid_shapes((height, width))
    for scale, (head, grid) in enumerate(zip(heads, expected_grids, strict=True)):
        used, depth = len(anchors.masks[scale]), 5 + num_classes
        shapes = ((*grid, used * depth), (*grid, used, depth))
        if head.shape[1:] not in shapes:
            raise ValueError(
                f"scale {scale}: a head for {num_classes} classes should be (batch, "
                f"{', '.join(map(str, shapes[0]))}); found {head.shape}"
            )


@jax.custom_vjp
def read_head(
    raw: Float[Array, "b n 5+C"], cell: Int[Array, "b t"], used: Bool[Array, "b t"]
) -> tuple[Float[Array, "b t 5+C"], Float[Array, "b n"]]:
    """Reads what the loss differentiates: the rows of the given cells, every objectness.

    Its own gradient rule writes the gradient of `raw` in one pass, where autodiff would write one
    array for each of the two readings and then add them.

    Args:
        raw: a head's predictions, a row for each cell and anchor.
        cell: the row of each box.
        used: the boxes whose rows the loss reads; of the others there is no gradient.

    Returns:
        The boxes' rows, and the objectness of all.
    """
    return jnp.take_along_axis(raw, cell[..., None], axis=1), raw[..., 4]


def _read_head_forward(raw: Array, cell: Array, used: Array):
    return read_head(raw, cell, used), (raw.shape[-1], cell, used)


def _read_head_backward(residuals, grads: tuple[Array, Array]):
    width, cell, used = residuals
    row_grad, objectness_grad = grads
    grad = jnp.where(jnp.arange(width) == 4, objectness_grad[..., None], 0)
    row_grad = jnp.where(used[..., None], row_grad, 0)
    grad = jax.vmap(lambda g, i, r: g.at[i].add(r))(grad, cell, row_grad)
    return grad, None, None


read_head.defvjp(_read_head_forward, _read_head_backward)
