"""Keras's loss functions: (y_true, y_pred) → values, the last axis reduced.

Everything is computed in float32. The formulas are those of Keras 2.3's `losses.py` and TensorFlow
back end; probabilities are clipped to [1e-7, 1 − 1e-7].
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

EPSILON = 1e-7

Values = Float[Array, "*rows"]
Given = Num[Array, "..."]


def mean_squared_error(y_true: Given, y_pred: Given) -> Values:
    """Returns the mean of squared differences.

    Raises:
        ValueError: the shapes differ; so from every loss here.
    """
    true, found = paired(y_true, y_pred)
    return jnp.square(found - true).mean(axis=-1)


def mean_absolute_error(y_true: Given, y_pred: Given) -> Values:
    """Returns the mean of absolute differences."""
    true, found = paired(y_true, y_pred)
    return jnp.abs(found - true).mean(axis=-1)


def mean_absolute_percentage_error(y_true: Given, y_pred: Given) -> Values:
    """Returns the mean of absolute differences, in percent of the true values."""
    true, found = paired(y_true, y_pred)
    return 100 * jnp.abs((true - found) / jnp.maximum(jnp.abs(true), EPSILON)).mean(axis=-1)


def mean_squared_logarithmic_error(y_true: Given, y_pred: Given) -> Values:
    """Returns the mean of squared differences of log(1 + value); negative values count as 0."""
    true, found = (jnp.log(jnp.maximum(a, EPSILON) + 1) for a in paired(y_true, y_pred))
    return jnp.square(found - true).mean(axis=-1)


def binary_crossentropy(
    y_true: Given, y_pred: Given, from_logits: bool = False, label_smoothing: float = 0.0
) -> Values:
    """Returns the mean cross-entropy of independent yes-or-no labels.

    Args:
        y_true: labels, 0 to 1.
        y_pred: probabilities, or logits.
        from_logits: which of them.
        label_smoothing: moves labels this far towards 0.5 (1 makes them all 0.5).
    """
    true, found = paired(y_true, y_pred)
    true = true * (1 - label_smoothing) + 0.5 * label_smoothing
    return bernoulli_crossentropy(true, found, from_logits).mean(axis=-1)


def bernoulli_crossentropy(
    true: Float[Array, "..."], found: Float[Array, "..."], from_logits: bool
) -> Float[Array, "..."]:
    """Returns the cross-entropy of yes-or-no labels element by element, no axis reduced."""
    if from_logits:
        yes, no = jax.nn.log_sigmoid(found), jax.nn.log_sigmoid(-found)
    else:
        found = _clip(found)
        yes, no = jnp.log(found), jnp.log1p(-found)
    return -(true * yes + (1 - true) * no)


def categorical_crossentropy(
    y_true: Given, y_pred: Given, from_logits: bool = False, label_smoothing: float = 0.0
) -> Values:
    """Returns the cross-entropy of one-hot labels.

    Args:
        y_true: one-hot rows, or distributions.
        y_pred: probabilities, first rescaled to add up to 1; or logits.
        from_logits: which of them.
        label_smoothing: part of each label that is spread over all classes.
    """
    true, found = paired(y_true, y_pred)
    true = true * (1 - label_smoothing) + label_smoothing / true.shape[-1]
    if from_logits:
        log = jax.nn.log_softmax(found)
    else:
        log = jnp.log(_clip(found / found.sum(axis=-1, keepdims=True)))
    return -(true * log).sum(axis=-1)


def sparse_categorical_crossentropy(
    y_true: Given, y_pred: Given, from_logits: bool = False
) -> Values:
    """Returns the cross-entropy of class ids; NaN for an id that is no class.

    Args:
        y_true: ids (whole numbers in any dtype), with or without a last axis of 1.
        y_pred: probabilities, clipped and then rescaled to add up to 1; or logits.
        from_logits: which of them.

    Raises:
        ValueError: `y_true` is not of `y_pred`'s shape without the last axis.
    """
    found = jnp.asarray(y_pred, jnp.float32)
    ids = class_ids(y_true, found)
    log = jax.nn.log_softmax(found if from_logits else jnp.log(_clip(found)))
    # A negative index would count from the end.
    ids = jnp.where(ids < 0, found.shape[-1], ids)
    return -jnp.take_along_axis(log, ids[..., None], axis=-1, mode="fill", fill_value=jnp.nan)[
        ..., 0
    ]


def huber(y_true: Given, y_pred: Given, delta: float = 1.0) -> Values:
    """Returns the mean of what is quadratic up to `delta` and linear beyond."""
    true, found = paired(y_true, y_pred)
    error = jnp.abs(found - true)
    quadratic = jnp.minimum(error, delta)
    return (0.5 * jnp.square(quadratic) + delta * (error - quadratic)).mean(axis=-1)


def logcosh(y_true: Given, y_pred: Given) -> Values:
    """Returns the mean logarithm of the differences' hyperbolic cosine."""
    true, found = paired(y_true, y_pred)
    error = found - true
    return (error + jax.nn.softplus(-2 * error) - jnp.log(2.0)).mean(axis=-1)


