"""What a compiled model minimises and measures: losses and metrics of its outputs.

A batch's loss is Σ(w·l) / count(l) for each output, over the rows (or rows and steps) that no mask
leaves out, never over Σw; the outputs' losses are added by their weights. Everything is kept as
sums and counts, so that padding rows and the number of devices change nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from yolo_jax.model.losses import Joint, LossFunction
from yolo_jax.model.mean_metrics import MeanMetric
from yolo_jax.model.metrics import Metric
from yolo_jax.model.own_functions import call_own, told

PyTree = Any


class Rows(NamedTuple):
    """What a device knows of its rows.

    Attributes:
        kept: 1 for a row of the batch, 0 for one that only fills it up.
        total: number of rows kept on all devices.
        psum: adds over the devices.
    """

    kept: Float[Array, "b"]
    total: Float[Array, ""]
    psum: Callable[[Array], Array]


@dataclass(frozen=True)
class Output:
    """One output's share.

    Attributes:
        name: of the output.
        index: among the model's outputs.
        loss: function (y_true, y_pred), or None for an output that is not trained.
        loss_weight: factor in the total; the logs show the loss without it.
        metrics: log name and metric, which ignore sample weights.
        weighted_metrics: the same, which heed them.
    """

    name: str
    index: int
    loss: LossFunction | None
    loss_weight: float = 1.0
    metrics: tuple[tuple[str, Metric], ...] = ()
    weighted_metrics: tuple[tuple[str, Metric], ...] = ()


@dataclass(frozen=True)
class Objective:
    """Losses and metrics of all outputs, or a joint loss over them.

    Attributes:
        outputs: in the model's order.
        joint: the loss over all outputs together, in place of theirs.
    """

    outputs: tuple[Output, ...]
    joint: Joint | None = None

    @property
    def log_names(self) -> tuple[str, ...]:
        """Returns what the logs show, in order: `loss`, the outputs' losses, their metrics."""
        if self.joint is not None:
            return ("loss", *self.joint.names)
        trained = [output for output in self.outputs if output.loss is not None]
        losses = [f"{output.name}_loss" for output in trained] if len(self.outputs) > 1 else []
        metrics = [
            name
            for output in self.outputs
            for name, _ in (*output.metrics, *output.weighted_metrics)
        ]
        return ("loss", *losses, *metrics)

    def results(self, sums: Mapping[str, PyTree]) -> dict[str, float]:
        """Returns the numbers that the logs show, from fetched sums."""
        metrics = {
            name: metric
            for output in self.outputs
            for name, metric in (*output.metrics, *output.weighted_metrics)
        }
        return {
            name: _result(name, metrics[name], sums[name]) if name in metrics else mean(sums[name])
            for name in self.log_names
            if name in sums
        }

    def values(self, y: PyTree, outputs: Sequence[Array]) -> dict[str, Array]:
        """Returns what the outputs' losses return, by output name; a joint loss as `loss`."""
        if self.joint is not None:
            rows = next((len(output) for output in outputs if output.ndim), 1)
            return {"loss": self.joint.losses(y, outputs, rows).total}
        return {
            output.name: _loss_values(output, y, outputs)
            for output in self.outputs
            if output.loss is not None
        }

    def __call__(
        self,
        y: PyTree,
        outputs: Sequence[Array],
        masks: Sequence[Bool[Array, "b *rest"] | None],
        weights: PyTree,
        rows: Rows,
    ) -> tuple[Float[Array, ""], dict[str, PyTree]]:
        """Computes this device's share of the batch's loss, and the sums for the logs.

        Args:
            y: targets: a list in the outputs' order, or a dict by output name; for a joint loss as
                they were fed.
            outputs: of the model.
            masks: of the outputs; False leaves a row or step out.
            weights: sample weights, None or one of (None, `[b]`, `[b, T]`) for each output.
            rows: of this device.

        Returns:
            The share, which adds up over the devices to the loss; and sums by log name.
        """
        if self.joint is not None:
            return self._joint(y, outputs, _weight_of(weights, 0), rows)
        total, sums = jnp.zeros(()), {}
        for output in self.outputs:
            weight, mask = _weight_of(weights, output.index), masks[output.index]
            if output.loss is not None:
                values = _loss_values(output, y, outputs)
                share = _share(values, weight, mask, rows)
                total = total + output.loss_weight * share
                if len(self.outputs) > 1:
                    sums[f"{output.name}_loss"] = (share * rows.total, rows.kept.sum())
            if not output.metrics and not output.weighted_metrics:
                continue
            true, found = _target(y, output), outputs[output.index]
            present = _present(mask, rows.kept)
            for name, metric in output.metrics:
                sums[name] = _sums(name, metric, true, found, present)
            weighted = present if weight is None else _times(present, weight)
            for name, metric in output.weighted_metrics:
                sums[name] = _sums(name, metric, true, found, weighted)
        return total, sums

    def _joint(
        self, y: PyTree, outputs: Sequence[Array], weight: Array | None, rows: Rows
    ) -> tuple[Float[Array, ""], dict[str, PyTree]]:
        assert self.joint is not None
        found = self.joint.losses(y, outputs, len(rows.kept))
        share = _share(found.total, weight, None, rows)
        sums = {
            name: (_share(value, weight, None, rows) * rows.total, rows.kept.sum())
            for name, value in found.terms.items()
        }
        return share, sums


