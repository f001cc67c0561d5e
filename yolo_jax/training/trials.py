"""Shares trials out over devices: each device walks its own ones, all on the same batches.

Every array of a state has a leading axis of trials, which lies along the mesh. No device waits for
another: there is not one collective in a step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from yolo_jax.training.parallel import Device, Parallel
from yolo_jax.training.state import TrainState

PyTree = Any
AXIS = "trials"


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

    def place(self, tree: PyTree) -> PyTree:
        """Puts arrays of a leading axis of trials where the steps take them."""
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
        frozen = states[-1]._replace(failure=np.zeros(2, np.int32))
        states = [*states, *[frozen] * (self.size - self.trials)]
        return self.place(jax.tree.map(lambda *leaves: np.stack(leaves), *map(_on_host, states)))

    def lifted(self, tree: PyTree) -> PyTree:
        """Returns a state for saving: without those that fill up, as other devices need others."""
        if self.size == self.trials:
            return tree
        return jax.tree.map(lambda leaf: leaf[: self.trials], tree)

    def lowered(self, tree: PyTree) -> PyTree:
        """Undoes `lifted`."""
        if self.size == self.trials:
            return tree
        return self.stacked([trial_of(tree, index) for index in range(self.trials)])

    def each(
        self, one: Callable[[PyTree, TrainState, PyTree, PyTree], tuple[TrainState, PyTree]]
    ) -> Callable[[PyTree, TrainState, PyTree, PyTree], tuple[TrainState, PyTree]]:
        """Returns a step of all trials from that of one.

        Args:
            one: takes a trial's numbers, its state, its sums and the batch; returns the state and
                the sums after it.
        """

        def own(numbers: PyTree, state: TrainState, sums: PyTree, batch: PyTree) -> tuple:
            def walk(index: jax.Array, carry: tuple) -> tuple:
                # In the place of `lax.map`, whose results would need a second set of states.
                ours = jax.tree.map(lambda a: a[index], (numbers, *carry))
                numbers_of_one, state_of_one, sums_of_one = ours
                stepped = one(numbers_of_one, state_of_one, sums_of_one, batch)
                return jax.tree.map(lambda a, new: a.at[index].set(new), carry, stepped)

            count = self.size // len(self.devices)
            if count == 1:
                return walk(jnp.int32(0), (state, sums))
            return lax.fori_loop(0, count, walk, (state, sums))

        if len(self.devices) == 1:
            return own
        trials = PartitionSpec(AXIS)
        return jax.shard_map(
            own,
            mesh=self._mesh,
            in_specs=(trials, trials, trials, PartitionSpec()),
            out_specs=trials,
            check_vma=False,  # nothing is shared but the batch, which nobody writes
        )


def trial_of(tree: PyTree, index: int) -> PyTree:
    """Returns one trial's arrays, on the host."""
    return jax.tree.map(lambda leaf: np.asarray(leaf[index]), tree)


def _on_host(tree: PyTree) -> PyTree:
    return jax.tree.map(np.asarray, tree)
