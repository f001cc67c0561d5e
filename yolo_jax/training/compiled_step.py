"""A step that XLA has compiled, or will when it is first called."""

from collections.abc import Callable
from functools import cache
from typing import Any

import jax

PyTree = Any


class Step:
    """A step over the devices, compiled when it is first called, or ahead for a batch's shapes.

    Args:
        function: what jit or pmap made of the body.
        split: makes of a batch, and the axis of its rows, what the function takes; None where that
            is the batch as it is.
        stacked: the last argument is several batches, `[k, rows, …]`.
        body: of a pmapped function that holds it weakly, since pmap's cache never lets go of one.
    """

    def __init__(
        self,
        function: Any,
        split: Callable[[PyTree, int], PyTree] | None,
        stacked: bool = False,
        body: Callable[..., PyTree] | None = None,
    ) -> None:
        self._function, self._split_rows, self._stacked, self._body = function, split, stacked, body
        self._ahead: dict[tuple, Callable[..., PyTree]] = {}

    def compile_ahead(self, *args: PyTree) -> None:
        """Compiles for arguments like these, which stay as they are."""
        if self._body is not None and jax.process_count() > 1:
            return  # pmap's executable, called by itself, knows of no other processes
        shapes = _shapes(args[-1])
        if shapes not in self._ahead:
            self._ahead[shapes] = self.lower(*args).compile()

    def lower(self, *args: PyTree) -> jax.stages.Lowered:
        """Lowers for arguments of these shapes, dtypes and places; the last is the batch."""
        return self._function.lower(*self._split(args))

    def __call__(self, *args: PyTree) -> PyTree:
        """Takes a step; the last argument is the batch."""
        ahead = self._ahead.get(_shapes(args[-1])) if self._ahead else None
        return (ahead or self._function)(*self._split(args))

    def _split(self, args: tuple[PyTree, ...]) -> tuple[PyTree, ...]:
        if self._split_rows is None:
            return args
        *others, batch = args
        return *others, self._split_rows(batch, int(self._stacked))


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
