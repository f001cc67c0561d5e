"""What `compile` makes of a model: its losses by row, and its steps over the devices."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
import optax
from jaxtyping import Array

from yolo_jax.core.caller import warn_caller
from yolo_jax.core.numbers import whole_number
from yolo_jax.model.augmenting import Transform, Transforms
from yolo_jax.model.dependence import shapes_where_trained
from yolo_jax.model.feed import pad_rows, stack
from yolo_jax.model.forward import GraphForward
from yolo_jax.model.freezing import trained_parameters
from yolo_jax.model.graph import Graph
from yolo_jax.model.objective import Objective
from yolo_jax.model.optimizer import kept_slots
from yolo_jax.training.compiled_step import Step
from yolo_jax.training.parallel import Device, Parallel, Strategy
from yolo_jax.training.state import TrainState, combine, copied, partition, with_optimizer
from yolo_jax.training.step import (
    Fed,
    Sums,
    evaluate_step,
    example_keys,
    in_turn,
    row_count,
    train_step,
)

PyTree = Any
# What one call may take of small steps, where `compile` was not told: so few that it is over in
# some hundredths of a second, lest hooks of epochs, Ctrl-C and memory wait for it.
_STEPS_AT_ONCE, _MULTIPLICATIONS_AT_ONCE, _BYTES_AT_ONCE = 64, 10**8, 4 * 2**20


class Compiled:
    """A model's steps, each compiled when it first runs.

    Args:
        graph: of the model.
        rest: what the graph holds beside parameters and statistics.
        objective: what is minimised and measured.
        optimizer: an optax transformation, over the trainable parameters.
        params: the model's, for their paths.
        batch_stats: the model's.
        augment: on the device, in training alone; each of several is one more executable.
        ema_decay: of the moving average of the weights, or None.
        frozen: patterns of parameter paths that are not trained.
        sync_batch_norm: normalise by the statistics of all devices' rows.
        accumulate: parts that a training batch is taken in, one after the other.
        steps_per_execution: training steps that one call takes; None: as many as are small.
        parallel: the devices.

    Raises:
        ValueError: `frozen` matches nothing, or leaves nothing to train; or `ema_decay`,
            `accumulate` or `steps_per_execution` is none.
    """

    def __init__(
        self,
        graph: Graph,
        rest: PyTree,
        objective: Objective,
        optimizer: optax.GradientTransformation,
        *,
        params: PyTree,
        batch_stats: PyTree,
        augment: Transform | Transforms | None,
        ema_decay: float | None,
        frozen: Iterable[str],
        sync_batch_norm: bool,
        accumulate: int,
        steps_per_execution: int | None,
        parallel: Parallel,
    ) -> None:
        if ema_decay is not None and not 0 <= ema_decay < 1:
            raise ValueError(f"ema_decay is from 0 to below 1, or None; found {ema_decay}")
        self.objective, self.parallel = objective, parallel
        self.optimizer = optax.with_extra_args_support(optimizer)
        self.trainable = trained_parameters(graph, params, frozen)
        self.frozen_layers = sum(not layer.trainable for layer in graph.keras_layers())
        self._augment, self._ema_decay = augment, ema_decay
        self.accumulate = whole_number("accumulate", accumulate, 1)
        if steps_per_execution is not None:
            whole_number("steps_per_execution (or None)", steps_per_execution, 1)
        self.steps_per_execution = steps_per_execution
        self.forward = GraphForward(
            graph,
            rest,
            objective,
            trainable=self.trainable,
            batch_stats=batch_stats,
            sync_batch_norm=sync_batch_norm,
            accumulate=self.accumulate,
        )
        self._steps: dict[tuple[str, bool, Transform | None], Callable] = {}
        self._zeros: dict[bool, Sums] = {}
        self._row_work = 0.0  # multiplications; known once training has its zeros

    def start(self, state: TrainState, *, keep_slots: bool = False) -> TrainState:
        """Returns the state on the devices, with new optimizer slots or those that still fit."""
        slots = state.opt_state
        state = with_optimizer(
            state, self.optimizer, self.trainable, ema=self._ema_decay is not None
        )
        if keep_slots:
            state = state._replace(opt_state=kept_slots(slots, state.opt_state))
        return self.parallel.place(state)

    def average_weights(self, state: TrainState, decay: float) -> TrainState:
        """Keeps an average of the weights from the next step on, started where there is none."""
        if decay != self._ema_decay:
            self._ema_decay = decay
            self._steps.clear()
        if state.ema is not None:
            return state
        return state._replace(ema=copied(state.params))

    def train(
        self, state: TrainState, sums: Sums, feds: Sequence[Fed], step: int = 0, room: int = 1
    ) -> tuple[TrainState, Sums]:
        """Takes a step for each batch, in one call where its program has room for several.

        Args:
            state: donated.
            sums: so far.
            feds: batches of the same shapes, no more than there is room for.
            step: number of the first; picks one of several augmentations.
            room: batches that the program takes; fewer are filled up, and it stops before those.
        """
        one, _ = self._step("train", (state, sums), feds[0], self.augment_at(step))
        if room == 1 or not isinstance(one, Step):  # the devices do not share these rows
            for number, fed in enumerate(feds, step):
                augment = self.augment_at(number)
                state, sums = self._run("train", (state, sums), fed, augment)
            return state, sums
        multiple = self.accumulate * len(self.parallel.local)
        stacked = stack([pad_rows(fed, multiple) for fed in feds], room)
        return self._steps_in_turn(self.augment_at(step))(state, sums, np.int32(len(feds)), stacked)

    def steps_at_once(self, state: TrainState, fed: Fed) -> int:
        """Returns how many steps one call takes: as compile was told, or as many as are small.

        A call costs the host some tenths of a millisecond, which only small steps feel. The choice
        depends on shapes alone, never on a clock: a step's numbers may differ by rounding.
        """
        if isinstance(self._augment, Transforms):
            return 1
        if self.steps_per_execution is not None:
            return self.steps_per_execution
        self.zero_sums(state, fed, training=True)
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(fed))
        by_work = _MULTIPLICATIONS_AT_ONCE // max(self._row_work * row_count(fed), 1)
        return max(1, min(_STEPS_AT_ONCE, _BYTES_AT_ONCE // max(size, 1), int(by_work)))

    def compile_ahead(self, state: TrainState, sums: Sums, fed: Fed) -> None:
        """Compiles the training step of each of several augmentations, before the first is due."""
        if isinstance(self._augment, Transforms):
            for augment in self._augment.transforms:
                step, batch = self._step("train", (state, sums), fed, augment)
                if isinstance(step, Step):
                    step.compile_ahead(state, sums, batch)

    def lower(
        self,
        state: TrainState,
        sums: Sums,
        fed: Fed,
        devices: Sequence[Device],
        strategy: Strategy = "pmap",
    ) -> jax.stages.Lowered:
        """Lowers the training step, by shapes alone, for devices that need not be here."""
        parallel = Parallel(tuple(devices), strategy)
        body = self._body("train", self.augment_at(0), self.accumulate, parallel)
        step = parallel.compile(body, replicated=2, donate=(0,))
        if len(devices) == 1 or parallel.by_mesh:
            state, sums = parallel.described((state, sums))
        if len(devices) == 1:
            fed = parallel.described(fed)
        return step.lower(state, sums, fed)

    def look(self, state: TrainState, fed: Fed, step: int = 0) -> tuple[dict[str, float], PyTree]:
        """Returns a training batch's losses by name and its gradients, on one device.

        Args:
            state: left as it is.
            fed: the whole batch.
            step: its number; picks one of several augmentations.
        """
        keys = example_keys(state.key, state.step, row_count(fed), None)
        chosen, frozen = partition(state.params, self.trainable)

        @jax.jit
        @partial(jax.grad, has_aux=True)
        def gradient(chosen: PyTree, frozen: PyTree, fed: Fed, keys: Array) -> tuple[Array, Sums]:
            out = self.forward(
                combine(chosen, frozen), state.batch_stats, fed, keys, training=True,
                axis_name=None, augment=self.augment_at(step),
            )  # fmt: skip
            return out.loss, out.sums

        gradients, sums = gradient(chosen, frozen, fed, keys)
        return self.objective.results(jax.device_get(sums)), gradients

    def evaluate(self, state: TrainState, sums: Sums, fed: Fed) -> Sums:
        """Adds a batch's losses to the sums."""
        return self._run("evaluate", (state, sums), fed, None)

    def augment_at(self, step: int) -> Transform | None:
        """Returns the augmentation of a training step, if there is one."""
        return self._augment.at(step) if isinstance(self._augment, Transforms) else self._augment

    def zero_sums(self, state: TrainState, fed: Fed, *, training: bool) -> Sums:
        """Returns sums of nothing, in the structure that a batch like this one adds to.

        Raises:
            ValueError: in training, if the loss depends on nothing that is trained.
        """
        return self.parallel.place(self._sums_of_nothing(state, fed, training=training))

    def _sums_of_nothing(self, state: TrainState, fed: Fed, *, training: bool) -> Sums:
        if training not in self._zeros:
            chosen, frozen = partition(state.params, self.trainable)

            def forward(chosen: PyTree, state: TrainState, fed: Fed) -> tuple[Array, Sums]:
                keys = example_keys(state.key, state.step, row_count(fed), None)
                augment = self.augment_at(0) if training else None
                out = self.forward(
                    combine(chosen, frozen), state.batch_stats, fed, keys, training=training,
                    axis_name=None, augment=augment,
                )  # fmt: skip
                return out.loss, out.sums

            if training:
                found, work = shapes_where_trained(forward, chosen, state, fed)
                self._row_work = work / row_count(fed)
            else:
                found = jax.eval_shape(forward, chosen, state, fed)[1]
            zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), found)
            self._zeros[training] = zeros
        return self._zeros[training]

    def _run(self, kind: str, replicated: tuple, fed: Fed, augment: Transform | None) -> PyTree:
        """Runs a step on a batch, whose rows the devices share."""
        step, batch = self._step(kind, replicated, fed, augment)
        return step(*replicated, batch)

    def _step(
        self, kind: str, replicated: tuple, fed: Fed, augment: Transform | None
    ) -> tuple[Callable, Fed]:
        """Returns the step for a batch, and the batch as it takes it.

        Rows that do not divide are filled up; where padding would spoil a loss that is one number
        for the batch, every device computes the whole batch instead, in one part.

        Raises:
            ValueError: several processes were to do so, each of which has a share of the rows.
        """
        parts = self.accumulate if kind == "train" else 1
        padded = pad_rows(fed, parts * len(self.parallel.local))
        is_filled = padded is not fed
        if self.parallel.processes > 1:
            is_filled = is_filled or not (fed.row_mask is None or np.all(fed.row_mask))
        shared = not is_filled or not self.forward.has_scalar_loss(replicated[0], padded, augment)
        if not shared and self.parallel.processes > 1:
            raise ValueError(
                "a batch's rows do not divide among the devices of "
                f"{self.parallel.processes} processes, and its loss is one number for the batch, "
                "which rows that only fill it up would change: give batches of a multiple of "
                f"{parts * len(self.parallel.devices)} rows, or a loss by row"
            )
        key = (kind, shared, augment)
        if key not in self._steps:
            donate = (0,) if kind == "train" else ()
            if shared:
                body = self._body(kind, augment, parts, self.parallel)
                step = self.parallel.compile(body, replicated=2, donate=donate)
            else:
                if parts > 1:
                    self._warn_of_whole_batch(row_count(fed))
                body = self._body(kind, augment, 1, Parallel(self.parallel.devices[:1]))
                step = jax.jit(self._kept_in_place(body), donate_argnums=donate)
            self._steps[key] = step
        return self._steps[key], padded if shared else fed

    def _kept_in_place(self, body: Callable) -> Callable:
        def step(*args: PyTree) -> PyTree:
            return self.parallel.kept_in_place(body(*args))

        return step

    def _steps_in_turn(self, augment: Transform | None) -> Callable:
        """Returns the training steps of several batches as one."""
        key = ("train in turn", True, augment)
        if key not in self._steps:
            one = self._body("train", augment, self.accumulate, self.parallel)
            self._steps[key] = self.parallel.compile(
                in_turn(one), replicated=3, donate=(0,), stacked=True
            )
        return self._steps[key]

    def _warn_of_whole_batch(self, rows: int) -> None:
        devices = len(self.parallel.devices)
        warn_caller(
            f"compile(accumulate={self.accumulate}): a batch of {rows} rows is taken whole, with "
            "the memory of that. Its loss is one number for the batch, which rows that only fill "
            f"it up would change: give batches of a multiple of {self.accumulate * devices} rows "
            f"(accumulate × {devices} devices), or a loss by row"
        )

    def _body(
        self, kind: str, augment: Transform | None, parts: int, parallel: Parallel
    ) -> Callable:
        """Returns what a step of a kind computes."""
        forward = partial(self.forward, augment=augment)
        if kind == "evaluate":
            return partial(evaluate_step, forward=forward, parallel=parallel)
        return partial(
            train_step,
            forward=forward,
            optimizer=self.optimizer,
            trainable=self.trainable,
            ema_decay=self._ema_decay,
            accumulate=parts,
            parallel=parallel,
        )
