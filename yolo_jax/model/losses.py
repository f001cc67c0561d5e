"""Losses as the compiled model takes them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from yolo_jax.detection.loss import DetectionLoss, LossTerms

PyTree = Any
LossFunction = Callable[[Array, Array], Array]


class RowLosses(NamedTuple):
    """A joint loss's answer: the loss of each row, and parts of it that the logs show."""

    total: Float[Array, "b"]
    terms: Mapping[str, Float[Array, "b"]]


@dataclass(frozen=True)
class Joint:
    """A loss over all outputs together.

    Attributes:
        function: takes the targets as they were fed and the list of outputs.
        names: of the terms that it returns beside the total.
    """

    function: Callable[[PyTree, Sequence[Array]], RowLosses]
    names: tuple[str, ...] = ()


def detection(loss: DetectionLoss) -> Joint:
    """Returns the YOLO loss over the heads; its targets are padded `boxes` and `classes`."""

    def function(targets: Mapping[str, Array], heads: Sequence[Array]) -> RowLosses:
        terms = loss(heads, targets["boxes"], targets["classes"])
        return RowLosses(
            terms.total(), {f"{name}_loss": value for name, value in terms._asdict().items()}
        )

    return Joint(function, tuple(f"{name}_loss" for name in LossTerms._fields))


def mean_squared_error(y_true: Array, y_pred: Array) -> Array:
    """Returns the mean over the last axis of squared differences."""
    return jnp.square(y_pred - y_true).mean(axis=-1)


def row_losses(loss: LossFunction, y_true: Array, y_pred: Array, rows: int) -> Float[Array, "b"]:
    """Evaluates a loss of one output and returns it by row.

    A scalar (a loss computed inside the model, say) counts for every row; of a loss with more
    axes than the batch's each row takes its mean.
    """
    values = jnp.asarray(loss(y_true, y_pred), jnp.float32)
    if values.ndim == 0:
        return jnp.broadcast_to(values, rows)
    return values.reshape(rows, -1).mean(axis=1)
