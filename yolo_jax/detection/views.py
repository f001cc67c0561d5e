"""Test-time augmentation: a batch seen at several sizes and mirrored, all boxes in one frame."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from yolo_jax.core.anchors import AnchorSet
from yolo_jax.detection.decode import Predictions, decode

# (size by the input's, mirrored). The first is the image as it is; the sizes are those by which
# Ultralytics augments.
VIEWS = ((1.0, False), (0.83, True), (0.67, False))
_GREY = 0.5


def predict_views(
    forward: Callable[[Array], Sequence[Any]],
    images: Shaped[Array, "b h w 3"],
    anchors: AnchorSet,
) -> Predictions:
    """Returns what a network predicts of all views of a batch, in pixels of the batch.

    A smaller view lies in the upper left of an input that is grey elsewhere.

    Args:
        forward: images, as uint8 or 0–1, to heads.
        images: letterboxed.
        anchors: of the network.
    """
    if jnp.issubdtype(images.dtype, jnp.integer):
        images = images.astype(jnp.float32) / 255
    seen = [_predict_view(forward, images, anchors, *view) for view in VIEWS]
    boxes, scores = (jnp.concatenate(parts, axis=1) for parts in zip(*seen, strict=True))
    return Predictions(boxes, scores)


def _predict_view(
    forward: Callable[[Array], Sequence[Any]],
    images: Float[Array, "b h w 3"],
    anchors: AnchorSet,
    scale: float,
    mirrored: bool,
) -> Predictions:
    batch, height, width, _ = images.shape
    rows, columns = round(height * scale), round(width * scale)
    view = images[:, :, ::-1] if mirrored else images
    if scale != 1:
        view = jax.image.resize(view, (batch, rows, columns, 3), "linear")
        around = ((0, 0), (0, height - rows), (0, width - columns), (0, 0))
        view = jnp.pad(view, around, constant_values=_GREY)
    found = decode(tuple(forward(view)), anchors)
    boxes = found.boxes * jnp.asarray([width / columns, height / rows] * 2, jnp.float32)
    if mirrored:
        left, top, right, bottom = jnp.moveaxis(boxes, -1, 0)
        boxes = jnp.stack([width - right, top, width - left, bottom], axis=-1)
    return Predictions(boxes, found.scores)
