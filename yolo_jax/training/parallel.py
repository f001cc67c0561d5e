"""Spreads a step's body over devices: plain jit on one, pmap over the axis `batch` on several.

JAX implements pmap by jit and shard_map; state goes in and out replicated (`in_axes=None`,
`out_axes=None`) and donated.
"""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

PyTree = Any
Device = Any  # jax.Device, which type checkers take for a variable
AXIS = "batch"


class Step:
    """A step over the devices, compiled when it is first called, or ahead for a batch's shapes.

    Args:
        function: what jit or pmap made of the body.
        devices: that a batch's rows are split among.
        sharded_output: the result has the batch's rows.
        stacked: the last argument is several batches, `[k, rows, …]`.
        body: of a pmapped function that holds it weakly, since pmap's cache never lets go of one.
    """

    def __init__(
        self,
        function: Any,
        devices: int,
        sharded_output: bool = False,
        stacked: bool = False,
        body: Callable[..., PyTree] | None = None,
    ) -> None:
        self._function, self._devices, self._sharded_output = function, devices, sharded_output
        self._stacked, self._body = stacked, body
        self._ahead: dict[tuple, Callable[..., PyTree]] = {}

    def compile_ahead(self, *args: PyTree) -> None:
        """Compiles for arguments like these, which stay as they are."""
        shapes = _shapes(args[-1])
        if shapes not in self._ahead:
            self._ahead[shapes] = self.lower(*args).compile()

    def lower(self, *args: PyTree, device: Device = None) -> jax.stages.Lowered:
        """Lowers for arguments of these shapes and dtypes.

        Args:
            args: of which the last is the batch.
            device: that of a step of one device; None: where JAX would run it.
        """
        args = self._split(args)
        if self._devices == 1 and device is not None:
            place = SingleDeviceSharding(device)
            args = jax.tree.map(
                lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=place), args
            )
        return self._function.lower(*args)

    def __call__(self, *args: PyTree) -> PyTree:
        """Takes a step; the last argument is the batch."""
        ahead = self._ahead.get(_shapes(args[-1])) if self._ahead else None
        result = (ahead or self._function)(*self._split(args))
        if self._sharded_output:
            return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), result)
        return result

    def _split(self, args: tuple[PyTree, ...]) -> tuple[PyTree, ...]:
        if self._devices == 1:
            return args
        *replicated, batch = args
        axis = int(self._stacked)

        def split(array: Any) -> Any:
            shape = (*array.shape[:axis], self._devices, -1, *array.shape[axis + 1 :])
            return array.reshape(shape).swapaxes(0, axis)

        return *replicated, jax.tree.map(split, batch)


def unbound(body: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """Returns a function of positional arguments that does what a partial does.

    To be compiled in its place: jit's cache keeps a function's signature, and with it what a
    partial binds by name, so a model bound there would stay in memory for good.
    """

    def step(*args: PyTree) -> PyTree:
        return body(*args)

    return step


# XLA's own order of a step's operations on CPU is that in which most could run at once. That gains
# nothing, for each takes all cores; the one of least memory took 0.9 GB where it took 1.5.
_LEAST_MEMORY = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}


@cache
def compiler_options(platform: str) -> dict[str, str] | None:
    """Returns XLA's options for a step on a platform, where this XLA knows them."""
    if platform != "cpu":
        return None
    try:
        jax.jit(lambda: 0, compiler_options=_LEAST_MEMORY).lower().compile()
    except jax.errors.JaxRuntimeError:
        return None  # XLA keeps its options for no longer than it likes
    return _LEAST_MEMORY


def _shapes(batch: PyTree) -> tuple[tuple[int, ...], ...]:
    return tuple(leaf.shape for leaf in jax.tree.leaves(batch))


@dataclass(frozen=True)
class Parallel:
    """The devices that share every batch.

    Attributes:
        devices: of one process; their number divides every batch.
    """

    devices: tuple[Device, ...]

    @classmethod
    def over(cls, devices: Sequence[Device] | None = None) -> "Parallel":
        """Returns the strategy over the given devices, or over all local ones.

        Raises:
            TypeError: they are no list of devices.
        """
        if devices is None:
            return cls(tuple(jax.local_devices()))
        is_list = isinstance(devices, Sequence | np.ndarray)
        if not is_list or not len(devices) or not all(isinstance(d, jax.Device) for d in devices):
            raise TypeError(
                f"devices is a list of JAX's, such as jax.local_devices()[:1]; found {devices!r}"
            )
        return cls(tuple(devices))

    @property
    def axis_name(self) -> str | None:
        """Name of the mapped axis inside a step; None on one device."""
        return AXIS if len(self.devices) > 1 else None

    def compile(
        self,
        body: Callable[..., PyTree],
        *,
        replicated: int,
        donate: tuple[int, ...] = (),
        sharded_output: bool = False,
        stacked: bool = False,
    ) -> "Step":
        """Compiles a step's body, when it is called or ahead of that.

        Args:
            body: takes `replicated` replicated arguments and then one batch, whose arrays are
                split among the devices along their first axis.
            replicated: how many arguments precede the batch.
            donate: arguments whose buffers the result may take over.
            sharded_output: the result has the batch's rows rather than being replicated.
            stacked: the batch is several, `[k, rows, …]`, whose rows are split.
        """
        if len(self.devices) == 1:
            options = compiler_options(self.devices[0].platform)
            compiled = jax.jit(unbound(body), donate_argnums=donate, compiler_options=options)
            return Step(compiled, 1)
        mapped = jax.pmap(
            unbound(weakref.proxy(body)),
            axis_name=AXIS,
            in_axes=(*(None,) * replicated, 0),
            out_axes=0 if sharded_output else None,  # pyright: ignore[reportArgumentType]
            donate_argnums=donate,
            devices=self.devices,
        )
        return Step(mapped, len(self.devices), sharded_output, stacked, body)

    def place(self, batch: PyTree) -> PyTree:
        """Puts a batch on the device ahead of its step; for several, the step splits it itself."""
        return jax.device_put(batch, self.devices[0]) if len(self.devices) == 1 else batch

    def replicate(self, tree: PyTree) -> PyTree:
        """Places a pytree on every device."""
        if len(self.devices) == 1:
            return jax.device_put(tree, self.devices[0])
        mesh = Mesh(np.asarray(self.devices), (AXIS,))
        return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))
