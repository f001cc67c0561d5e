"""Reads batches for a long time with workers 0, 1 and 4, threads and processes; fails on a stall.

JAX computes meanwhile, passes end amid and at their end, and reading stops early and starts anew.

Command: yolo-jax bench soak --minutes 30
Hardware: any; the time is shared among six settings.
"""

import argparse
import faulthandler
import itertools
import multiprocessing
import random
import threading
import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from yolo_jax.model.enqueuer import Enqueuer
from yolo_jax.model.sequence import Sequence

# Without an item for so long, every thread's stack is printed and the program ends with 1.
STALL_SECONDS = 120
LENGTH = 40


class Noise(Sequence):
    """Batches that tell their pass and index, after a time of their own."""

    def __init__(self) -> None:
        self.passes = 0

    def __len__(self) -> int:
        """Returns the batches of a pass."""
        return LENGTH + self.passes % 3

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns (noise, [pass, index])."""
        time.sleep(random.choice([0, 0, 0.001, 0.01]))
        return np.ones((8, 64, 64, 3), np.float32), np.array([self.passes, index])

    def on_epoch_end(self) -> None:
        """Counts the passes."""
        self.passes += 1


def noise_generator() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields what a Sequence without `on_epoch_end` would, for ever."""
    noise = Noise()
    for index in itertools.count():
        yield noise[index % LENGTH][0], np.array([0, index])


def main() -> None:
    """Runs the settings one after the other."""
    parser = argparse.ArgumentParser(prog="yolo-jax bench soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    options = parser.parse_args()
    settings = list(itertools.product((0, 1, 4), (False, True)))
    for workers, processes in settings:
        kind = "processes" if processes else "threads"
        items, readings = soak(workers, processes, options.minutes * 60 / len(settings))
        print(f"{workers} {kind}: {items} items in {readings} readings, in order", flush=True)


def soak(workers: int, processes: bool, seconds: float) -> tuple[int, int]:
    """Reads for some seconds; returns the numbers of items and of readings.

    Raises:
        RuntimeError: items out of order, or threads or processes that outlive their reading.
    """
    step = jax.jit(lambda x: jnp.sin(x).sum())
    end, items, readings = time.monotonic() + seconds, 0, 0
    while time.monotonic() < end:
        # A generator is never read by processes.
        source = noise_generator() if not processes and readings % 4 == 3 else Noise()
        wanted = random.choice([1, LENGTH - 1, LENGTH, 10 * LENGTH])
        faulthandler.dump_traceback_later(STALL_SECONDS, exit=True)
        with Enqueuer(
            source, workers=workers, use_multiprocessing=processes, max_queue_size=5
        ) as reader:
            expected = indices(source)
            for (x, found), want in zip(itertools.islice(reader, wanted), expected, strict=False):
                faulthandler.dump_traceback_later(STALL_SECONDS, exit=True)
                step(x).block_until_ready()
                if tuple(found) != want:
                    raise RuntimeError(f"expected (pass, index) {want}; found {tuple(found)}")
                items += 1
        readings += 1
        left = [t.name for t in threading.enumerate() if t.name.startswith("yolo_jax")]
        if left or multiprocessing.active_children():
            raise RuntimeError(f"still there: {left} {multiprocessing.active_children()}")
    faulthandler.cancel_dump_traceback_later()
    return items, readings


def indices(source: object) -> Iterator[tuple[int, int]]:
    """Yields the (pass, index) that a source's items tell, in order."""
    if not isinstance(source, Noise):
        yield from ((0, index) for index in itertools.count())
    for number in itertools.count():
        yield from ((number, index) for index in range(LENGTH + number % 3))


if __name__ == "__main__":
    main()
