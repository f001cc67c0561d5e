"""Where batches come from, behind one small protocol, and the form in which the step takes them."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from yolo_jax.core.types import Batch
from yolo_jax.model.enqueuer import Enqueuer
from yolo_jax.model.graph import SymbolicTensor
from yolo_jax.model.graph.tensor import as_list
from yolo_jax.training.step import Fed, row_count

PyTree = Any
_BATCHES_AHEAD = 2


class Feed(Protocol):
    """A stream of batches.

    Attributes:
        numbered: a batch is a function of its number, so that a fit which starts at a later epoch
            starts at that epoch's batches; otherwise it starts at the first there is.
        order: what fixes the order of rows, by name, beside the fit and the pass; empty where the
            data's own order is kept to.
    """

    numbered: bool
    order: dict[str, Any]

    @property
    def steps(self) -> int | None:
        """Returns the batches of one pass, or None where only reading tells."""
        ...

    def batches(self, start: int = 0, fit: int = 0) -> Iterator[Fed]:
        """Yields batch `start` and those after it, pass after pass or until there are no more.

        Args:
            start: number of the first batch.
            fit: number of the fit on the model; what is shuffled has another order in each.
        """
        ...

    def end_pass(self) -> None:
        """Learns that an epoch is over, its callbacks included."""
        ...


class LoaderFeed:
    """The data floor's loader, or anything of its shape: `__len__` and `batches(start)`.

    It is read ahead by a thread, which puts what it reads on the device. Where several processes
    share a batch, it yields the rows of this one.

    Args:
        loader: yields `Batch`, (x, y) or (x, y, sample_weight).
        place: puts a batch on the device; None leaves it where it is.
    """

    numbered = True

    def __init__(self, loader: Any, place: Callable[[Fed], Fed] | None = None) -> None:
        self.loader, self.place = loader, place or (lambda fed: fed)
        self.steps: int | None = len(loader)
        self.order: dict[str, Any] = {}

    def batches(self, start: int = 0, fit: int = 0) -> Iterator[Fed]:
        """Yields batch `start` and those after it; their order is the loader's own in every fit.

        Raises:
            ValueError: a batch has no row.
        """
        items = self.loader.batches(start)
        try:
            placed = (
                self.place(with_rows(as_fed(item), number))
                for number, item in enumerate(items, start)
            )
            with Enqueuer(placed, max_queue_size=_BATCHES_AHEAD) as ahead:
                yield from ahead
        finally:
            # A loader's worker processes end here, not when somebody collects garbage.
            if isinstance(items, Generator):
                items.close()

    def end_pass(self) -> None:
        """Does nothing."""


class SharedFeed:
    """Of batches that every process makes whole, the rows of this process.

    Args:
        feed: of whole batches, the same in every process.
        process: (index, number) of this process among those that share a batch.
        multiple: of rows, to which a batch is filled up before it is shared.
    """

    def __init__(self, feed: Feed, process: tuple[int, int], multiple: int) -> None:
        self._feed, self._process, self._multiple = feed, process, multiple
        self.numbered, self.order = feed.numbered, feed.order

    @property
    def steps(self) -> int | None:
        """Returns the batches of one pass."""
        return self._feed.steps

    def batches(self, start: int = 0, fit: int = 0) -> Iterator[Fed]:
        """Yields the rows of batch `start` and of those after it."""
        index, count = self._process
        stream = self._feed.batches(start, fit)
        try:
            for fed in stream:
                whole = pad_rows(fed, self._multiple)
                rows = row_count(whole) // count
                own = slice(index * rows, (index + 1) * rows)
                yield jax.tree.map(lambda array, own=own: array[own], whole)
        finally:
            if isinstance(stream, Generator):
                stream.close()

    def end_pass(self) -> None:
        """Tells the feed."""
        self._feed.end_pass()


def as_fed(item: Any) -> Fed:
    """Converts what a loader yields to what the step takes.

    Raises:
        TypeError: it is neither a `Batch` nor a tuple (x, y) or (x, y, sample_weight).
    """
    match item:
        case Batch():
            targets = {"boxes": item.boxes, "classes": item.classes}
            if item.mix is not None:
                targets["mix"] = item.mix
            return Fed(item.image, targets, None, np.asarray(item.image_id) >= 0)
        case Fed():
            return item
        case (x, y):
            return Fed(x, y, None, None)
        case (x, y, weight):
            return Fed(x, y, weight, None)
    raise TypeError(
        "a loader yields Batch, (x, y) or (x, y, sample_weight); found " + type(item).__name__
    )


def with_rows(fed: Fed, number: int) -> Fed:
    """Returns a batch as it is.

    Raises:
        ValueError: it has no row, of which nothing can be learned or measured.
    """
    if not row_count(fed):
        raise ValueError(
            "Received an empty batch. Batches should contain at least one item; batch "
            f"{number} (from 0) has none"
        )
    return fed


def as_inputs(x: PyTree, inputs: Sequence[SymbolicTensor]) -> list[Array]:
    """Returns one array for each input, in the inputs' order.

    Raises:
        ValueError: an input has no data, or there are more or fewer arrays than inputs.
    """
    if isinstance(x, Mapping):
        missing = [tensor.name for tensor in inputs if tensor.name not in x]
        if missing:
            raise ValueError(f"No data provided for {missing}; x has {sorted(x)}")
        return [x[tensor.name] for tensor in inputs]
    arrays = as_list(x)
    if len(arrays) != len(inputs):
        raise ValueError(f"the model has {len(inputs)} inputs; x has {len(arrays)} arrays")
    return arrays


def pad_rows(fed: Fed, multiple: int) -> Fed:
    """Fills a batch up to a multiple of rows; the row mask leaves the new ones out."""
    rows = row_count(fed)
    missing = -rows % multiple
    if not missing:
        return fed
    # Copies of the first row: numbers as ordinary as the others', so nothing overflows.
    index = np.concatenate([np.arange(rows), np.zeros(missing, np.int64)])
    mask = np.ones(rows, bool) if fed.row_mask is None else np.asarray(fed.row_mask)
    padded = jax.tree.map(lambda array: array[index], fed._replace(row_mask=None))
    return padded._replace(row_mask=np.concatenate([mask, np.zeros(missing, bool)]))


def form_of(fed: Fed) -> tuple:
    """Returns what batches have to share so that one program takes them."""
    leaves, structure = jax.tree.flatten(fed)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]


def stack(feds: Sequence[Fed], room: int) -> Fed:
    """Stacks batches of the same shapes, `[room, rows, …]`; the last one fills what is left."""

    def stacked(*arrays: Array | np.ndarray) -> Array | np.ndarray:
        on_host = all(isinstance(array, np.ndarray) for array in arrays)
        return np.stack(arrays) if on_host else jnp.stack(arrays)

    return jax.tree.map(stacked, *feds, *[feds[-1]] * (room - len(feds)))
