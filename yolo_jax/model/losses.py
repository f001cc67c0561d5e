"""Losses as the compiled model takes them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from yolo_jax.detection.loss import DetectionLoss
from yolo_jax.detection.loss_terms import term_names
from yolo_jax.model.own_functions import call_own, told

PyTree = Any
LossFunction = Callable[[Array, Array], Array]


class RowLosses(NamedTuple):
    """A joint loss's answer: the loss of each row, and parts of it that the logs show.

    Attributes:
        total: the loss of each row, or one number that is the mean over the rows.
        terms: the same of each part, by the names that `Joint` was given.
    """

    total: Float[Array, "b"] | Float[Array, ""]
    terms: Mapping[str, Float[Array, "b"] | Float[Array, ""]] = MappingProxyType({})


@dataclass(frozen=True)
class Joint:
    """A loss over all outputs together.

    Attributes:
        function: takes the targets as they were fed and the list of outputs; returns the loss of
            each row, one number that is the mean over the rows, or `RowLosses`.
        names: of the terms that it returns beside the total, in `RowLosses`.

    Raises:
        TypeError: the function cannot be called, or the names are no tuple or list of texts.
        ValueError: a name comes twice, or is `loss`, which is the total's.
    """

    function: Callable[[PyTree, Sequence[Array]], RowLosses | Array]
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(
                f"Joint takes a function (targets, outputs); found {type(self.function).__name__} "
                f"{self.function!r}"
            )
        is_list = isinstance(self.names, tuple | list)
        if not is_list or not all(isinstance(name, str) for name in self.names):
            raise TypeError(f"Joint's names are a tuple of texts; found {self.names!r}")
        if len({"loss", *self.names}) <= len(self.names):
            raise ValueError(
                "Joint's names are log keys, each another than the rest and than 'loss'; found "
                f"{list(self.names)}"
            )

    def losses(self, y: PyTree, outputs: Sequence[Array], rows: int) -> RowLosses:
        """Calls the function.

        Args:
            y: targets as they were fed.
            outputs: of the model.
            rows: of the batch.

        Raises:
            TypeError: it returns something else than it should.
            ValueError: terms of other names, or an array that has not the batch's rows.
        """
        found = call_own("the joint loss", self.function, y, outputs)
        what = f"the joint loss, {told(self.function)},"
        if not isinstance(found, RowLosses):
            if isinstance(found, tuple | list | dict):
                raise TypeError(
                    f"{what} returned a {type(found).__name__}; it has to return an array of a "
                    "loss for each row, one number, or losses.RowLosses(total, {name: term})"
                )
            found = RowLosses(found)
        if set(found.terms) != set(self.names):
            raise ValueError(
                f"{what} returned the terms {sorted(found.terms)}; Joint was given the names "
                f"{sorted(self.names)}"
            )
        for name, values in {"total": found.total, **found.terms}.items():
            if jnp.ndim(values) and jnp.shape(values)[0] != rows:
                raise ValueError(
                    f"{what} returned {name} of shape {jnp.shape(values)}; it has to be one number "
                    f"or one for each of the {rows} rows"
                )
        return RowLosses(*jax.tree.map(jnp.asarray, (found.total, dict(found.terms))))


def detection(loss: DetectionLoss) -> Joint:
    """Returns the YOLO loss over the heads; its targets are padded `boxes` and `classes`."""

    def function(targets: Mapping[str, Array], heads: Sequence[Array]) -> RowLosses:
        terms = loss(heads, targets["boxes"], targets["classes"])
        return RowLosses(
            terms.total(), {f"{name}_loss": value for name, value in terms.named().items()}
        )

    return Joint(function, tuple(f"{name}_loss" for name in term_names(loss.box)))
