"""Shares trials out over devices: each device walks its own ones, all on the same batches.

Every array of a state has a leading axis of trials, which lies along the mesh. No device waits for
another: there is not one collective in a step. On one CPU each trial has arrays of its own (`Each`)
instead, and the host walks them with the program of one: within XLA's loop a step of a tiny
detector with Adam took 2.2 times as long there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from yolo_jax.training.parallel import Device, Parallel
from yolo_jax.training.state import TrainState, copied

PyTree = Any
AXIS = "trials"


@jax.tree_util.register_pytree_node_class
class Each(tuple):
    """An array of each trial, in the place of one with an axis of trials."""

    def tree_flatten(self) -> tuple[tuple, None]:
        """Returns the arrays."""
        return tuple(self), None

    @classmethod
    def tree_unflatten(cls, _: None, children: Sequence[Any]) -> "Each":
        """Undoes `tree_flatten`."""
        return cls(children)


def _map(function: Callable[..., Any], *trees: PyTree) -> PyTree:
    """Maps over what has all trials: arrays with an axis of them, or `Each`."""
    return jax.tree.map(function, *trees, is_leaf=lambda leaf: isinstance(leaf, Each))


def trial_of(tree: PyTree, index: int) -> PyTree:
    """Returns one trial's arrays, on the host."""
    return _map(lambda leaf: np.asarray(leaf[index]), tree)


def zeros_of_one(tree: PyTree) -> PyTree:
    """Returns zeros of the shapes that one trial's arrays have."""
    return _map(lambda leaf: np.zeros(leaf[0].shape, leaf[0].dtype), tree)


