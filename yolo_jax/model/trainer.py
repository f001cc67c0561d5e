"""Training a model: `compile`, `fit`, `evaluate`."""

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import optax

from yolo_jax.core.caller import renamed, warn_caller
from yolo_jax.model import saved_run
from yolo_jax.model.arrays import split, standardize
from yolo_jax.model.augmenting import Transform, Transforms
from yolo_jax.model.callbacks import Callback, CallbackList, ProgbarLogger
from yolo_jax.model.compile_arguments import (
    Loss,
    build_objective,
    check_target_tensors,
    output_names,
)
from yolo_jax.model.compiled import Compiled
from yolo_jax.model.data import Reading, as_feed, check_has_steps, is_to_be_split, kind_of
from yolo_jax.model.evaluating import evaluate
from yolo_jax.model.fit import FitRun
from yolo_jax.model.history import History
from yolo_jax.model.optimizer import OptimizerView
from yolo_jax.model.own_data import own_inputs, with_targets
from yolo_jax.model.prediction import Predictor
from yolo_jax.model.refusals import OnNonfinite
from yolo_jax.model.sample_weights import temporal_outputs
from yolo_jax.model.signature import signature_of
from yolo_jax.model.validation import validation_of
from yolo_jax.training import keras_optimizers
from yolo_jax.training.parallel import Device, Parallel, Strategy
from yolo_jax.training.step import Sums

PyTree = Any


