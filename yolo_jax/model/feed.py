"""Where batches come from: arrays, or a loader of the data floor, behind one small protocol."""

from collections.abc import Iterator
from typing import Any, Protocol

import jax
import numpy as np

from yolo_jax.core.types import Batch
from yolo_jax.training.step import Fed

PyTree = Any


class Feed(Protocol):
    """An endless stream of batches that can start anywhere."""

    def __len__(self) -> int:
        """Returns the batches of one pass over the data."""
        ...

    def batches(self, start: int = 0) -> Iterator[Any]:
        """Yields batch `start` and those after it, pass after pass."""
        ...


class ArrayFeed:
    """Cuts arrays into batches; the last of a pass is smaller where they do not divide.

    Args:
        x: array, or list or dict of arrays, of equal lengths.
        y: the same for the targets, or None.
        batch_size: rows a batch.
        shuffle: draw a new order for every pass.
        seed: of the orders: each is a function of (seed, pass).

    Raises:
        ValueError: the arrays differ in length, are empty, or the batch size is not positive.
    """

    def __init__(
        self, x: PyTree, y: PyTree, *, batch_size: int, shuffle: bool, seed: int = 0
    ) -> None:
        self.arrays = jax.tree.map(np.asarray, (x, y))
        lengths = sorted({len(array) for array in jax.tree.leaves(self.arrays)})
        if len(lengths) != 1:
            raise ValueError(
                f"all arrays of x and y need the same number of samples; found {lengths}"
            )
        if batch_size < 1 or lengths[0] < 1:
            raise ValueError(f"cannot cut {lengths[0]} samples into batches of {batch_size}")
        self.rows, self.batch_size = lengths[0], batch_size
        self.shuffle, self.seed = shuffle, seed

    def __len__(self) -> int:
        """Returns the batches of one pass, the last smaller one included."""
        return -(-self.rows // self.batch_size)

    def batches(self, start: int = 0) -> Iterator[tuple[PyTree, PyTree]]:
        """Yields (x, y) of batch `start` and those after it."""
        passed, first = divmod(start, len(self))
        while True:
            order = np.arange(self.rows)
            if self.shuffle:
                order = np.random.default_rng((self.seed, passed)).permutation(self.rows)
            for index in range(first, len(self)):
                rows = order[index * self.batch_size : (index + 1) * self.batch_size]
                yield jax.tree.map(lambda array, rows=rows: array[rows], self.arrays)
            passed, first = passed + 1, 0


def as_fed(item: Any) -> Fed:
    """Converts what a feed yields to what the step takes.

    Raises:
        TypeError: it is neither a `Batch` nor a tuple (x, y).
    """
    match item:
        case Batch():
            targets = {"boxes": item.boxes, "classes": item.classes}
            return Fed(item.image, targets, None, np.asarray(item.image_id) >= 0)
        case (x, y):
            return Fed(x, y, None, None)
    raise TypeError(f"a feed yields Batch or (x, y); found {type(item).__name__}")