@dataclass(frozen=True)
class TrialAxis(Parallel):
    """The devices that share out trials, and get the whole of every batch.

    Attributes:
        trials: that there are; the axis is filled up to a multiple of the devices by ones that are
            never stepped.
    """

    trials: int = 1

    @classmethod
    def of(cls, trials: int, devices: Sequence[Device] | None = None) -> "TrialAxis":
        """Returns the axis over the given devices, or over as many of all as have a trial.

        Raises:
            TypeError: they are no list of devices.
            ValueError: this process has none of the devices.
        """
        found = Parallel.over(devices, "jit").devices
        return cls(found[:trials], "jit", trials)

    @property
    def size(self) -> int:
        """Length of the axis."""
        return -(-self.trials // len(self.devices)) * len(self.devices)

    @property
    def axis_name(self) -> str | None:
        """None: a trial's rows all lie on its device."""
        return None

    @property
    def processes(self) -> int:
        """One, as far as rows go: each process gets all of a batch."""
        return 1

    @property
    def process(self) -> tuple[int, int]:
        """The first of one, as far as rows go."""
        return 0, 1

    @property
    def single(self) -> Parallel:
        """One device, on which a trial runs as if it were alone."""
        return Parallel(self.devices[:1])

    @cached_property
    def _mesh(self) -> Mesh:
        return Mesh(np.asarray(self.devices), (AXIS,))

    def _placed(self, spec: PartitionSpec) -> Any:
        if len(self.devices) == 1:
            return SingleDeviceSharding(self.devices[0])
        return NamedSharding(self._mesh, spec)

    def placements(self, tree: PyTree) -> PyTree:
        """Returns where each array, of a leading axis of trials, belongs."""
        return jax.tree.map(lambda _: self._placed(PartitionSpec(AXIS)), tree)

    @property
    def by_host(self) -> bool:
        """Tells whether the host walks the trials."""
        return len(self.devices) == 1 and self.devices[0].platform == "cpu"

    def place(self, tree: PyTree) -> PyTree:
        """Puts arrays of a leading axis of trials where the steps take them."""
        if self.by_host:
            tree = _map(lambda leaf: leaf if isinstance(leaf, Each) else Each(leaf), tree)
        return jax.device_put(tree, self.placements(tree))

    def place_batch(self, batch: PyTree) -> PyTree:
        """Puts a batch on all devices ahead of its step."""
        return jax.device_put(batch, self._placed(PartitionSpec()))

    def _globally(self, batch: PyTree, axis: int) -> PyTree:
        where = self._placed(PartitionSpec())
        if not self.local:
            return jax.tree.map(
                lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=where), batch
            )
        return jax.device_put(batch, where)

    def stacked(self, states: Sequence[TrainState]) -> TrainState:
        """Returns the states of all trials as one, on the devices.

        Args:
            states: one for each trial.
        """
        # Of those that fill up, an update was refused already: they are not stepped.
        frozen = states[-1]._replace(failure=np.zeros(3, np.int32))
        states = [*states, *[frozen] * (self.size - self.trials)]
        if self.by_host:
            # Copies: a step takes a trial's own arrays over, which others may start with too.
            return self.place(copied(jax.tree.map(lambda *leaves: Each(leaves), *states)))
        return self.place(jax.tree.map(lambda *leaves: np.stack(leaves), *map(_on_host, states)))

    def lifted(self, tree: PyTree) -> PyTree:
        """Returns a state for saving: without those that fill up, as other devices need others."""
        if self.by_host:
            return _map(np.stack, tree)
        if self.size == self.trials:
            return tree
        return jax.tree.map(lambda leaf: leaf[: self.trials], tree)

    def lowered(self, tree: PyTree) -> PyTree:
        """Undoes `lifted`."""
        if self.size == self.trials:
            return tree
        return self.stacked([trial_of(tree, index) for index in range(self.trials)])

    def described(self, tree: PyTree) -> PyTree:
        """Returns shapes in the place of arrays, for steps on devices that need not be here."""
        where = self._placed(PartitionSpec(AXIS))

        def shape(leaf: Any) -> jax.ShapeDtypeStruct:
            one = leaf[0]
            return jax.ShapeDtypeStruct((self.size, *one.shape), one.dtype, sharding=where)

        return _map(shape, tree)

    def compile_each(self, one: Callable[..., tuple], *, trains: bool) -> Callable[..., tuple]:
        """Compiles a step of all trials.

        Args:
            one: takes a trial's numbers, its state, its sums and the batch; returns the state and
                the sums after it, or a tuple of the sums where it only evaluates.
            trains: it returns the state, to which the old one's memory may go.
        """
        donate = (1,) if trains else ()
        if not self.by_host:
            walk = partial(self._walk, one, trains)
            if len(self.devices) > 1:
                trials = PartitionSpec(AXIS)
                walk = jax.shard_map(
                    walk,
                    mesh=self._mesh,
                    in_specs=(trials, trials, trials, PartitionSpec()),
                    out_specs=trials,
                    check_vma=False,  # nothing is shared but the batch, which nobody writes
                )
            return self.compile(walk, replicated=3, donate=donate)
        step = self.single.compile(one, replicated=3, donate=donate)

        def by_host(numbers: PyTree, state: TrainState, sums: PyTree, batch: PyTree) -> tuple:
            trees = (numbers, state, sums)
            found = [step(*_taken(trees, place), batch) for place in range(self.trials)]
            return jax.tree.map(lambda *leaves: Each(leaves), *found)

        return by_host

    def _walk(
        self,
        one: Callable[..., tuple],
        trains: bool,
        numbers: PyTree,
        state: TrainState,
        sums: PyTree,
        batch: PyTree,
    ) -> tuple:
        """Steps the trials of this device, one after the other."""

        def step(index: jax.Array, changing: tuple) -> tuple:
            # In the place of `lax.map`, whose results would need a second set of states.
            trees = (numbers, *changing) if trains else (numbers, state, *changing)
            stepped = one(*_taken(trees, index), batch)
            return jax.tree.map(lambda a, new: a.at[index].set(new), changing, stepped)

        changing = (state, sums) if trains else (sums,)
        count = self.size // len(self.devices)
        if count == 1:
            return step(jnp.int32(0), changing)
        return lax.fori_loop(0, count, step, changing)


def _taken(trees: PyTree, index: Any) -> PyTree:
    """Returns one trial's arrays."""
    return _map(lambda leaf: leaf[index], trees)


def _on_host(tree: PyTree) -> PyTree:
    return jax.tree.map(np.asarray, tree)
