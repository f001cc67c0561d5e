"""Spreads a step over devices, of one process or of many: by pmap, jit or fsdp.

What is of rows runs under the axis `batch`, on each device for its own rows, with explicit
collectives; the rest of a step is the same on all. `pmap` maps the whole step. `jit` and `fsdp` map
the rows' part alone (`shard_map` over a mesh) and leave the rest to XLA's partitioner; under `fsdp`
parameters, slots and averages lie in shards, one a device.
"""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal, get_args

import jax
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from yolo_jax.training.compiled_step import Step, compiler_options, unbound

PyTree = Any
Device = Any  # jax.Device, which type checkers take for a variable
AXIS = "batch"
Strategy = Literal["pmap", "jit", "fsdp"]
# Scalars of an array from which on fsdp shards it: less would be more messages than memory.
_LEAST_SHARDED = 2**12


@dataclass(frozen=True)
class Parallel:
    """The devices that share every batch, and how.

    Attributes:
        devices: of all processes, those of a process next to each other; their number divides
            every batch.
        strategy: pmap, jit or fsdp; on one device a plain jit.
    """

    devices: tuple[Device, ...]
    strategy: Strategy = "pmap"

    @classmethod
    def over(
        cls, devices: Sequence[Device] | None = None, strategy: Strategy = "pmap"
    ) -> "Parallel":
        """Returns the strategy over the given devices.

        Args:
            devices: that share a batch. None: the one that `jax.default_device` names, where it
                does, else all there are.
            strategy: how.

        Raises:
            TypeError: they are no list of devices.
            ValueError: there is no such strategy, or this process has none of the devices.
        """
        if strategy not in get_args(Strategy):
            raise ValueError(
                f"parallel is one of {', '.join(get_args(Strategy))}; found {strategy!r}"
            )
        if devices is None:
            default = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
            devices = [default] if isinstance(default, jax.Device) else jax.devices()
        is_list = isinstance(devices, Sequence | np.ndarray)
        if not is_list or not len(devices) or not all(isinstance(d, jax.Device) for d in devices):
            raise TypeError(
                f"devices is a list of JAX's, such as jax.local_devices()[:1]; found {devices!r}"
            )
        found = cls(tuple(sorted(devices, key=lambda d: d.process_index)), strategy)
        if not found.local:
            raise ValueError(
                f"devices has none of process {jax.process_index()}, which is to train; found "
                f"{list(devices)}"
            )
        return found

    @property
    def axis_name(self) -> str | None:
        """Name of the mapped axis inside a step; None on one device."""
        return AXIS if len(self.devices) > 1 else None

    @property
    def by_mesh(self) -> bool:
        """Tells whether arrays are global, over a mesh of all devices."""
        return self.strategy != "pmap" and len(self.devices) > 1

    @cached_property
    def local(self) -> tuple[Device, ...]:
        """Devices of this process; none where a step is only compiled, for other machines."""
        here = set(jax.local_devices())
        return tuple(device for device in self.devices if device in here)

    @cached_property
    def _processes(self) -> list[int]:
        return sorted({device.process_index for device in self.devices})

    @property
    def processes(self) -> int:
        """Number of the processes that share a batch."""
        return len(self._processes)

    @property
    def process(self) -> tuple[int, int]:
        """Returns this process's place among those that share a batch, and their number."""
        return self._processes.index(jax.process_index()), self.processes

    @cached_property
    def _mesh(self) -> Mesh:
        # Under pmap every process has arrays of its own.
        return Mesh(np.asarray(self.devices if self.by_mesh else self.local), (AXIS,))

    def compile(
        self,
        body: Callable[..., PyTree],
        *,
        replicated: int,
        donate: tuple[int, ...] = (),
        stacked: bool = False,
    ) -> Step:
        """Compiles a step's body, when it is called or ahead of that.

        Args:
            body: takes `replicated` arguments and then one batch, whose arrays are split among
                the devices along their first axis.
            replicated: how many arguments precede the batch.
            donate: arguments whose buffers the result may take over.
            stacked: the batch is several, `[k, rows, …]`, whose rows are split.
        """
        if len(self.devices) == 1 or self.by_mesh:
            options = compiler_options(self.devices[0].platform)
            compiled = jax.jit(unbound(body), donate_argnums=donate, compiler_options=options)
            return Step(compiled, self._globally if self.by_mesh else None, stacked)
        mapped = jax.pmap(
            unbound(weakref.proxy(body)),
            axis_name=AXIS,
            in_axes=(*(None,) * replicated, 0),
            out_axes=None,  # pyright: ignore[reportArgumentType]
            donate_argnums=donate,
            devices=self.devices,
        )
        return Step(mapped, self._by_device, stacked, body)

    def _by_device(self, batch: PyTree, axis: int) -> PyTree:
        """Splits this process's rows, `[rows, …]` to `[devices, rows of one, …]`."""
        # Of a step that is compiled for other machines all devices are elsewhere.
        count = len(self.local) or len(self.devices)

        def split(array: Any) -> Any:
            shape = (*array.shape[:axis], count, -1, *array.shape[axis + 1 :])
            return array.reshape(shape).swapaxes(0, axis)

        return jax.tree.map(split, batch)

    def _globally(self, batch: PyTree, axis: int) -> PyTree:
        """Makes global arrays of this process's rows."""
        sharding = NamedSharding(self._mesh, _spec(axis))
        if not self.local:
            return jax.tree.map(
                lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), batch
            )
        return jax.tree.map(
            lambda a: jax.make_array_from_process_local_data(sharding, np.asarray(a)), batch
        )

    def spread(self, function: Callable[..., PyTree], given: PyTree, result: PyTree) -> Callable:
        """Returns a function of rows that runs on each device, with the axis `batch` in scope.

        Args:
            function: its last argument is the batch.
            given: for each argument before it the axis of each array that is sharded, or −1; one
                number stands for a whole tree.
            result: the same of what it returns.
        """
        if not self.by_mesh:
            return function  # all of the step is mapped, or nothing has to be
        in_specs = (*jax.tree.map(_spec, given), _spec(0))
        return jax.shard_map(
            function,
            mesh=self._mesh,
            in_specs=in_specs,
            out_specs=jax.tree.map(_spec, result),
            check_vma=False,  # what leaves is reduced; this is pmap's meaning of gradients
        )

    def sharded_axes(self, tree: PyTree) -> PyTree:
        """Returns for each array of a state the axis that its shards lie along, −1 for whole ones.

        Args:
            tree: of whole arrays, or of their shapes.
        """
        count = len(self.devices)

        def axis(leaf: Any) -> int:
            shape = np.shape(leaf)
            if self.strategy != "fsdp" or count == 1 or np.prod(shape) < _LEAST_SHARDED:
                return -1
            fitting = [size if size % count == 0 else 0 for size in shape]
            return int(np.argmax(fitting)) if max(fitting) else -1

        return jax.tree.map(axis, tree)

    def gathered(self, tree: PyTree, axes: PyTree) -> PyTree:
        """Returns whole arrays on each device; their gradients are added up and scattered again.

        Args:
            tree: of this device's shards.
            axes: that they lie along, as `sharded_axes` told of the whole arrays.
        """
        gather = _gather_on_cpu if self.devices[0].platform == "cpu" else _gather
        return jax.tree.map(lambda leaf, axis: leaf if axis < 0 else gather(leaf, axis), tree, axes)

    def kept_in_place(self, tree: PyTree) -> PyTree:
        """Within a step: has XLA leave a state where `place` puts it."""
        if not self.by_mesh:
            return tree
        return jax.tree.map(
            lambda leaf, axis: lax.with_sharding_constraint(
                leaf, NamedSharding(self._mesh, _spec(axis))
            ),
            tree,
            self.sharded_axes(tree),
        )

    def place_batch(self, batch: PyTree) -> PyTree:
        """Puts a batch on the device ahead of its step; for several, the step splits it itself."""
        return jax.device_put(batch, self.devices[0]) if len(self.devices) == 1 else batch

    def place(self, tree: PyTree) -> PyTree:
        """Puts a state, or sums, where the steps take them: on every device, or in shards."""
        where = self.placements(tree)
        if self.by_mesh and self.processes > 1:
            return jax.tree.map(_put, tree, where)
        return jax.device_put(tree, where)

    def placements(self, tree: PyTree) -> PyTree:
        """Returns where each array of a state belongs."""
        if len(self.devices) == 1:
            return jax.tree.map(lambda _: SingleDeviceSharding(self.devices[0]), tree)
        return jax.tree.map(
            lambda axis: NamedSharding(self._mesh, _spec(axis)), self.sharded_axes(tree)
        )

    def described(self, tree: PyTree) -> PyTree:
        """Returns shapes in the place of arrays, for steps on devices that need not be here."""
        return jax.tree.map(
            lambda leaf, where: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where),
            tree,
            self.placements(tree),
        )

    def whole(self, tree: PyTree) -> PyTree:
        """Returns arrays that this process holds whole; all processes have to ask for them."""
        if not self.by_mesh or self.processes == 1 and self.strategy != "fsdp":
            return tree
        everywhere = NamedSharding(self._mesh, PartitionSpec())
        scattered = [not leaf.is_fully_replicated for leaf in jax.tree.leaves(tree)]
        if any(scattered):
            tree = _copier(everywhere)(tree)
        return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)

    def lifted(self, tree: PyTree) -> PyTree:
        """Returns a state as global arrays, which several processes can save; shares memory."""
        if self.by_mesh or self.processes == 1:
            return tree
        everywhere = NamedSharding(Mesh(np.asarray(self.devices), (AXIS,)), PartitionSpec())
        return jax.tree.map(
            lambda leaf: jax.make_array_from_single_device_arrays(
                leaf.shape, everywhere, [shard.data for shard in leaf.addressable_shards]
            ),
            tree,
        )

    def lowered(self, tree: PyTree) -> PyTree:
        """Undoes `lifted`, up to the number of local devices; `place` puts it on all of them."""
        if self.by_mesh or self.processes == 1:
            return tree
        return jax.tree.map(lambda leaf: leaf.addressable_data(0), tree)


