"""`K`'s activations, cross-entropies and images: what layers and losses are made of."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Num

from yolo_jax.model import loss_formulas
from yolo_jax.model.backend.arrays import elementwise
from yolo_jax.model.backend.session import check_data_format
from yolo_jax.model.layers import arguments
from yolo_jax.model.layers.arguments import hard_sigmoid  # noqa: F401 - K.hard_sigmoid
from yolo_jax.model.layers.pooling import enlarge
from yolo_jax.model.loss_formulas import l2_normalize  # noqa: F401 - K.l2_normalize
from yolo_jax.model.metric_formulas import is_in_top_k

sigmoid = elementwise(jax.nn.sigmoid)
softplus = elementwise(jax.nn.softplus)
softsign = elementwise(jax.nn.soft_sign)


def elu(x: ArrayLike, alpha: float = 1.0) -> Array:
    """Returns x where it is positive, alpha · (exp(x) − 1) elsewhere."""
    return jax.nn.elu(jnp.asarray(x), alpha)


def relu(
    x: ArrayLike, alpha: float = 0.0, max_value: float | None = None, threshold: float = 0.0
) -> Array:
    """Returns x above the threshold, alpha · (x − threshold) below it, at most `max_value`."""
    return arguments.relu(jnp.asarray(x), alpha, max_value, threshold)


def softmax(x: ArrayLike, axis: int = -1) -> Array:
    """Returns exp(x), divided by its sum along an axis."""
    return jax.nn.softmax(jnp.asarray(x), axis)


def binary_crossentropy(
    target: ArrayLike, output: ArrayLike, from_logits: bool = False
) -> Float[Array, "..."]:
    """Returns the cross-entropy of yes-or-no labels element by element; no axis is reduced.

    Args:
        target: labels, 0 to 1.
        output: probabilities, or logits.
        from_logits: which of them.
    """
    true, found = jnp.asarray(target, jnp.float32), jnp.asarray(output, jnp.float32)
    return loss_formulas.bernoulli_crossentropy(true, found, from_logits)


def categorical_crossentropy(
    target: ArrayLike, output: ArrayLike, from_logits: bool = False, axis: int = -1
) -> Float[Array, "..."]:
    """Returns the cross-entropy of one-hot labels, the axis of the classes reduced.

    Args:
        target: one-hot, or distributions.
        output: probabilities, or logits, of the same shape.
        from_logits: which of them.
        axis: of the classes.

    Raises:
        ValueError: the shapes differ.
    """
    true, found = (jnp.moveaxis(jnp.asarray(array), axis, -1) for array in (target, output))
    return loss_formulas.categorical_crossentropy(true, found, from_logits)


def sparse_categorical_crossentropy(
    target: ArrayLike, output: ArrayLike, from_logits: bool = False, axis: int = -1
) -> Float[Array, "..."]:
    """Returns the cross-entropy of class ids, the axis of the classes reduced.

    Args:
        target: ids, of the output's shape without the classes.
        output: probabilities, or logits.
        from_logits: which of them.
        axis: of the classes.

    Raises:
        ValueError: the shapes do not fit.
    """
    found = jnp.moveaxis(jnp.asarray(output), axis, -1)
    return loss_formulas.sparse_categorical_crossentropy(jnp.asarray(target), found, from_logits)


def in_top_k(
    predictions: Float[Array, "b c"], targets: Int[Array, "b"], k: int
) -> Bool[Array, "b"]:
    """Tells where fewer than k classes are predicted higher than the class of the id."""
    found = jnp.asarray(predictions, jnp.float32)
    return is_in_top_k(jnp.asarray(targets, jnp.int32), found, k)


def resize_images(
    x: Num[Array, "b h w c"],
    height_factor: int,
    width_factor: int,
    data_format: str | None = None,
    interpolation: str = "nearest",
) -> Num[Array, "b h2 w2 c"]:
    """Enlarges images by whole factors, as UpSampling2D does.

    Args:
        x: images.
        height_factor: of the rows.
        width_factor: of the columns.
        data_format: `channels_last`, or None.
        interpolation: `nearest` or `bilinear`.

    Raises:
        ValueError: another data format or interpolation.
    """
    check_data_format(data_format)
    if interpolation not in ("nearest", "bilinear"):
        raise ValueError(f"interpolation is 'nearest' or 'bilinear'; found {interpolation!r}")
    return enlarge(jnp.asarray(x), height_factor, width_factor, interpolation)


def spatial_2d_padding(
    x: Num[Array, "b h w c"],
    padding: Sequence[Sequence[int]] = ((1, 1), (1, 1)),
    data_format: str | None = None,
) -> Num[Array, "b h2 w2 c"]:
    """Puts zeros around images.

    Args:
        x: images.
        padding: ((top, bottom), (left, right)), px.
        data_format: `channels_last`, or None.

    Raises:
        ValueError: another data format.
    """
    check_data_format(data_format)
    (top, bottom), (left, right) = padding
    return jnp.pad(jnp.asarray(x), ((0, 0), (top, bottom), (left, right), (0, 0)))