class Trainer(Predictor):
    """A model that can be trained.

    Attributes:
        history: of the last fit.
        fits: that were begun.
        stop_training: set by a callback, ends the fit after the batch.
        trial_names: of the trials that are trained together; none of a model that is one alone.
    """

    trial_names: tuple[str, ...] = ()

    def __init__(
        self, inputs: PyTree, outputs: PyTree, name: str | None = None, *, seed: int = 0
    ) -> None:
        super().__init__(inputs, outputs, name, seed=seed)
        self.history, self.fits = History(), 0
        self.compiled: Compiled | None = None
        self.stop_training = False
        self._optimizer: optax.GradientTransformation | None = None

    def compile(
        self,
        optimizer: optax.GradientTransformation | OptimizerView | str,
        loss: Loss = None,
        metrics: Any = None,
        loss_weights: Sequence[float] | Mapping[str, float] | None = None,
        sample_weight_mode: str | Sequence[str | None] | Mapping[str, str | None] | None = None,
        weighted_metrics: Any = None,
        target_tensors: Any = None,
        *,
        augment: Transform | Transforms | None = None,
        ema_decay: float | None = None,
        frozen: Iterable[str] = (),
        sync_batch_norm: bool = False,
        accumulate: int = 1,
        steps_per_execution: int | None = None,
        parallel: Strategy = "pmap",
        devices: Sequence[Device] | None = None,
    ) -> None:
        """Prepares training.

        Args:
            optimizer: an optax transformation, over the trainable parameters, a name, or
                `model.optimizer`. The same object compiled again keeps its count, its rate and the
                slots of the weights that stay trainable.
            loss: a function (y_true, y_pred), a name, a list, a dict by output name, or
                `losses.Joint`.
            metrics: a list for every output, a list of lists, or a dict; without sample weights.
            loss_weights: factors of the outputs' losses, as a list or dict.
            sample_weight_mode: 'temporal' for weights of (rows, steps); also by output.
            weighted_metrics: as metrics, with sample weights.
            target_tensors: arrays or a data source in place of y.
            augment: on the device, in training alone: (keys, image, boxes, classes) to the three,
                or `Transforms`.
            ema_decay: keep a moving average of the weights, used by evaluate and predict.
            frozen: patterns of parameter paths that are not trained (`*body/*`), beside the layers
                whose `trainable` is False; batch normalisation whose parameters are frozen uses
                its moving statistics.
            sync_batch_norm: normalise by the statistics of all devices' rows.
            accumulate: parts that each batch is taken in, one after the other: the same step with
                the memory of one part, except that batch normalisation sees the parts one by one.
            steps_per_execution: training steps that one call of the device takes; batch hooks run
                once for them all. None: as many as are small, where no callback has batch hooks
                (the progress bar has) and no generator makes the batches; else one. `Transforms`
                take one in any case, since the next step may have another augmentation.
            parallel: how devices share each batch: `pmap` maps the step over them, `jit` has a mesh
                of them, and `fsdp` keeps parameters and optimizer slots in shards on that mesh.
            devices: that do. None: that of `jax.default_device`, or else all, of all processes.

        Raises:
            TypeError: an argument is of no kind that is taken.
            ValueError: a name is no output's, a list has the wrong length, there is no loss,
                `frozen` matches nothing, there is no such `parallel`, or `accumulate` or
                `steps_per_execution` is no whole number above 0.
        """
        if isinstance(optimizer, OptimizerView):
            optimizer = optimizer.transformation
        transformation = keras_optimizers.get(optimizer)
        objective = build_objective(self.outputs, loss, metrics, loss_weights, weighted_metrics)
        names = output_names(self.outputs)
        check_target_tensors(target_tensors, objective)
        temporal = temporal_outputs(sample_weight_mode, names, self.outputs)
        signature = signature_of(self.inputs, self.outputs, names, objective, temporal)
        self.read_layers()
        chosen = Parallel.over(devices, parallel)
        # Of another strategy's shards each process gets the whole first.
        self.state = self.parallel.whole(self.state)
        self.parallel = chosen
        self.compiled = Compiled(
            self.graph,
            self._rest,
            objective,
            transformation,
            params=self.state.params,
            batch_stats=self.state.batch_stats,
            augment=augment,
            ema_decay=ema_decay,
            frozen=frozen,
            sync_batch_norm=sync_batch_norm,
            accumulate=accumulate,
            steps_per_execution=steps_per_execution,
            parallel=self.parallel,
        )
        again = transformation is self._optimizer
        self.state = self.compiled.start(self.state, keep_slots=again)
        self._optimizer = transformation
        self._mark_written()
        self.signature = signature
        self._target_tensors = target_tensors
        self._batch_sums: Sums | None = None

    @property
    def optimizer(self) -> OptimizerView:
        """Returns the optimizer: its learning rate `lr`, readable and settable while training."""
        self.require_compiled()
        assert self._optimizer is not None
        return OptimizerView(self, self._optimizer)

    @property
    def metrics_names(self) -> list[str]:
        """Returns the names of what `evaluate` returns, in its order."""
        return list(self.require_compiled().objective.log_names)

    def fit(
        self,
        x: PyTree = None,
        y: PyTree = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: int = 1,
        callbacks: Sequence[Callback] | None = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool | Literal["batch"] = True,
        class_weight: Any = None,
        sample_weight: PyTree = None,
        initial_epoch: int = 0,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_freq: int | Sequence[int] = 1,
        max_queue_size: int = 10,
        workers: int = 1,
        use_multiprocessing: bool = False,
        *,
        resume: Path | str | None = None,
        strict: bool = False,
        on_nonfinite: OnNonfinite = "continue",
        nb_epoch: int | None = None,
    ) -> History:
        """Trains from epoch `initial_epoch` up to, and not including, epoch `epochs`.

        Args:
            x: arrays (one, a list, or a dict by input name), a generator, a `Sequence`, a data
                source, or a loader of batches; None takes what the inputs bring with them.
            y: targets, when x is arrays.
            batch_size: rows a batch; None: 32.
            epochs: number of the last epoch, not a count.
            verbose: 0 for silence, 1 for a bar, 2 for a line an epoch.
            callbacks: in the order in which they are called.
            validation_split: share of the arrays' last rows that is evaluated, not trained on.
            validation_data: (x, y), (x, y, sample_weight), or a generator, Sequence or loader.
            shuffle: draw a new order of rows for every fit and pass; 'batch': of whole batches.
            class_weight: weight by class id; by output name where there are several.
            sample_weight: weight of each row, or of each row and step.
            initial_epoch: number of the first epoch.
            steps_per_epoch: batches an epoch; None takes one pass.
            validation_steps: batches of an evaluation; None takes one pass.
            validation_freq: epochs between evaluations, or a list of epochs (from 1).
            max_queue_size: batches that workers build ahead.
            workers: that build batches; 0: none beside the main thread.
            use_multiprocessing: processes rather than threads.
            resume: a `Checkpoint` callback's folder; goes on from its newest checkpoint, all as it
                was then, its epoch for `initial_epoch`; where it has none, from `initial_epoch`.
            strict: numbers in the data that are not finite are an error.
            on_nonfinite: after an update that was refused as its loss or gradient is not finite:
                `stop` raises; `skip` warns, and raises after an epoch of none else; else a warning.
            nb_epoch: the old name of `epochs`.

        Returns:
            Losses and metrics of every epoch.

        Raises:
            RuntimeError: the model is not compiled.
            TypeError: `resume` is no path.
            ValueError: the data do not fit, or the checkpoint is of another model or stands
                before `initial_epoch`.
            FloatingPointError: see `on_nonfinite`.
        """
        self.warn_if_frozen_since()
        self.read_layers()
        epochs = renamed("nb_epoch", nb_epoch, "epochs", epochs)
        reading = Reading(workers, use_multiprocessing, max_queue_size)
        is_own = x is None
        x, y = self._or_own(x, y)
        if is_to_be_split(x, validation_split) and validation_data is None:
            arrays = standardize(self.signature, x, y, sample_weight)
            (x, y, sample_weight), validation_data = split(arrays, validation_split)
        feed = as_feed(
            self.signature, x, y, sample_weight, batch_size=batch_size, class_weight=class_weight,
            shuffle=shuffle, seed=self.seed, reading=reading, strict=strict, steps=steps_per_epoch,
            parallel=self.parallel, parts=self.require_compiled().accumulate,
        )  # fmt: skip
        if is_own and feed.steps is None and steps_per_epoch is None:
            steps_per_epoch = 1
        check_has_steps(feed, steps_per_epoch, "steps_per_epoch")
        validation = validation_of(
            self.signature, validation_data, steps=validation_steps, freq=validation_freq,
            batch_size=batch_size, reading=reading, strict=strict, parallel=self.parallel,
            by_steps=steps_per_epoch is not None or kind_of(x) != "arrays",
        )  # fmt: skip
        self.run = FitRun(
            self, feed, epochs=epochs, initial_epoch=initial_epoch, steps=steps_per_epoch,
            callbacks=[*CallbackList(callbacks or ()), *([ProgbarLogger()] if verbose else [])],
            validation=validation, verbose=verbose, on_nonfinite=on_nonfinite,
        )  # fmt: skip
        self.history = self.run.history
        if resume is not None:
            if not isinstance(resume, str | PathLike):
                raise TypeError(f"resume is the folder of a Checkpoint callback; found {resume!r}")
            saved_run.resume(self.run, resume)
        return self.run.run()

    def evaluate(
        self,
        x: PyTree = None,
        y: PyTree = None,
        batch_size: int | None = None,
        verbose: int = 0,
        sample_weight: PyTree = None,
        steps: int | None = None,
        callbacks: Sequence[Callback] | None = None,
        max_queue_size: int = 10,
        workers: int = 1,
        use_multiprocessing: bool = False,
        *,
        return_dict: bool = False,
    ) -> float | list[float] | dict[str, float]:
        """Returns loss and metrics over the data, by the EMA's weights where there are any.

        Returns:
            The loss alone where nothing else is measured, else a list in the order of
            `metrics_names`; a dict with `return_dict`.
        """
        self.require_compiled()
        self.read_layers()
        x, y = self._or_own(x, y)
        reading = Reading(workers, use_multiprocessing, max_queue_size)
        feed = as_feed(
            self.signature, x, y, sample_weight, batch_size=batch_size, reading=reading,
            steps=steps, parallel=self.parallel,
        )  # fmt: skip
        check_has_steps(feed, steps, "steps")
        found = evaluate(
            self, feed.batches(), steps or feed.steps, self._called(callbacks, feed, steps, verbose)
        )
        feed.end_pass()
        return self._returned(found, return_dict)

    def average_weights(self, decay: float) -> None:
        """Keeps a moving average of the weights from the next step on; see `compile`'s ema_decay.

        Raises:
            RuntimeError: the model is not compiled.
        """
        self.state = self.require_compiled().average_weights(self.state, decay)

    def require_compiled(self) -> Compiled:
        """Returns what `compile` made.

        Raises:
            RuntimeError: it was not called.
        """
        if self.compiled is None:
            raise RuntimeError("You must compile the model before training or evaluating it.")
        return self.compiled

    def warn_if_frozen_since(self) -> None:
        """Warns, before training, of a layer's `trainable` that was set after `compile`."""
        frozen = sum(not layer.trainable for layer in self.graph.keras_layers())
        if frozen != self.require_compiled().frozen_layers:
            warn_caller(
                "Discrepancy between trainable weights and collected trainable weights, did you "
                "set `layer.trainable` without calling `model.compile` after?"
            )

    def _or_own(self, x: PyTree, y: PyTree) -> tuple[PyTree, PyTree]:
        """Returns x and y, or in place of None what the inputs and `target_tensors` bring.

        Raises:
            ValueError: y is given, and `target_tensors` too.
        """
        if x is None:
            x = own_inputs(self.inputs)
        if self._target_tensors is None:
            return x, y
        if y is not None:
            raise ValueError(
                "y is given beside compile's target_tensors: leave y out, or compile without them"
            )
        if kind_of(x) in ("arrays", "source"):
            return with_targets(x, self._target_tensors, self.signature.trained)
        return x, y

    def _returned(
        self, found: dict[str, float], return_dict: bool
    ) -> float | list[float] | dict[str, float]:
        if return_dict:
            return found
        values = list(found.values())
        return values[0] if len(values) == 1 else values
