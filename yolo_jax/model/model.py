"""`Model(inputs, outputs)`: compile, fit, evaluate, predict."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array

from yolo_jax.model.callbacks import Callback, ProgbarLogger
from yolo_jax.model.feed import ArrayFeed, Feed
from yolo_jax.model.fit import FitRun, evaluate, means
from yolo_jax.model.graph import Graph, SymbolicTensor
from yolo_jax.model.history import History
from yolo_jax.model.losses import Joint, LossFunction, row_losses
from yolo_jax.networks.blocks import BatchNorm
from yolo_jax.training.optimizers import trainable_mask
from yolo_jax.training.parallel import Device, Parallel
from yolo_jax.training.state import create_state, with_optimizer
from yolo_jax.training.step import Fed, Forwarded, evaluate_step, predict_step, train_step

PyTree = Any
Loss = Joint | LossFunction | Mapping[str, LossFunction]
Transform = Callable[..., tuple[Array, Array, Array]]


class Model:
    """A graph of layers that can be trained.

    The parameters are copied out of the layers when the model is made; from then on
    `model.state` owns them, and it is replaced after every step.

    Args:
        inputs: one symbolic input, or a list.
        outputs: one symbolic tensor, or a list.
        name: of the model.
        seed: of everything random in training.

    Attributes:
        state: parameters, statistics, optimizer slots, EMA and step.
        history: of the last fit.

    Raises:
        ValueError: an output cannot be reached from the inputs, or two layers share a name.
    """

    def __init__(
        self,
        inputs: SymbolicTensor | Sequence[SymbolicTensor],
        outputs: SymbolicTensor | Sequence[SymbolicTensor],
        name: str | None = None,
        *,
        seed: int = 0,
    ) -> None:
        self.name = name or "model"
        self.inputs = _as_list(inputs)
        self.outputs = _as_list(outputs)
        self.single_output = isinstance(outputs, SymbolicTensor)
        self.graph = Graph(self.inputs, self.outputs)
        _, params, batch_stats, self._rest = nnx.split(self.graph, nnx.Param, nnx.BatchStat, ...)
        self.parallel = Parallel.over(jax.local_devices()[:1])
        # Copies: the step donates the state, and the layers keep their own arrays.
        self.state = create_state(
            jax.tree.map(jnp.copy, params), jax.tree.map(jnp.copy, batch_stats), seed=seed
        )
        self.log_names: tuple[str, ...] = ()
        self.history = History()
        self.loss: Loss | None = None

    def compile(
        self,
        optimizer: optax.GradientTransformation,
        loss: Loss,
        *,
        augment: Transform | None = None,
        ema_decay: float | None = None,
        frozen: Iterable[str] = (),
        sync_batch_norm: bool = False,
        devices: Sequence[Device] | None = None,
    ) -> None:
        """Prepares training.

        Args:
            optimizer: an optax transformation, over the trainable parameters.
            loss: a function (y_true, y_pred) of the one output, a dict of them by output name, or
                `losses.Joint`.
            augment: on the device, in training alone: (keys, image, boxes, classes) to the three.
            ema_decay: keep a moving average of the weights, used by evaluate and predict.
            frozen: patterns of parameter paths that are not trained (`*body/*`); batch
                normalisation whose parameters are frozen uses its moving statistics.
            sync_batch_norm: normalise by the statistics of all devices' rows.
            devices: that share each batch; None takes all local ones.

        Raises:
            ValueError: the loss names something that is no output, or `frozen` matches nothing.
        """
        self.loss, self._augment, self._ema_decay = loss, augment, ema_decay
        self._losses = self._named_losses(loss)
        self.parallel = Parallel.over(devices)
        trainable = trainable_mask(self.state.params, frozen)
        self._set_batch_norm(trainable, sync_batch_norm)
        self.graph.train()
        self._freeze_batch_norm()
        self._train_graph = nnx.graphdef(self.graph)
        self.graph.eval()
        self._eval_graph = nnx.graphdef(self.graph)
        state = with_optimizer(self.state, optimizer, trainable, ema=ema_decay is not None)
        self.state = self.parallel.replicate(state)
        self._steps: dict[tuple[str, bool], Callable] = {}
        self._optimizer, self._trainable = optimizer, trainable
        self.log_names = self._find_log_names()

    def fit(
        self,
        x: PyTree = None,
        y: PyTree = None,
        batch_size: int = 32,
        epochs: int = 1,
        verbose: int = 1,
        callbacks: Sequence[Callback] = (),
        validation_data: Feed | tuple[PyTree, PyTree] | None = None,
        shuffle: bool = True,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        *,
        resume: Path | str | None = None,
    ) -> History:
        """Trains from epoch `initial_epoch` up to, and not including, epoch `epochs`.

        Args:
            x: arrays (one, a list or a dict in the inputs' order), or a loader of batches.
            y: targets, when x is arrays.
            batch_size: rows a batch, when x is arrays.
            epochs: number of the last epoch, not a count.
            verbose: 0 for silence.
            callbacks: in the order in which they are called.
            validation_data: (x, y) or a loader, evaluated after every epoch.
            shuffle: draw a new order of the arrays for every pass.
            initial_epoch: number of the first epoch.
            steps_per_epoch: batches an epoch; None takes one pass.
            resume: a `Checkpoint` callback's folder; goes on from its newest checkpoint, with
                everything as it was then.

        Returns:
            The losses of every epoch.

        Raises:
            RuntimeError: the model is not compiled.
            ValueError: the data do not fit, or the checkpoint is of another model.
            FloatingPointError: a loss or gradient was not finite.
        """
        self._require_compiled()
        feed = _as_feed(x, y, batch_size, shuffle=shuffle)
        validation = None
        if isinstance(validation_data, tuple):
            validation = ArrayFeed(*validation_data, batch_size=batch_size, shuffle=False)
        elif validation_data is not None:
            validation = validation_data
        self.run = FitRun(
            self,
            feed,
            epochs=epochs,
            initial_epoch=initial_epoch,
            steps=steps_per_epoch or len(feed),
            callbacks=[*callbacks, *([ProgbarLogger()] if verbose else [])],
            validation=validation,
            verbose=verbose,
        )
        self.history = self.run.history
        if resume is not None:
            self.run.resume(resume)
        return self.run.run()

    def evaluate(
        self, x: PyTree = None, y: PyTree = None, batch_size: int = 32
    ) -> dict[str, float]:
        """Returns the mean losses over the data, by the EMA's weights where there are any."""
        self._require_compiled()
        return self.evaluate_feed(_as_feed(x, y, batch_size, shuffle=False))

    def evaluate_feed(self, feed: Feed) -> dict[str, float]:
        """Returns the mean losses over one pass of a feed."""
        return means(evaluate(self, feed))

    def predict(self, x: PyTree, batch_size: int = 32) -> np.ndarray | list[np.ndarray]:
        """Returns the outputs for arrays, by the EMA's weights where there are any.

        A scalar output is repeated for each row.
        """
        if not hasattr(self, "_predict"):
            self.graph.eval()
            self._predict_graph = nnx.graphdef(self.graph)
            self._predict = jax.jit(partial(predict_step, predict=self._outputs))
        feed = ArrayFeed(x, None, batch_size=batch_size, shuffle=False)
        stream, parts = feed.batches(), []
        for _ in range(len(feed)):
            inputs, _ = next(stream)
            rows = len(jax.tree.leaves(inputs)[0])
            outputs = jax.device_get(self._predict(self.state, inputs))
            parts.append([np.broadcast_to(o, (rows,)) if o.ndim == 0 else o for o in outputs])
        arrays = [np.concatenate(column) for column in zip(*parts, strict=True)]
        return arrays[0] if self.single_output else arrays

    def module(self, *, ema: bool = True) -> Graph:
        """Returns the graph as an NNX module in evaluation mode, holding the current weights.

        Args:
            ema: the averaged weights, where there are any.
        """
        state = jax.device_get(self.state)
        params = state.ema if ema and state.ema is not None else state.params
        self.graph.eval()
        return nnx.merge(nnx.graphdef(self.graph), params, state.batch_stats, self._rest, copy=True)

    def train_function(self, rows: int) -> Callable:
        """Returns the compiled train step for batches of so many rows."""
        body = partial(
            train_step,
            forward=self._forward,
            optimizer=self._optimizer,
            trainable=self._trainable,
            ema_decay=self._ema_decay,
        )
        return self._compiled("train", body, rows, donate=(0,))

    def evaluate_function(self, rows: int) -> Callable:
        """Returns the compiled evaluation step for batches of so many rows."""
        body = partial(evaluate_step, forward=self._forward)
        return self._compiled("evaluate", body, rows, donate=())

    def _compiled(self, kind: str, body: Callable, rows: int, donate: tuple[int, ...]) -> Callable:
        """Compiles a step once; rows that do not divide among the devices run on all of them."""
        shared = rows % len(self.parallel.devices) == 0
        if (kind, shared) not in self._steps:
            if shared:
                body = partial(body, axis_name=self.parallel.axis_name)
                step = self.parallel.compile(body, replicated=2, donate=donate)
            else:
                step = jax.jit(partial(body, axis_name=None), donate_argnums=donate)
            self._steps[kind, shared] = step
        return self._steps[kind, shared]

    def _forward(
        self,
        params: PyTree,
        batch_stats: PyTree,
        fed: Fed,
        keys: Array | None,
        *,
        training: bool,
        axis_name: str | None,
    ) -> Forwarded:
        """Runs graph and losses on this device's rows."""
        x, y = fed.x, fed.y
        if training and self._augment is not None:
            image, boxes, classes = self._augment(keys, x, y["boxes"], y["classes"])
            x, y = image, {"boxes": boxes, "classes": classes}
        graphdef = self._train_graph if training else self._eval_graph
        module = nnx.merge(graphdef, params, batch_stats, self._rest, copy=True)
        for norm in _batch_norms(module):
            norm.axis_name = axis_name if self._sync_batch_norm else None
        rows = jax.tree.leaves(x)[0].shape[0]
        outputs = module(_as_inputs(x, self.inputs), fed.row_mask)
        losses = self._row_losses(y, outputs, rows)
        weight = jnp.ones(rows) if fed.weight is None else fed.weight
        kept = jnp.ones(rows) if fed.row_mask is None else fed.row_mask.astype(jnp.float32)
        weight, count = weight * kept, kept.sum()
        sums = {
            name: (jnp.where(kept > 0, value * weight, 0).sum(), count)
            for name, value in losses.items()
        }
        total, _ = sums.pop("loss")
        return Forwarded(total, count, nnx.state(module, nnx.BatchStat), sums)

    def _outputs(self, params: PyTree, batch_stats: PyTree, x: PyTree) -> list[Array]:
        module = nnx.merge(self._predict_graph, params, batch_stats, self._rest, copy=True)
        return module(_as_inputs(x, self.inputs))

    def _row_losses(self, y: PyTree, outputs: list[Array], rows: int) -> dict[str, Array]:
        """Returns the loss of each row, and what else is logged."""
        if isinstance(self.loss, Joint):
            joint = self.loss.function(y, outputs)
            return {"loss": joint.total, **joint.terms}
        found = {}
        for name, loss in self._losses.items():
            index = [output.name for output in self.outputs].index(name)
            target = y[name] if isinstance(y, Mapping) else _as_list(y)[index]
            found[name] = row_losses(loss, target, outputs[index], rows)
        extra = {f"{name}_loss": value for name, value in found.items()} if len(found) > 1 else {}
        return {"loss": jnp.sum(jnp.stack(list(found.values())), axis=0), **extra}

    def _named_losses(self, loss: Loss) -> dict[str, LossFunction]:
        """Returns the losses by output name."""
        names = [output.name for output in self.outputs]
        match loss:
            case Joint():
                return {}
            case Mapping():
                unknown = sorted(set(loss) - set(names))
                if unknown:
                    raise ValueError(
                        f"Unknown entries in loss dictionary: {unknown}; the outputs are {names}"
                    )
                return dict(loss)
            case _ if callable(loss):
                return dict.fromkeys(names, loss)
        raise ValueError(f"a loss is a function, a dict or losses.Joint; found {loss!r}")

    def _find_log_names(self) -> tuple[str, ...]:
        """Returns the names that the step will sum, which a joint loss declares by example."""
        if isinstance(self.loss, Joint):
            return ("loss", *self.loss.names)
        extra = [f"{name}_loss" for name in self._losses] if len(self._losses) > 1 else []
        return ("loss", *extra)

    def _set_batch_norm(self, trainable: PyTree, sync: bool) -> None:
        """Remembers which batch normalisations are frozen: those whose scale is not trained."""
        self._sync_batch_norm = sync
        marks = nnx.merge(nnx.graphdef(self.graph), trainable, self.state.batch_stats, self._rest)
        self._frozen_norms = [not norm.scale.get_value() for norm in _batch_norms(marks)]

    def _freeze_batch_norm(self) -> None:
        for norm, is_frozen in zip(_batch_norms(self.graph), self._frozen_norms, strict=True):
            norm.use_running_average = is_frozen

    def _require_compiled(self) -> None:
        if self.loss is None:
            raise RuntimeError("You must compile the model before training or evaluating it.")


def _batch_norms(module: nnx.Module) -> list[BatchNorm]:
    """Returns a module's batch normalisations in a fixed order."""
    return [node for _, node in nnx.iter_graph(module) if isinstance(node, BatchNorm)]


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _as_inputs(x: PyTree, inputs: Sequence[SymbolicTensor]) -> list[Array]:
    """Returns one array for each input, in the inputs' order."""
    if isinstance(x, Mapping):
        missing = [tensor.name for tensor in inputs if tensor.name not in x]
        if missing:
            raise ValueError(f"No data provided for {missing}; x has {sorted(x)}")
        return [x[tensor.name] for tensor in inputs]
    arrays = _as_list(x)
    if len(arrays) != len(inputs):
        raise ValueError(f"the model has {len(inputs)} inputs; x has {len(arrays)} arrays")
    return arrays


def _as_feed(x: PyTree, y: PyTree, batch_size: int, *, shuffle: bool) -> Feed:
    if hasattr(x, "batches"):
        return x
    if x is None:
        raise ValueError("fit and evaluate need x: arrays or a loader")
    return ArrayFeed(x, y, batch_size=batch_size, shuffle=shuffle)
