"""Trials that differ in numbers alone, trained in one program on the same batches.

A state has a leading axis of trials; a trial's numbers are arrays to the program, which serves all
of them. `fit` is the loop of every model.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array

from yolo_jax.model.augmenting import Transform
from yolo_jax.model.callbacks.each_trial import AT
from yolo_jax.model.compile_arguments import build_objective, output_names
from yolo_jax.model.compiled import Compiled
from yolo_jax.model.feed import pad_rows
from yolo_jax.model.losses import Joint
from yolo_jax.model.model import Model
from yolo_jax.model.objective import Objective
from yolo_jax.model.sample_weights import temporal_outputs
from yolo_jax.model.signature import signature_of
from yolo_jax.training.parallel import Device, Strategy
from yolo_jax.training.state import TrainState, with_optimizer
from yolo_jax.training.step import FAILURES, Fed, Sums, evaluate_step, train_step
from yolo_jax.training.trials import TrialAxis, trial_of, zeros_of_one

PyTree = Any
Numbers = Mapping[str, Any]


class Recipe(NamedTuple):
    """What a trial's numbers make of training.

    Attributes:
        optimizer: over the trainable parameters.
        loss: over all outputs.
        augment: on the device, in training alone.
        ema_decay: of the moving average of the weights, or None; the same one of both for all.
    """

    optimizer: optax.GradientTransformation
    loss: Joint
    augment: Transform | None = None
    ema_decay: Any = None


@dataclass(frozen=True)
class Trials:
    """Trials that one program trains.

    Attributes:
        names: of the trials, which their logs have: `loss@NAME`.
        numbers: arrays by name, each `[trials, …]`.
        recipe: makes a trial's training of its numbers, which are traced.

    Raises:
        ValueError: no trial, two of one name, a name with the @ of logs, or an array of another
            length.
    """

    names: tuple[str, ...]
    numbers: Numbers
    recipe: Callable[[Numbers], Recipe]

    def __post_init__(self) -> None:
        if not self.names or len(set(self.names)) < len(self.names):
            raise ValueError(f"trials have a name each, one at least; found {list(self.names)}")
        if marked := [name for name in self.names if AT in name]:
            raise ValueError(f"logs have {AT} before a trial's name; found {marked}")
        for name, values in self.numbers.items():
            if len(values) != len(self.names):
                raise ValueError(
                    f"the numbers {name!r} are {len(values)}; expected one for each of the "
                    f"{len(self.names)} trials"
                )


@dataclass(frozen=True)
class TrialsObjective(Objective):
    """An objective whose sums have a leading axis of trials.

    Attributes:
        names: of the trials.
    """

    names: tuple[str, ...] = ()

    def results(self, sums: Mapping[str, PyTree]) -> dict[str, float]:
        """Returns the means over the trials that are trained, then each trial's own numbers.

        Those of a trial that is trained no more are NaN.
        """
        found = [self._own(trial_of(sums, index)) for index in range(len(self.names))]
        trained = [own for own in found if np.isfinite(own.get("loss", 0))] or found
        means = {name: float(np.mean([own[name] for own in trained])) for name in found[0]}
        each = {
            f"{name}{AT}{trial}": value
            for trial, own in zip(self.names, found, strict=True)
            for name, value in own.items()
        }
        return means | each

    def _own(self, sums: Mapping[str, PyTree]) -> dict[str, float]:
        # Each of a joint loss's sums is a total and a count.
        empty = [name for name in self.log_names if name in sums and not sums[name][1]]
        return super().results(sums) | dict.fromkeys(empty, np.nan)


class CompiledTrials(Compiled):
    """The steps of trials, each compiled when it first runs.

    A trial whose update was refused is stepped no more. The arguments are those of `Compiled`.

    Args:
        trials: that are trained.
        parallel: the devices that share them out.
    """

    def __init__(self, *args: Any, trials: Trials, parallel: TrialAxis, **options: Any) -> None:
        super().__init__(*args, parallel=parallel, steps_per_execution=1, **options)
        self.objective = TrialsObjective(
            self.objective.outputs, self.objective.joint, names=trials.names
        )
        self._trials, self._axis = trials, parallel
        fill = parallel.size - len(trials.names)
        filled = {
            name: np.concatenate([values, np.repeat(values[-1:], fill, axis=0)])
            for name, values in trials.numbers.items()
        }
        self._numbers = parallel.place(filled)

    def begin(self, states: Sequence[TrainState]) -> TrainState:
        """Returns the state of all trials, each with fresh optimizer slots.

        Args:
            states: one for each trial.
        """
        averaged = self._ema_decay is not None
        begun = [with_optimizer(s, self.optimizer, self.trainable, ema=averaged) for s in states]
        return self._axis.stacked(begun)

    def steps_at_once(self, state: TrainState, fed: Fed) -> int:
        """Returns one: the host hands out a step for all trials."""
        return 1

    def zero_sums(self, state: TrainState, fed: Fed, *, training: bool) -> Sums:
        """Returns sums of nothing for every trial."""
        zeros = self._sums_of_nothing(zeros_of_one(state), fed, training=training)
        size = self._axis.size
        return self._axis.place(
            jax.tree.map(lambda zero: np.zeros((size, *zero.shape), zero.dtype), zeros)
        )

    def lower(
        self,
        state: TrainState,
        sums: Sums,
        fed: Fed,
        devices: Sequence[Device],
        strategy: Strategy = "jit",
    ) -> jax.stages.Lowered:
        """Lowers the training step, by shapes alone, for devices that need not be here.

        Args:
            state: of as many trials as divide among the devices.
            sums: of `zero_sums`.
            fed: a batch.
            devices: that share the trials out.
            strategy: without effect: trials are shared out over a mesh.
        """
        axis = TrialAxis(tuple(devices), "jit", self._axis.trials)
        arguments = axis.described((self._numbers, state, sums))
        if len(devices) == 1:
            fed = axis.described(fed)
        return self._compiled("train", self.accumulate, axis).lower(*arguments, fed)

    def _step(
        self, kind: str, replicated: tuple, fed: Fed, augment: Transform | None
    ) -> tuple[Callable, Fed]:
        parts = self.accumulate if kind == "train" else 1
        key = (kind, True, None)
        if key not in self._steps:
            self._steps[key] = partial(self._compiled(kind, parts, self._axis), self._numbers)
        return self._steps[key], pad_rows(fed, parts)

    def _compiled(self, kind: str, parts: int, axis: TrialAxis) -> Any:
        if kind == "train":
            return axis.compile_each(partial(self._train_one, parts=parts), trains=True)
        step = axis.compile_each(self._evaluate_one, trains=False)
        return lambda *arguments: step(*arguments)[0]

    def _train_one(
        self, numbers: Numbers, state: TrainState, sums: Sums, fed: Fed, *, parts: int
    ) -> tuple[TrainState, Sums]:
        recipe, halted = self._trials.recipe(numbers), state.failure[0] >= 0
        stepped, added = train_step(
            state,
            sums,
            fed,
            forward=self._forward_of(recipe),
            optimizer=optax.with_extra_args_support(recipe.optimizer),
            trainable=self.trainable,
            ema_decay=recipe.ema_decay,
            accumulate=parts,
            parallel=self._axis.single,
            halted=halted,
        )
        # An epoch in which an update was refused has no sums: they would be of a part of it.
        refused = ~halted & (stepped.failure[0] >= 0)
        return stepped, _unless(halted, sums, jax.tree.map(partial(_nan_where, refused), added))

    def _evaluate_one(
        self, numbers: Numbers, state: TrainState, sums: Sums, fed: Fed
    ) -> tuple[Sums]:
        recipe = self._trials.recipe(numbers)._replace(augment=None)
        forward, halted = self._forward_of(recipe), state.failure[0] >= 0
        added = evaluate_step(state, sums, fed, forward=forward, parallel=self._axis.single)
        return (_unless(halted, sums, added),)

    def _forward_of(self, recipe: Recipe) -> Any:
        objective = Objective(self.objective.outputs, recipe.loss)
        return partial(self.forward.with_objective(objective), augment=recipe.augment)


def _unless(halted: Array, sums: Sums, added: Sums) -> Sums:
    """Returns the sums as they were for a trial that is trained no more."""
    return jax.tree.map(lambda old, new: jnp.where(halted, old, new), sums, added)


def _nan_where(refused: Array, leaf: Array) -> Array:
    """Returns a sum, NaN where the step that it ends with was refused."""
    is_float = jnp.issubdtype(leaf.dtype, jnp.floating)
    return jnp.where(refused, jnp.nan, leaf).astype(leaf.dtype) if is_float else leaf


class TrialsModel(Model):
    """The trials of a model.

    Its layers hold the starting weights throughout: a trial's own are in its state.

    Args:
        model: whose graph they have.
        starts: of the trials: parameters, statistics and seed each; see `state.create_state`.
    """

    def __init__(self, model: Model, starts: Sequence[TrainState]) -> None:
        self._starts: Sequence[TrainState] | None = starts
        super().__init__(model.inputs, model.outputs, model.name, seed=model.seed)

    def compile_trials(
        self,
        trials: Trials,
        *,
        frozen: Iterable[str] = (),
        accumulate: int = 1,
        devices: Sequence[Device] | None = None,
    ) -> None:
        """Prepares training; what was trained before goes on.

        Args:
            trials: as many as there are starts.
            frozen: patterns of parameter paths that are not trained.
            accumulate: parts that each batch is taken in.
            devices: that share the trials out; None takes all there are.

        Raises:
            ValueError: there are more or fewer trials than starts; or see `compile`.
        """
        states = self._starts or [self.trial(i) for i in range(len(self.trial_names))]
        if len(states) != len(trials.names):
            raise ValueError(f"{len(trials.names)} trials for {len(states)} starting states")
        first = {name: values[0] for name, values in trials.numbers.items()}
        recipe, names = trials.recipe(first), output_names(self.outputs)
        objective = build_objective(self.outputs, recipe.loss, None, None, None)
        temporal = temporal_outputs(None, names, self.outputs)
        self.signature = signature_of(self.inputs, self.outputs, names, objective, temporal)
        axis = TrialAxis.of(len(trials.names), devices)
        self.compiled: Any = CompiledTrials(
            self.graph,
            self._rest,
            objective,
            recipe.optimizer,
            params=states[0].params,
            batch_stats=states[0].batch_stats,
            augment=recipe.augment,
            ema_decay=recipe.ema_decay,
            frozen=frozen,
            sync_batch_norm=False,
            accumulate=accumulate,
            trials=trials,
            parallel=axis,
        )
        self.state, self.parallel, self._starts = self.compiled.begin(states), axis, None
        self.trial_names, self._optimizer = trials.names, recipe.optimizer
        self._target_tensors, self._batch_sums = None, None

    def trial(self, index: int) -> TrainState:
        """Returns a trial's state, on the host."""
        return trial_of(self.state, index)

    def failure_of(self, index: int) -> tuple[int, str] | None:
        """Returns the step at which a trial was frozen, and what was not finite; or None."""
        step, term, _ = map(int, np.asarray(self.state.failure)[index])
        return None if step < 0 else (step, FAILURES[term])

    def read_layers(self) -> None:
        """Does nothing: the layers are of no trial."""

    def write_back(self) -> None:
        """Does nothing."""

    def refresh_layers(self) -> None:
        """Does nothing."""

    def take_changes(self) -> None:
        """Does nothing."""
