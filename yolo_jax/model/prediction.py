"""Asking a model: `predict`, and its graph as a module."""

from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array

from yolo_jax.core.caller import warn_caller
from yolo_jax.model.callbacks import Callback, CallbackList, ProgbarLogger
from yolo_jax.model.callbacks.params import Params, known_rows
from yolo_jax.model.compile_arguments import output_names
from yolo_jax.model.container import Container
from yolo_jax.model.data import Reading, as_feed, check_has_steps
from yolo_jax.model.feed import Feed, as_inputs
from yolo_jax.model.graph import Graph
from yolo_jax.model.own_data import own_inputs
from yolo_jax.model.signature import signature_of
from yolo_jax.training.compiled_step import unbound
from yolo_jax.training.step import predict_step

PyTree = Any


class Predictor(Container):
    """A model that can be asked; nothing needs to be compiled."""

    _predict: Any = None

    def predict(
        self,
        x: PyTree = None,
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

        Args:
            x: arrays, a generator, a `Sequence`, a data source, or a loader; None takes what the
                inputs bring with them.
            batch_size: rows a batch of arrays or a data source; None: 32.
            verbose: 1 for a bar.
            steps: batches; None takes one pass. Of arrays each is all rows.
            callbacks: in the order in which they are called.
            max_queue_size: batches that workers build ahead.
            workers: that build batches; 0: none beside the main thread.
            use_multiprocessing: processes rather than threads.

        Raises:
            ValueError: the data do not fit, or a generator is given without `steps`.
        """
        self.read_layers()
        signature = signature_of(self.inputs, self.outputs, output_names(self.outputs))
        reading = Reading(workers, use_multiprocessing, max_queue_size)
        x = own_inputs(self.inputs) if x is None else x
        feed = as_feed(
            signature, x, batch_size=batch_size, reading=reading, need_y=False, steps=steps
        )
        check_has_steps(feed, steps, "steps")
        listeners = self._called(callbacks, feed, steps, verbose)
        listeners.on_predict_begin()
        parts = []
        wanted = steps or feed.steps
        for number, fed in enumerate(islice(feed.batches(), wanted)):
            listeners.on_predict_batch_begin(number)
            parts.append(self._predicted(fed.x))
            listeners.on_predict_batch_end(number, {"outputs": parts[-1]})
        feed.end_pass()
        listeners.on_predict_end()
        if not parts:
            raise ValueError("there was not one batch to predict")
        if wanted is not None and len(parts) < wanted:
            warn_caller(
                f"Your input ran out of data after {len(parts)} of {wanted} batches; the "
                "predictions are of those."
            )
        arrays = [np.concatenate(column) for column in zip(*parts, strict=True)]
        return arrays[0] if self.single_output else arrays

    def predict_on_batch(self, x: PyTree) -> np.ndarray | list[np.ndarray]:
        """Returns the outputs for one batch.

        Raises:
            ValueError: the arrays do not fit, or have no row.
        """
        rows = len(jax.tree.leaves(x)[0])
        if not rows:
            raise ValueError("a batch has a row at least; found arrays of 0 samples")
        return self.predict(x, batch_size=rows)

    def module(self, *, ema: bool = True) -> Graph:
        """Returns the graph as an NNX module in evaluation mode, holding the current weights.

        Args:
            ema: the averaged weights, where there are any.
        """
        self.read_layers()
        params = self.state.ema if ema and self.state.ema is not None else self.state.params
        # Neither optimizer slots nor a second set of weights: they would be copied for nothing.
        whole = self.parallel.whole((params, self.state.batch_stats))
        params, batch_stats = jax.device_get(whole)
        self.graph.eval()
        return nnx.merge(nnx.graphdef(self.graph), params, batch_stats, self._rest, copy=True)

    def _predicted(self, x: PyTree) -> list[np.ndarray]:
        if self._predict is None:
            self.graph.eval()
            self._predict_graph = nnx.graphdef(self.graph)
            self._predict = jax.jit(unbound(partial(predict_step, predict=self._outputs)))
        rows = len(jax.tree.leaves(x)[0])
        outputs = jax.device_get(self._predict(self.state, x))
        return [np.broadcast_to(o, (rows,)) if o.ndim == 0 else o for o in outputs]

    def _outputs(self, params: PyTree, batch_stats: PyTree, x: PyTree) -> list[Array]:
        module = nnx.merge(self._predict_graph, params, batch_stats, self._rest, copy=True)
        return module(as_inputs(x, self.inputs))

    def _called(
        self, callbacks: Sequence[Callback] | None, feed: Feed, steps: int | None, verbose: int
    ) -> CallbackList:
        listeners = CallbackList(
            [*CallbackList(callbacks or ()), *([ProgbarLogger()] if verbose else [])]
        )
        listeners.set_model(self)
        stated = {"epochs": 1, "steps": steps or feed.steps, "verbose": verbose}
        listeners.set_params(Params(stated, known_rows(feed.order)))
        return listeners
