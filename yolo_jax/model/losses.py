"""Losses as the compiled model takes them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

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
