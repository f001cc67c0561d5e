"""`Sequence`: batches by index, so that several workers can build them and order is kept."""

from collections.abc import Iterator
from typing import Any

# What makes a Sequence for Keras 2.3, whatever the class.
_METHODS = ("__getitem__", "__len__", "__iter__", "on_epoch_end")


class Sequence:
    """A pass over data as numbered batches; subclasses give `__getitem__` and `__len__`.

    Item i is a batch: (x, y) or (x, y, sample_weight). It should depend on i and on what
    `on_epoch_end` changes alone: workers build items in any order, several at once. To be read by
    processes, the subclass stands at the top of a module, and the object can be pickled.
    """

    # What Keras's own classes are recognised by; so theirs are read like ours.
    use_sequence_api = True

    def __getitem__(self, index: int) -> Any:
        """Returns batch `index`, from 0."""
        raise NotImplementedError(f"{type(self).__name__} needs __getitem__(index)")

    def __len__(self) -> int:
        """Returns the number of batches of a pass; read again before every pass."""
        raise NotImplementedError(f"{type(self).__name__} needs __len__()")

    def on_epoch_end(self) -> None:
        """Runs after each full pass, before the next one's first batch is built."""

    def __iter__(self) -> Iterator[Any]:
        """Yields the batches of one pass."""
        for index in range(len(self)):
            yield self[index]


def is_sequence(source: object) -> bool:
    """Tells whether something is read by index: a `Sequence`, Keras's own, or one of its shape."""
    if isinstance(source, Sequence) or bool(getattr(source, "use_sequence_api", False)):
        return True
    return all(hasattr(source, name) for name in _METHODS)
