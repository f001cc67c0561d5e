"""A model's graph and losses as the steps run them, on one device's rows."""

import copy
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from yolo_jax.model.augmenting import EXCESS, Transform, augmented
from yolo_jax.model.feed import as_inputs
from yolo_jax.model.freezing import batch_norms, is_frozen
from yolo_jax.model.graph import Graph
from yolo_jax.model.objective import Objective, Rows
from yolo_jax.training.state import TrainState
from yolo_jax.training.step import Fed, Forwarded, example_keys, psum, row_count

PyTree = Any


class GraphForward:
    """A model's graph and losses.

    Args:
        graph: of the model.
        rest: what it holds beside parameters and statistics.
        objective: what is minimised and measured.
        trainable: pytree of bools like the parameters.
        batch_stats: the model's.
        sync_batch_norm: normalise by the statistics of all devices' rows.
        accumulate: parts that a training batch is taken in.
    """

    def __init__(
        self,
        graph: Graph,
        rest: PyTree,
        objective: Objective,
        *,
        trainable: PyTree,
        batch_stats: PyTree,
        sync_batch_norm: bool,
        accumulate: int,
    ) -> None:
        self.objective = objective
        self._inputs, self._rest, self._accumulate = graph.inputs, rest, accumulate
        self._sync_batch_norm = sync_batch_norm
        graph.eval()
        self._eval_graph = nnx.graphdef(graph)
        marks = nnx.merge(self._eval_graph, trainable, batch_stats, rest)
        # A batch normalisation that is not trained keeps to its moving statistics.
        self.frozen_norms = [is_frozen(norm) for norm in batch_norms(marks)]
        graph.train()
        for norm, keeps in zip(batch_norms(graph), self.frozen_norms, strict=True):
            norm.use_running_average = keeps
        self._train_graph = nnx.graphdef(graph)
        graph.eval()
        self._scalar_loss: bool | None = None

    def with_objective(self, objective: Objective) -> "GraphForward":
        """Returns the same graph with other losses."""
        other = copy.copy(self)
        other.objective = objective
        return other

    def __call__(
        self,
        params: PyTree,
        batch_stats: PyTree,
        fed: Fed,
        keys: Array | None,
        *,
        training: bool,
        axis_name: str | None,
        augment: Transform | None,
    ) -> Forwarded:
        """Runs graph and losses on this device's rows.

        Raises:
            ValueError: an output has a mask, and the batch is taken in parts.
        """
        x, y, excess = augmented(fed, keys, augment)
        graphdef = self._train_graph if training else self._eval_graph
        module = nnx.merge(graphdef, params, batch_stats, self._rest, copy=True)
        if self._sync_batch_norm:
            for norm in batch_norms(module):
                norm.axis_name = axis_name
        kept = jnp.ones(row_count(fed))
        # What is known beforehand the devices need not add up.
        total = jnp.float32(kept.size * (jax.lax.axis_size(axis_name) if axis_name else 1))
        if fed.row_mask is not None:
            kept = jnp.asarray(fed.row_mask, jnp.float32)
            total = psum(kept.sum(), axis_name)
        rows = Rows(kept, total, partial(psum, axis_name=axis_name))
        outputs, masks = module.call(as_inputs(x, self._inputs), fed.row_mask, keys)
        if training and self._accumulate > 1 and any(mask is not None for mask in masks):
            raise ValueError(
                f"compile(accumulate={self._accumulate}) with a mask: how many steps of the batch "
                "count is known when all of it is there; leave out accumulate or the mask"
            )
        share, sums = self.objective(y, outputs, masks, fed.weight, rows)
        # Each device adds its rows' part of what does not depend on rows.
        share = share + module.penalty() * kept.sum() / jnp.maximum(total, 1)
        sums["loss"] = (share * total, kept.sum())
        if excess is not None:
            sums[EXCESS] = (excess * kept).sum()
        return Forwarded(share, kept.sum(), nnx.state(module, nnx.BatchStat), sums)

    def has_scalar_loss(self, state: TrainState, fed: Fed, augment: Transform | None) -> bool:
        """Tells whether a loss comes as one number for the batch rather than one for each row."""
        if self._scalar_loss is None:

            def values(state: TrainState, fed: Fed) -> PyTree:
                keys = example_keys(state.key, state.step, row_count(fed), None)
                x, y, _ = augmented(fed, keys, augment)
                module = nnx.merge(
                    self._eval_graph, state.params, state.batch_stats, self._rest, copy=True
                )
                return self.objective.values(y, module(as_inputs(x, self._inputs)))

            shapes = jax.eval_shape(values, state, fed)
            self._scalar_loss = any(
                shape.shape[:1] != (row_count(fed),) for shape in jax.tree.leaves(shapes)
            )
        return self._scalar_loss
