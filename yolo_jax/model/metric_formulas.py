"""Keras's metrics that are means of values: (y_true, y_pred) → values, the last axis reduced.

Source: Keras 2.3's `metrics.py`.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from yolo_jax.model import loss_functions
from yolo_jax.model.loss_formulas import Given, Values, class_ids, paired


def accuracy(y_true: Given, y_pred: Given) -> Float[Array, "..."]:
    """Returns 1 where a prediction equals its label, no axis reduced."""
    true, found = paired(y_true, y_pred)
    return (true == found).astype(jnp.float32)


def binary_accuracy(y_true: Given, y_pred: Given, threshold: float = 0.5) -> Values:
    """Returns the part of predictions on the right side; `threshold` itself counts as 0."""
    true, found = paired(y_true, y_pred)
    return ((found > threshold) == true).astype(jnp.float32).mean(axis=-1)


def categorical_accuracy(y_true: Given, y_pred: Given) -> Values:
    """Returns 1 where prediction and label are greatest at one place, the first of equals."""
    true, found = paired(y_true, y_pred)
    return (true.argmax(axis=-1) == found.argmax(axis=-1)).astype(jnp.float32)


def sparse_categorical_accuracy(y_true: Given, y_pred: Given) -> Values:
    """Returns 1 where the greatest prediction is that of the class id."""
    found = jnp.asarray(y_pred)
    return (class_ids(y_true, found) == found.argmax(axis=-1)).astype(jnp.float32)


def top_k_categorical_accuracy(y_true: Given, y_pred: Given, k: int = 5) -> Values:
    """Returns 1 where fewer than k classes are predicted higher than the true one."""
    true, found = paired(y_true, y_pred)
    return is_in_top_k(true.argmax(axis=-1), found, k).astype(jnp.float32)


def sparse_top_k_categorical_accuracy(y_true: Given, y_pred: Given, k: int = 5) -> Values:
    """Returns 1 where fewer than k classes are predicted higher than the class id's."""
    found = jnp.asarray(y_pred, jnp.float32)
    return is_in_top_k(class_ids(y_true, found), found, k).astype(jnp.float32)


def cosine_similarity(y_true: Given, y_pred: Given, axis: int = -1) -> Values:
    """Returns the cosine of the vectors' angle; the loss of this name is its negative."""
    return -loss_functions.cosine_similarity(y_true, y_pred, axis)


def chosen_by_shape(kind: str, output_shape: tuple[int | None, ...], loss: Any) -> Callable:
    """Returns the accuracy or cross-entropy that fits an output and its loss.

    Binary where the output has one column or the loss is binary cross-entropy; sparse where the
    loss is, or the targets have one column against several; categorical else.

    Args:
        kind: `accuracy` or `crossentropy`.
        output_shape: of the output, batch axis included.
        loss: of the output, or None.
    """
    match kind:
        case "accuracy":
            binary, sparse, categorical = (
                binary_accuracy, sparse_categorical_accuracy, categorical_accuracy,
            )  # fmt: skip
        case _:
            binary = loss_functions.binary_crossentropy
            sparse = loss_functions.sparse_categorical_crossentropy
            categorical = loss_functions.categorical_crossentropy
    formula = loss_functions.function_of(loss)
    if (
        len(output_shape) < 2
        or output_shape[-1] == 1
        or formula is loss_functions.binary_crossentropy
    ):
        return binary
    if formula is loss_functions.sparse_categorical_crossentropy:
        return sparse

    def by_targets(y_true: Given, y_pred: Given) -> Values:
        true, found = jnp.shape(y_true), jnp.shape(y_pred)
        one_column = len(true) < len(found) or true[-1] == 1 < found[-1]
        return (sparse if one_column else categorical)(y_true, y_pred)

    return by_targets


def spread(
    values: Float[Array, "..."], weight: Float[Array, "..."] | None
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Returns values and weights of one shape: a row's weight counts for all its values.

    A single value counts for every row, so that means weigh batches by their rows.

    Raises:
        ValueError: the weights' axes are not the values' first ones.
    """
    values = jnp.asarray(values, jnp.float32)
    if weight is None:
        return values, jnp.ones_like(values)
    weight = jnp.asarray(weight, jnp.float32)
    while weight.ndim > max(values.ndim, 1) and weight.shape[-1] == 1:
        weight = weight[..., 0]
    if not values.ndim:
        values = jnp.broadcast_to(values, weight.shape)
    axes = values.ndim - weight.ndim
    if axes < 0 or any(w not in (1, v) for w, v in zip(weight.shape, values.shape, strict=False)):
        raise ValueError(
            f"weights of the shape {weight.shape} do not fit values of the shape {values.shape}: a "
            "metric's function returns a value for each row, or for each row and step"
        )
    return values, jnp.broadcast_to(weight.reshape(*weight.shape, *(1,) * axes), values.shape)


def is_in_top_k(
    ids: Int[Array, "*rows"], found: Float[Array, "*rows c"], k: int
) -> Bool[Array, "*rows"]:
    """Tells where fewer than k classes are predicted higher than the one of the id."""
    own = jnp.take_along_axis(found, ids[..., None], axis=-1, mode="fill", fill_value=jnp.nan)
    higher = (found > own).sum(axis=-1)
    # As TensorFlow's in_top_k: where numbers are not finite, nothing is in the top.
    finite = jnp.isfinite(found).all(axis=-1) & jnp.isfinite(own[..., 0]) & (ids >= 0)
    return (higher < k) & finite