def kullback_leibler_divergence(y_true: Given, y_pred: Given) -> Values:
    """Returns Σ true·log(true / predicted), both clipped to [1e-7, 1]."""
    true, found = (jnp.clip(a, EPSILON, 1.0) for a in paired(y_true, y_pred))
    return (true * jnp.log(true / found)).sum(axis=-1)


def poisson(y_true: Given, y_pred: Given) -> Values:
    """Returns the mean of predicted − true·log(predicted)."""
    true, found = paired(y_true, y_pred)
    return (found - true * jnp.log(found + EPSILON)).mean(axis=-1)


def hinge(y_true: Given, y_pred: Given) -> Values:
    """Returns the mean of max(0, 1 − true·predicted); labels of 0 and 1 are read as −1 and 1."""
    true, found = paired(y_true, y_pred)
    return jnp.maximum(1 - _signs(true) * found, 0).mean(axis=-1)


def squared_hinge(y_true: Given, y_pred: Given) -> Values:
    """Returns the mean of squared hinges."""
    true, found = paired(y_true, y_pred)
    return jnp.square(jnp.maximum(1 - _signs(true) * found, 0)).mean(axis=-1)


def categorical_hinge(y_true: Given, y_pred: Given) -> Values:
    """Returns how much the best wrong class comes within 1 of the true one."""
    true, found = paired(y_true, y_pred)
    right, wrong = (true * found).sum(axis=-1), ((1 - true) * found).max(axis=-1)
    return jnp.maximum(0, wrong - right + 1)


def cosine_similarity(y_true: Given, y_pred: Given, axis: int = -1) -> Values:
    """Returns −cos of the angle between the vectors: −1 for the same direction."""
    true, found = (l2_normalize(a, axis) for a in paired(y_true, y_pred))
    return -(true * found).sum(axis=axis)


def l2_normalize(
    x: Float[Array, "..."], axis: int | Sequence[int] | None = None
) -> Float[Array, "..."]:
    """Divides by the root of the sum of squares along an axis, a list of them, or all."""
    x = jnp.asarray(x)
    axes = tuple(axis) if isinstance(axis, Sequence) else axis
    squares = jnp.square(x).sum(axis=axes, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(squares, 1e-12))


def class_ids(y_true: Given, y_pred: Given) -> Array:
    """Returns class ids as int32, of the predictions' shape without the classes.

    Raises:
        ValueError: that is not the shape of `y_true`, with or without a last axis of 1.
    """
    ids = jnp.asarray(y_true)
    if ids.ndim == y_pred.ndim and ids.shape[-1] == 1:
        ids = ids[..., 0]
    if ids.shape != y_pred.shape[:-1]:
        raise ValueError(
            f"sparse labels have the shape {ids.shape}; predictions of the shape {y_pred.shape} "
            f"need class ids of the shape {y_pred.shape[:-1]}. For one-hot labels take the loss or "
            "metric without 'sparse'"
        )
    return ids.astype(jnp.int32)


def paired(y_true: Given, y_pred: Given) -> tuple[Array, Array]:
    """Returns both as float32, of one shape: labels may lack a last axis of 1.

    Raises:
        ValueError: the shapes differ otherwise.
    """
    true, found = jnp.asarray(y_true, jnp.float32), jnp.asarray(y_pred, jnp.float32)
    if found.shape[-1:] == (1,) and true.ndim == found.ndim - 1:
        true = true[..., None]
    # A model may give one number for all rows (a loss computed inside it): it is compared with all.
    single = not found.ndim or (found.size == 1 and true.shape[-1:] == (1,))
    if true.shape != found.shape and true.ndim and not single:
        raise ValueError(
            f"the targets have the shape {true.shape} and the predictions {found.shape}; this loss "
            "or metric compares them number by number (class ids need a sparse_categorical one)"
        )
    return true, found


def _clip(probabilities: Array) -> Array:
    return jnp.clip(probabilities, EPSILON, 1 - EPSILON)


def _signs(true: Array) -> Array:
    """Returns labels as −1 and 1, where the whole batch holds zeros and ones alone."""
    binary = ((true == 0) | (true == 1)).all()
    return jnp.where(binary, 2 * true - 1, true)