def mean(sum_and_count: tuple[Any, Any]) -> float:
    """Returns a mean from its sum and count; 0 of nothing."""
    total, count = sum_and_count
    return float(np.asarray(total) / max(float(count), 1.0))


def _loss_values(output: Output, y: PyTree, outputs: Sequence[Array]) -> Array:
    assert output.loss is not None
    what = f"the loss of output {output.name!r}"
    made = outputs[output.index]
    values = jnp.asarray(call_own(what, output.loss, _target(y, output), made), jnp.float32)
    # A model's output may be a scalar: a loss that was computed within.
    rows = made.shape[:1] or values.shape[:1]
    if values.size != 1 and values.shape[:1] != rows:
        raise ValueError(
            f"{what}, {told(output.loss)}, returned an array of shape {values.shape}; it has to "
            f"return one number for each of the {rows[0]} rows, {rows}, one for each row and step, "
            "or the mean over the rows"
        )
    return values


def _sums(name: str, metric: Metric, true: Array, found: Array, weight: Array) -> PyTree:
    if isinstance(metric, MeanMetric):  # which tells of its function's errors itself
        return metric.sums(true, found, weight)
    return call_own(f"the metric {name!r}", metric.sums, true, found, weight)


def _result(name: str, metric: Metric, sums: PyTree) -> float:
    try:
        return metric.result(sums)
    except ValueError as error:
        raise ValueError(f"the metric {name!r}: {error}") from error


def _target(y: PyTree, output: Output) -> Array:
    if isinstance(y, Mapping):
        return y[output.name]
    return y[output.index] if isinstance(y, list | tuple) else y


def _weight_of(weights: PyTree, index: int) -> Array | None:
    return weights[index] if isinstance(weights, list | tuple) else weights


def _times(left: Array, right: Array) -> Array:
    """Multiplies arrays whose leading axes are the same, `[b]` or `[b, T]`."""
    axes = max(left.ndim, right.ndim)
    left, right = (a.reshape(*a.shape, *(1,) * (axes - a.ndim)) for a in (left, right))
    return left * right


def _present(mask: Array | None, kept: Float[Array, "b"]) -> Float[Array, "b *rest"]:
    return kept if mask is None else _times(kept, jnp.asarray(mask, jnp.float32))


def _share(values: Array, weight: Array | None, mask: Array | None, rows: Rows) -> Array:
    """Returns this device's part of Σ(w·l) / count(l).

    A loss that is one number for all rows (computed inside the model, say) is multiplied by the
    mean weight.
    """
    if values.size == 1 and (values.ndim == 0 or rows.kept.size != 1):
        weight = rows.kept if weight is None else rows.kept * weight
        return values.reshape(()) * weight.sum() / jnp.maximum(rows.total, 1)
    present = _times(_present(mask, rows.kept), jnp.ones_like(values))
    weighted = values
    if weight is not None:
        # A row that weighs nothing may have a label that is none, and so a loss of NaN.
        is_weighed = _times(jnp.ones_like(values), weight) != 0
        weighted = jnp.where(is_weighed, _times(values, weight), 0)
    # Without a mask every row has as many values, and the devices need not add them up.
    values_a_row = values.size // rows.kept.size
    count = rows.total * values_a_row if mask is None else rows.psum(present.sum())
    return jnp.where(present > 0, weighted * present, 0).sum() / jnp.maximum(count, 1)
