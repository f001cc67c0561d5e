"""Reads generators and Sequences ahead, with threads or processes, in order.

Nothing here runs by itself: whoever takes an item hands the workers the next ones. So there is no
thread that could wait for another, the number of items under way is bounded, and order is that of
asking.
"""

import random
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import count, islice, repeat
from types import TracebackType
from typing import Any, Self

import jax
import numpy as np

from yolo_jax.core.caller import warn_caller
from yolo_jax.core.interrupts import hear_every_interrupt
from yolo_jax.model.sequence import is_sequence
from yolo_jax.model.worker_processes import WorkerProcesses

_END = object()


class Enqueuer:
    """An iterator over a source's items, built ahead by workers; close it, or use it by `with`.

    A Sequence is read pass after pass, without end. Its `on_epoch_end` runs in this thread when all
    items of a pass have been taken, and not before the next is asked for, `end_pass` is called, or
    the `with` block ends without an exception; its length is read anew for every pass. A generator
    is read until it is exhausted, by one thread alone. Arrays are copied as soon as an item is
    built, before the next one is asked for: who makes it may fill the same buffer again.

    An exception in a worker is raised where the item is asked for, with the worker's traceback, and
    ends the reading. Closing drops what was built ahead; threads end with the item that they are
    at, processes at once.

    Args:
        source: a `Sequence`, or an iterator such as a generator.
        workers: 0 builds each item in this thread when it is asked for.
        use_multiprocessing: processes rather than threads, for a Sequence. They are spawned, so
            the script that starts them needs `if __name__ == "__main__":`.
        max_queue_size: items built or being built ahead, at most.
        shuffle: draw a new order for every pass of a Sequence. Without a seed by Python's global
            `random` and, as in Keras, not with `workers` 0.
        seed: makes each pass's order a function of the seed and the pass, whatever the workers.
        start: items to leave out. Those of a Sequence are not built, and `on_epoch_end` runs for
            passes left out as a whole; those of a generator are read.
        limit: items that will be asked for at most, so that no more are read; None knows none.

    Raises:
        TypeError: the source is neither a Sequence nor an iterator.
        ValueError: a number is out of range, or a Sequence is empty.
    """

    def __init__(
        self,
        source: Any,
        *,
        workers: int = 1,
        use_multiprocessing: bool = False,
        max_queue_size: int = 10,
        shuffle: bool = False,
        seed: int | None = None,
        start: int = 0,
        limit: int | None = None,
    ) -> None:
        if workers < 0 or start < 0:
            raise ValueError(f"workers and start are 0 or more; found {workers} and {start}")
        if workers and max_queue_size < 1:
            raise ValueError(f"max_queue_size is 1 or more; found {max_queue_size}")
        hear_every_interrupt()  # workers would go on without end
        self._source, self._workers, self._queue_size = source, workers, max_queue_size
        self._shuffle = shuffle and (workers > 0 or seed is not None)
        self._seed, self._start, self._limit = seed, start, limit
        self._order: list[int] = []
        # Items of the current pass that were not taken yet; None between passes.
        self._left: int | None = None
        if is_sequence(source):
            self._items = self._sequence_items(use_multiprocessing)
        elif hasattr(source, "__next__"):
            if use_multiprocessing and workers > 1:
                warn_caller(
                    "Using a generator with `use_multiprocessing=True` and multiple workers may "
                    "duplicate your data. Please consider using the `Sequence` class. "
                    "The generator is read by one thread instead."
                )
            self._items = self._generator_items()
        else:
            raise TypeError(
                "the source must be a Sequence or an iterator; found "
                f"{type(source).__name__}: call the generator function, or take iter() of it"
            )

    def __iter__(self) -> Self:
        """Returns itself."""
        return self

    def __next__(self) -> Any:
        """Returns the next item."""
        return next(self._items)

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes; a pass that was taken to its end has its `on_epoch_end` first."""
        try:
            if error is None:
                self.end_pass()
        finally:
            self.close()

    def end_pass(self) -> None:
        """Runs `on_epoch_end` if all of a pass has been taken and it has not run yet."""
        if self._left == 0:
            self._left = None
            self._source.on_epoch_end()

    def close(self) -> None:
        """Ends all threads and processes; further items are not given."""
        self._items.close()

    def _generator_items(self) -> Generator[Any, None, None]:
        with ExitStack() as stack:
            submit: Callable[..., Future]
            if self._workers:
                threads = ThreadPoolExecutor(1, "yolo_jax_generator")
                stack.callback(threads.shutdown, cancel_futures=True)
                submit = threads.submit
            else:
                submit = _now
            asked = None if self._limit is None else self._start + self._limit
            arguments = islice(repeat((self._source, _END)), asked)
            items = self._ahead(lambda pair: submit(_owned, next, *pair), arguments)
            for number, item in enumerate(items):
                if item is _END:
                    return
                if number >= self._start:
                    yield item

    def _sequence_items(self, use_multiprocessing: bool) -> Generator[Any, None, None]:
        with ExitStack() as stack:
            processes = None
            submit: Callable[[int], Future]
            build = partial(_owned, self._source.__getitem__)
            if not self._workers:
                submit = partial(_now, build)
            elif use_multiprocessing:
                processes = stack.enter_context(WorkerProcesses(self._workers))
                submit = processes.submit
            else:
                threads = ThreadPoolExecutor(self._workers, "yolo_jax_sequence")
                stack.callback(threads.shutdown, cancel_futures=True)
                submit = partial(threads.submit, build)
            given = 0
            for order in self._passes():
                if processes is not None:
                    processes.send(self._source)
                missing = None if self._limit is None else self._limit - given
                for item in self._ahead(submit, islice(order, missing)):
                    self._left = (self._left or 0) - 1
                    given += 1
                    yield item
                if given == self._limit:
                    return

    def _passes(self) -> Iterator[list[int]]:
        """Yields the indices of each pass that are to be read."""
        for number in count():
            length = len(self._source)
            if length < 1:
                raise ValueError(
                    f"the Sequence {type(self._source).__name__} is empty: its len() is {length} "
                    f"in pass {number} (from 0)"
                )
            order = self._draw_order(number, length)[self._start :]
            self._start = max(self._start - length, 0)
            self._left = len(order)
            if order:
                yield order
            self.end_pass()

    def _draw_order(self, number: int, length: int) -> list[int]:
        # Unseeded, each pass shuffles the last one's order, as Keras does.
        if self._seed is not None or len(self._order) != length:
            self._order = list(range(length))
        if self._shuffle and self._seed is not None:
            random.Random(f"{self._seed} {number}").shuffle(self._order)
        elif self._shuffle:
            random.shuffle(self._order)
        return self._order

    def _ahead(self, submit: Callable[[Any], Future], arguments: Iterable[Any]) -> Iterator[Any]:
        """Yields what is submitted, in order, keeping a bounded number under way."""
        arguments = iter(arguments)
        size = self._queue_size if self._workers else 1
        under_way = deque(submit(argument) for argument in islice(arguments, size))
        while under_way:
            # A freed place is filled before the wait, so that no worker stands still.
            future = under_way.popleft()
            if self._workers:
                under_way.extend(submit(argument) for argument in islice(arguments, 1))
            yield future.result()
            if not self._workers:
                under_way.extend(submit(argument) for argument in islice(arguments, 1))


def _owned(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls, and copies the arrays of what is returned; a JAX array never changes."""

    def copied(leaf: Any) -> Any:
        is_kept = isinstance(leaf, jax.Array | np.generic) or not hasattr(leaf, "__array__")
        return leaf if is_kept else np.array(leaf)

    return jax.tree.map(copied, function(*arguments))


def _now(function: Callable[..., Any], *arguments: Any) -> Future:
    """Calls in this thread."""
    future: Future = Future()
    future.set_result(function(*arguments))
    return future
