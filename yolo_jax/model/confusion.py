"""Metrics that count right and wrong decisions: AUC, Precision, Recall, MeanIoU and their kin.

Those over thresholds keep two histograms, of true and of false labels, by how many thresholds a
prediction exceeds: as additive as counts by threshold, and no larger for many predictions. Formulas
and names are those of Keras 2.3's `metrics.py` and tf.keras.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from yolo_jax.core.numbers import whole_number
from yolo_jax.model.loss_formulas import Given, paired
from yolo_jax.model.metric_formulas import spread


class Histograms(NamedTuple):
    """Weights of predictions by the number of thresholds (n) that they exceed.

    Attributes:
        positive: of true labels.
        negative: of false labels.
        outside: of predictions that do not lie between 0 and 1.
    """

    positive: Float[Array, "n+1"]
    negative: Float[Array, "n+1"]
    outside: Float[Array, ""]


class Counts(NamedTuple):
    """True and false positives and negatives at each threshold."""

    tp: Float[np.ndarray, "n"]
    fp: Float[np.ndarray, "n"]
    tn: Float[np.ndarray, "n"]
    fn: Float[np.ndarray, "n"]


def histograms(
    true: Float[Array, "..."],
    found: Float[Array, "..."],
    weight: Float[Array, "..."],
    thresholds: Sequence[float] | np.ndarray,
) -> Histograms:
    """Sorts predictions between rising thresholds; a label is true where it is not 0."""
    above = jnp.searchsorted(jnp.asarray(thresholds, jnp.float32), found.ravel(), side="left")
    positive, weight = true.ravel() != 0, weight.ravel()
    empty = jnp.zeros(len(thresholds) + 1)
    return Histograms(
        empty.at[above].add(jnp.where(positive, weight, 0)),
        empty.at[above].add(jnp.where(positive, 0, weight)),
        jnp.zeros(()),
    )


def counts(sums: Histograms) -> Counts:
    """Returns what the histograms say of each threshold.

    Raises:
        ValueError: some predictions were no probabilities.
    """
    if float(sums.outside):
        raise ValueError(
            f"{float(sums.outside):g} predictions (by weight) do not lie between 0 and 1, or are "
            "NaN; this metric takes probabilities: end the model with a sigmoid or softmax"
        )
    positive, negative = (np.asarray(part, np.float64) for part in sums[:2])
    tp, fp = (part[::-1].cumsum()[::-1][1:] for part in (positive, negative))
    return Counts(tp, fp, negative.sum() - fp, positive.sum() - tp)


@dataclass(frozen=True)
class _Thresholded:
    """A number for each threshold, 0.5 unless others are given; a prediction has to exceed it."""

    default_name: ClassVar[str]

    thresholds: float | Sequence[float] | None = None
    top_k: int | None = None
    class_id: int | None = None
    name: str = ""

    def __post_init__(self) -> None:
        levels = np.asarray(self._levels)
        # With top_k whatever is among the best counts, unless thresholds are given too.
        if self.thresholds is not None and not ((levels >= 0) & (levels <= 1)).all():
            raise ValueError(f"thresholds lie between 0 and 1; found {self.thresholds}")
        if self.top_k is not None:
            whole_number("top_k", self.top_k, 1)
        if not self.name:
            object.__setattr__(self, "name", self.default_name)

    @property
    def _levels(self) -> list[float]:
        if self.thresholds is None:
            return [0.5] if self.top_k is None else [-np.inf]
        return [float(level) for level in np.atleast_1d(self.thresholds)]

    def sums(self, y_true: Given, y_pred: Given, weight: Array | None) -> Histograms:
        """Returns the histograms."""
        true, found = paired(y_true, y_pred)
        _, weight = spread(found, weight)
        outside = jnp.where((found >= 0) & (found <= 1), 0, weight).sum()
        if self.top_k is not None:
            ranks = jnp.argsort(jnp.argsort(-found, axis=-1), axis=-1)
            found = jnp.where(ranks < self.top_k, found, -jnp.inf)
        if self.class_id is not None:
            true, found, weight = (a[..., self.class_id] for a in (true, found, weight))
        return histograms(true, found, weight, sorted(self._levels))._replace(outside=outside)

    def result(self, sums: Histograms) -> Any:
        """Returns the number; an array of them where several thresholds were given."""
        levels = self._levels
        numbers = self._numbers(counts(sums))[np.searchsorted(sorted(levels), levels)]
        return float(numbers[0]) if len(levels) == 1 else numbers

    def _numbers(self, found: Counts) -> np.ndarray:
        raise NotImplementedError


class Precision(_Thresholded):
    """The part of positive predictions that is right; 0 where there are none.

    Attributes:
        thresholds: one or several; None for 0.5.
        top_k: only the k best predictions of a row may be positive.
        class_id: look at this class alone.
        name: in the logs.

    Raises:
        ValueError: a threshold outside [0, 1], or a `top_k` below 1; from `result`, predictions
            outside.
    """

    default_name = "precision"

    def _numbers(self, found: Counts) -> np.ndarray:
        return divide(found.tp, found.tp + found.fp)


class Recall(_Thresholded):
    """The part of true labels that is found; 0 where there are none. See `Precision`."""

    default_name = "recall"

    def _numbers(self, found: Counts) -> np.ndarray:
        return divide(found.tp, found.tp + found.fn)


class TruePositives(_Thresholded):
    """The weight of true labels that are found. See `Precision`."""

    default_name = "true_positives"

    def _numbers(self, found: Counts) -> np.ndarray:
        return found.tp


class FalsePositives(_Thresholded):
    """The weight of positive predictions that are wrong. See `Precision`."""

    default_name = "false_positives"

    def _numbers(self, found: Counts) -> np.ndarray:
        return found.fp


class TrueNegatives(_Thresholded):
    """The weight of false labels that are not taken for true. See `Precision`."""

    default_name = "true_negatives"

    def _numbers(self, found: Counts) -> np.ndarray:
        return found.tn


class FalseNegatives(_Thresholded):
    """The weight of true labels that are missed. See `Precision`."""

    default_name = "false_negatives"

    def _numbers(self, found: Counts) -> np.ndarray:
        return found.fn


@dataclass(frozen=True)
class AUC:
    """The area under a curve over thresholds.

    Attributes:
        num_thresholds: spread evenly over [0, 1], with one below and one above.
        curve: ROC (recall over false positive rate) or PR (precision over recall).
        summation_method: interpolation (for PR that of Davis & Goadrich 2006), or the lower
            (minoring) or upper (majoring) sum.
        name: in the logs.
        thresholds: between 0 and 1, in place of evenly spread ones.

    Raises:
        ValueError: an argument that is none of these; from `result`, predictions outside [0, 1].
    """

    num_thresholds: int = 200
    curve: Literal["ROC", "PR"] = "ROC"
    summation_method: Literal["interpolation", "minoring", "majoring"] = "interpolation"
    name: str = "auc"
    thresholds: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if self.curve not in ("ROC", "PR"):
            raise ValueError(f"AUC's curve is 'ROC' or 'PR'; found {self.curve!r}")
        if self.summation_method not in ("interpolation", "minoring", "majoring"):
            raise ValueError(
                "AUC's summation_method is 'interpolation', 'minoring' or 'majoring'; found "
                f"{self.summation_method!r}"
            )
        if self.thresholds is None and self.num_thresholds < 2:
            raise ValueError(f"AUC needs num_thresholds > 1; found {self.num_thresholds}")
        if self.thresholds is not None and not all(0 <= t <= 1 for t in self.thresholds):
            raise ValueError(f"AUC's thresholds lie between 0 and 1; found {self.thresholds}")

    def sums(self, y_true: Given, y_pred: Given, weight: Array | None) -> Histograms:
        """Returns the histograms."""
        true, found = paired(y_true, y_pred)
        _, weight = spread(found, weight)
        outside = jnp.where((found >= 0) & (found <= 1), 0, weight).sum()
        between = self.thresholds
        if between is None:
            between = np.arange(1, self.num_thresholds - 1) / (self.num_thresholds - 1)
        thresholds = [-1e-7, *sorted(between), 1 + 1e-7]
        return histograms(true, found, weight, thresholds)._replace(outside=outside)

    def result(self, sums: Histograms) -> float:
        """Returns the area."""
        found = counts(sums)
        if self.curve == "PR" and self.summation_method == "interpolation":
            return _interpolated_pr_area(found)
        recall = divide(found.tp, found.tp + found.fn)
        x, y = divide(found.fp, found.fp + found.tn), recall
        if self.curve == "PR":
            x, y = recall, divide(found.tp, found.tp + found.fp)
        match self.summation_method:
            case "interpolation":
                heights = (y[:-1] + y[1:]) / 2
            case "minoring":
                heights = np.minimum(y[:-1], y[1:])
            case "majoring":
                heights = np.maximum(y[:-1], y[1:])
        return float(((x[:-1] - x[1:]) * heights).sum())


def _interpolated_pr_area(found: Counts) -> float:
    """Returns the area under precision over recall, where counts change linearly between points."""
    positives = found.tp + found.fp
    gained = found.tp[:-1] - found.tp[1:]
    slope = divide(gained, np.maximum(positives[:-1] - positives[1:], 0))
    intercept = found.tp[1:] - slope * positives[1:]
    both = (positives[:-1] > 0) & (positives[1:] > 0)
    ratio = np.where(both, divide(positives[:-1], positives[1:]), 1.0)
    area = slope * (gained + intercept * np.log(np.where(both, ratio, 1.0)))
    return float(divide(area, found.tp[1:] + found.fn[1:]).sum())


class LabelPairs(NamedTuple):
    """How often which label met which prediction.

    Attributes:
        matrix: weights by true (rows) and predicted class.
        outside: weight of labels and predictions that are no class.
    """

    matrix: Float[Array, "c c"]
    outside: Float[Array, ""]


@dataclass(frozen=True)
class MeanIoU:
    """The mean over classes of intersection / union, of class ids (not probabilities).

    Attributes:
        num_classes: ids are 0 to num_classes − 1; those without label or prediction do not count.
        name: in the logs.

    Raises:
        ValueError: from `result`, ids that are no class.
    """

    num_classes: int
    name: str = "mean_io_u"

    def __post_init__(self) -> None:
        whole_number("num_classes", self.num_classes, 1)

    def sums(self, y_true: Given, y_pred: Given, weight: Array | None) -> LabelPairs:
        """Returns the confusion matrix."""
        true, found = (a.astype(jnp.int32) for a in paired(y_true, y_pred))
        _, weight = spread(found, weight)
        size = self.num_classes
        known = (true >= 0) & (true < size) & (found >= 0) & (found < size)
        index = jnp.where(known, true * size + found, size * size).ravel()
        total = jnp.zeros(size * size + 1).at[index].add(weight.ravel())
        return LabelPairs(total[:-1].reshape(size, size), total[-1])

    def result(self, sums: LabelPairs) -> float:
        """Returns the mean."""
        if float(sums.outside):
            raise ValueError(
                f"{float(sums.outside):g} labels or predictions (by weight) are no class from 0 to "
                f"{self.num_classes - 1}; MeanIoU takes class ids"
            )
        matrix = np.asarray(sums.matrix, np.float64)
        both = matrix.diagonal()
        union = matrix.sum(axis=0) + matrix.sum(axis=1) - both
        present = union != 0
        return float(divide(both, union).sum() / max(present.sum(), 1))


def divide(
    part: Float[np.ndarray, "*n"], whole: Float[np.ndarray, "*n"]
) -> Float[np.ndarray, "*n"]:
    """Returns quotients, 0 where the divisor is 0."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole != 0)