def _gather(shard: jax.Array, axis: int) -> jax.Array:
    return lax.all_gather(shard, AXIS, axis=axis, tiled=True)


# The reduce-scatter that is _gather's gradient gives wrong sums on CPUs of several processes, in 3
# of 300 times where a shard has 9 MiB (jaxlib 0.10.2; https://github.com/jax-ml/jax/issues/40830).
_gather_on_cpu = jax.custom_vjp(_gather, nondiff_argnums=(1,))


def _gathered_with_gradient(shard: jax.Array, axis: int) -> tuple[jax.Array, None]:
    return _gather(shard, axis), None


def _scattered_by_all_reduce(axis: int, _: None, gradient: jax.Array) -> tuple[jax.Array]:
    whole = lax.psum(gradient, AXIS)
    size = whole.shape[axis] // lax.axis_size(AXIS)
    return (lax.dynamic_slice_in_dim(whole, lax.axis_index(AXIS) * size, size, axis),)


_gather_on_cpu.defvjp(_gathered_with_gradient, _scattered_by_all_reduce)


@cache
def _copier(where: NamedSharding) -> Callable[[PyTree], PyTree]:
    return jax.jit(lambda tree: tree, out_shardings=where)


def _spec(axis: int) -> PartitionSpec:
    return PartitionSpec() if axis < 0 else PartitionSpec(*(None,) * axis, AXIS)


def _put(leaf: Any, where: NamedSharding) -> jax.Array:
    """Makes an array of which other processes have parts; each of them has the whole."""
    if isinstance(leaf, jax.Array) and leaf.sharding == where:
        return leaf
    value = np.asarray(leaf)
    return jax.make_array_from_callback(value.shape, where, lambda index: value[index])
