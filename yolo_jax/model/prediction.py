"""Asking a model: `predict`, and its graph as a module."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array

from yolo_jax.model.arrays import Signature
from yolo_jax.model.callbacks import Callback, CallbackList, ProgbarLogger
from yolo_jax.model.compile_arguments import output_names
from yolo_jax.model.compiled import as_inputs
from yolo_jax.model.container import Container
from yolo_jax.model.data import Reading, as_feed, check_has_steps
from yolo_jax.model.feed import Feed
from yolo_jax.model.graph import Graph
from yolo_jax.training.step import predict_step

PyTree = Any


class Predictor(Container):
    """A model that can be asked; nothing needs to be compiled."""

    _predict: Any = None

    def predict(
        self,
        x: PyTree,
        batch_size: int | None = None,
        verbose: int = 0,
        steps: int | None = None,
        callbacks: Sequence[Callback] | None = None,
        max_queue_size: int = 10,
        workers: int = 1,
        use_multiprocessing: bool = False,
    ) -> np.ndarray | list[np.ndarray]:
        """Returns the outputs for the data, by the EMA's weights where there are any.

        A scalar output is repeated for each row.
        """
        self.read_layers()
        signature = Signature(
            tuple(tensor.name for tensor in self.inputs), tuple(output_names(self.outputs)), ()
        )
        reading = Reading(workers, use_multiprocessing, max_queue_size)
        feed = as_feed(signature, x, batch_size=batch_size, reading=reading, need_y=False)
        check_has_steps(feed, steps, "steps")
        listeners = self._called(callbacks, feed, steps, verbose)
        listeners.on_predict_begin()
        parts = []
        for number, fed in enumerate(feed.batches()):
            if number == (steps or feed.steps):
                break
            listeners.on_predict_batch_begin(number)
            parts.append(self._predicted(fed.x))
            listeners.on_predict_batch_end(number, {"outputs": parts[-1]})
        listeners.on_predict_end()
        arrays = [np.concatenate(column) for column in zip(*parts, strict=True)]
        return arrays[0] if self.single_output else arrays

    def predict_on_batch(self, x: PyTree) -> np.ndarray | list[np.ndarray]:
        """Returns the outputs for one batch."""
        return self.predict(x, batch_size=len(jax.tree.leaves(x)[0]))

    def module(self, *, ema: bool = True) -> Graph:
        """Returns the graph as an NNX module in evaluation mode, holding the current weights.

        Args:
            ema: the averaged weights, where there are any.
        """
        self.read_layers()
        state = jax.device_get(self.state)
        params = state.ema if ema and state.ema is not None else state.params
        self.graph.eval()
        return nnx.merge(nnx.graphdef(self.graph), params, state.batch_stats, self._rest, copy=True)

    def _predicted(self, x: PyTree) -> list[np.ndarray]:
        if self._predict is None:
            self.graph.eval()
            self._predict_graph = nnx.graphdef(self.graph)
            self._predict = jax.jit(partial(predict_step, predict=self._outputs))
        rows = len(jax.tree.leaves(x)[0])
        outputs = jax.device_get(self._predict(self.state, x))
        return [np.broadcast_to(o, (rows,)) if o.ndim == 0 else o for o in outputs]

    def _outputs(self, params: PyTree, batch_stats: PyTree, x: PyTree) -> list[Array]:
        module = nnx.merge(self._predict_graph, params, batch_stats, self._rest, copy=True)
        return module(as_inputs(x, self.inputs))

    def _called(
        self, callbacks: Sequence[Callback] | None, feed: Feed, steps: int | None, verbose: int
    ) -> CallbackList:
        listeners = CallbackList([*(callbacks or ()), *([ProgbarLogger()] if verbose else [])])
        listeners.set_model(self)
        listeners.set_params({"epochs": 1, "steps": steps or feed.steps, "verbose": verbose})
        return listeners
