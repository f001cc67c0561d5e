"""Metrics that are means of values, under Keras's class names."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from yolo_jax.core.numbers import whole_number
from yolo_jax.model import loss_functions as losses
from yolo_jax.model import metric_formulas as formulas
from yolo_jax.model.loss_formulas import Given
from yolo_jax.model.losses import LossFunction
from yolo_jax.model.metric_formulas import spread
from yolo_jax.model.own_functions import call_own

Sums = tuple[Float[Array, ""], Float[Array, ""]]


@dataclass(frozen=True)
class MeanMetric:
    """The mean of a function's values, by weight.

    Attributes:
        function: (y_true, y_pred) → values by row, by row and step, or one for all rows.
        name: in the logs.
    """

    function: LossFunction
    name: str

    def sums(self, y_true: Given, y_pred: Given, weight: Array | None) -> Sums:
        """Returns Σ w·value and Σ w; None weighs all alike, 0 leaves out even what is NaN."""
        values = call_own(f"the metric {self.name!r}", self.function, y_true, y_pred)
        values, weight = spread(values, weight)
        return jnp.where(weight != 0, values * weight, 0).sum(), weight.sum()

    def result(self, sums: tuple[Any, Any]) -> float:
        """Returns the mean; 0 of nothing."""
        total, weight = (float(np.asarray(part)) for part in sums)
        return total / weight if weight else 0.0


class RootMeanSquaredError(MeanMetric):
    """The root of the mean of squared differences."""

    def __init__(self, name: str = "root_mean_squared_error") -> None:
        super().__init__(losses.mean_squared_error, name)

    def result(self, sums: tuple[Any, Any]) -> float:
        """Returns the root of the mean."""
        return super().result(sums) ** 0.5


class MeanSquaredError(MeanMetric):
    """The mean of `mean_squared_error`."""

    def __init__(self, name: str = "mean_squared_error") -> None:
        super().__init__(losses.mean_squared_error, name)


class MeanAbsoluteError(MeanMetric):
    """The mean of `mean_absolute_error`."""

    def __init__(self, name: str = "mean_absolute_error") -> None:
        super().__init__(losses.mean_absolute_error, name)


class MeanAbsolutePercentageError(MeanMetric):
    """The mean of `mean_absolute_percentage_error`."""

    def __init__(self, name: str = "mean_absolute_percentage_error") -> None:
        super().__init__(losses.mean_absolute_percentage_error, name)


class MeanSquaredLogarithmicError(MeanMetric):
    """The mean of `mean_squared_logarithmic_error`."""

    def __init__(self, name: str = "mean_squared_logarithmic_error") -> None:
        super().__init__(losses.mean_squared_logarithmic_error, name)


class LogCoshError(MeanMetric):
    """The mean of `logcosh`."""

    def __init__(self, name: str = "logcosh") -> None:
        super().__init__(losses.logcosh, name)


class KLDivergence(MeanMetric):
    """The mean of `kullback_leibler_divergence`."""

    def __init__(self, name: str = "kullback_leibler_divergence") -> None:
        super().__init__(losses.kullback_leibler_divergence, name)


class Poisson(MeanMetric):
    """The mean of `poisson`."""

    def __init__(self, name: str = "poisson") -> None:
        super().__init__(losses.poisson, name)


class Hinge(MeanMetric):
    """The mean of `hinge`."""

    def __init__(self, name: str = "hinge") -> None:
        super().__init__(losses.hinge, name)


class SquaredHinge(MeanMetric):
    """The mean of `squared_hinge`."""

    def __init__(self, name: str = "squared_hinge") -> None:
        super().__init__(losses.squared_hinge, name)


class CategoricalHinge(MeanMetric):
    """The mean of `categorical_hinge`."""

    def __init__(self, name: str = "categorical_hinge") -> None:
        super().__init__(losses.categorical_hinge, name)


class Accuracy(MeanMetric):
    """The mean of `accuracy`."""

    def __init__(self, name: str = "accuracy") -> None:
        super().__init__(formulas.accuracy, name)


class CategoricalAccuracy(MeanMetric):
    """The mean of `categorical_accuracy`."""

    def __init__(self, name: str = "categorical_accuracy") -> None:
        super().__init__(formulas.categorical_accuracy, name)


class SparseCategoricalAccuracy(MeanMetric):
    """The mean of `sparse_categorical_accuracy`."""

    def __init__(self, name: str = "sparse_categorical_accuracy") -> None:
        super().__init__(formulas.sparse_categorical_accuracy, name)


class BinaryAccuracy(MeanMetric):
    """The mean of `binary_accuracy` with these arguments."""

    def __init__(self, name: str = "binary_accuracy", threshold: float = 0.5) -> None:
        function = partial(formulas.binary_accuracy, threshold=threshold)
        super().__init__(function, name)


class TopKCategoricalAccuracy(MeanMetric):
    """The mean of `top_k_categorical_accuracy` with these arguments.

    Raises:
        ValueError: `k` is no whole number above 0.
    """

    def __init__(self, k: int = 5, name: str = "top_k_categorical_accuracy") -> None:
        function = partial(formulas.top_k_categorical_accuracy, k=whole_number("k", k, 1))
        super().__init__(function, name)


class SparseTopKCategoricalAccuracy(MeanMetric):
    """The mean of `sparse_top_k_categorical_accuracy` with these arguments.

    Raises:
        ValueError: `k` is no whole number above 0.
    """

    def __init__(self, k: int = 5, name: str = "sparse_top_k_categorical_accuracy") -> None:
        function = partial(formulas.sparse_top_k_categorical_accuracy, k=whole_number("k", k, 1))
        super().__init__(function, name)


class CosineSimilarity(MeanMetric):
    """The mean of `cosine_similarity` with these arguments."""

    def __init__(self, name: str = "cosine_similarity", axis: int = -1) -> None:
        function = partial(formulas.cosine_similarity, axis=axis)
        super().__init__(function, name)


class BinaryCrossentropy(MeanMetric):
    """The mean of `binary_crossentropy` with these arguments."""

    def __init__(
        self,
        name: str = "binary_crossentropy",
        from_logits: bool = False,
        label_smoothing: float = 0.0,
    ) -> None:
        function = partial(
            losses.binary_crossentropy, from_logits=from_logits, label_smoothing=label_smoothing
        )
        super().__init__(function, name)


class CategoricalCrossentropy(MeanMetric):
    """The mean of `categorical_crossentropy` with these arguments."""

    def __init__(
        self,
        name: str = "categorical_crossentropy",
        from_logits: bool = False,
        label_smoothing: float = 0.0,
    ) -> None:
        function = partial(
            losses.categorical_crossentropy,
            from_logits=from_logits,
            label_smoothing=label_smoothing,
        )
        super().__init__(function, name)


class SparseCategoricalCrossentropy(MeanMetric):
    """The mean of `sparse_categorical_crossentropy` with these arguments."""

    def __init__(
        self, name: str = "sparse_categorical_crossentropy", from_logits: bool = False
    ) -> None:
        function = partial(losses.sparse_categorical_crossentropy, from_logits=from_logits)
        super().__init__(function, name)
