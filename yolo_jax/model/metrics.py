"""Metrics by Keras's names: what `compile(metrics=…)` takes becomes a `Metric`."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array

from yolo_jax.model import confusion, loss_functions, mean_metrics, metric_formulas
from yolo_jax.model.loss_formulas import Given
from yolo_jax.model.mean_metrics import MeanMetric

PyTree = Any


@runtime_checkable
class Metric(Protocol):
    """A number about targets and predictions that is made of sums over rows.

    Own metrics are objects of this shape too.
    """

    @property
    def name(self) -> str:
        """Returns the name in the logs, without the output's."""
        ...

    def sums(self, y_true: Given, y_pred: Given, weight: Array | None) -> PyTree:
        """Returns arrays that add over batches and devices.

        Args:
            y_true: targets of these rows.
            y_pred: predictions.
            weight: by row, or by row and step; 0 leaves out; None weighs all alike.
        """
        ...

    def result(self, sums: PyTree) -> float:
        """Returns the number, from sums fetched to the host."""
        ...


FUNCTIONS: dict[str, Callable[..., Array]] = {
    **loss_functions.FUNCTIONS,
    **{
        function.__name__: function
        for function in (
            metric_formulas.binary_accuracy,
            metric_formulas.categorical_accuracy,
            metric_formulas.sparse_categorical_accuracy,
            metric_formulas.top_k_categorical_accuracy,
            metric_formulas.sparse_top_k_categorical_accuracy,
        )
    },
    # As metrics these are cosines, not their negatives.
    **dict.fromkeys(
        ("cosine_similarity", "cosine_proximity", "cosine"), metric_formulas.cosine_similarity
    ),
}
CLASSES: dict[str, type] = {
    found.__name__: found
    for found in (
        mean_metrics.MeanSquaredError,
        mean_metrics.MeanAbsoluteError,
        mean_metrics.MeanAbsolutePercentageError,
        mean_metrics.MeanSquaredLogarithmicError,
        mean_metrics.LogCoshError,
        mean_metrics.KLDivergence,
        mean_metrics.Poisson,
        mean_metrics.Hinge,
        mean_metrics.SquaredHinge,
        mean_metrics.CategoricalHinge,
        mean_metrics.Accuracy,
        mean_metrics.CategoricalAccuracy,
        mean_metrics.SparseCategoricalAccuracy,
        mean_metrics.BinaryAccuracy,
        mean_metrics.TopKCategoricalAccuracy,
        mean_metrics.SparseTopKCategoricalAccuracy,
        mean_metrics.CosineSimilarity,
        mean_metrics.BinaryCrossentropy,
        mean_metrics.CategoricalCrossentropy,
        mean_metrics.SparseCategoricalCrossentropy,
        mean_metrics.RootMeanSquaredError,
        confusion.AUC,
        confusion.FalseNegatives,
        confusion.FalsePositives,
        confusion.Precision,
        confusion.Recall,
        confusion.TrueNegatives,
        confusion.TruePositives,
    )
}


def resolve(metric: Any, output_shape: tuple[int | None, ...], loss: Any = None) -> Metric:
    """Returns the metric that an entry of `compile(metrics=…)` asks for.

    Args:
        metric: a name (logged as it stands; `accuracy`, `acc`, `crossentropy` and `ce` choose by
            the output, its targets and its loss), a function (y_true, y_pred) (logged by its own
            name), a `Metric`, or one of Keras's classes for one.
        output_shape: of the output, batch axis included.
        loss: the output's, or None.

    Raises:
        ValueError: the name is not known.
        TypeError: it is none of these.
    """
    match metric:
        case "accuracy" | "acc":
            function = metric_formulas.chosen_by_shape("accuracy", output_shape, loss)
            return MeanMetric(function, metric)
        case "crossentropy" | "ce":
            function = metric_formulas.chosen_by_shape("crossentropy", output_shape, loss)
            return MeanMetric(function, metric)
        case str() if metric in FUNCTIONS:
            return MeanMetric(FUNCTIONS[metric], metric)
        case str() if metric in CLASSES:
            return CLASSES[metric]()
        case str():
            known = ", ".join(
                sorted(["accuracy", "acc", "crossentropy", "ce", *FUNCTIONS, *CLASSES])
            )
            raise ValueError(
                f"Unknown metric function:{metric}; known are {known}, or give a function or object"
            )
        case type() if metric in CLASSES.values():
            return metric()
        case _ if isinstance(metric, Metric) and not isinstance(metric, type):
            if not isinstance(metric.name, str):
                raise TypeError(
                    f"a metric of your own has a name, `sums` and `result`; the name of this "
                    f"{type(metric).__name__} is {metric.name!r}. Keras's update_state is not "
                    "called: return sums, which add over batches and devices"
                )
            return metric
        case Callable() if not isinstance(metric, type):
            return MeanMetric(metric, _name_of(metric))
    raise TypeError(
        "a metric is a name, a function (y_true, y_pred), or an object with name, sums and result; "
        f"found {type(metric).__name__}: {metric!r}"
    )


def _name_of(function: Any) -> str:
    """Returns the name that a function or a loss object is logged by."""
    named = getattr(function, "name", None)
    if isinstance(named, str):
        return named
    return getattr(loss_functions.function_of(function), "__name__", type(function).__name__)
