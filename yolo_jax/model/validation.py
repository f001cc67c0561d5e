"""What `fit` evaluates after its epochs, from the arguments that say so."""

from collections.abc import Generator, Iterator, Sequence
from typing import Any

from yolo_jax.core.numbers import whole_number
from yolo_jax.model.data import Reading, as_feed, check_has_steps, kind_of
from yolo_jax.model.feed import Feed
from yolo_jax.model.signature import Signature
from yolo_jax.training.parallel import Parallel


class Validation:
    """What `fit` evaluates after its epochs.

    Args:
        feed: of the validation data.
        steps: batches of it each time; None takes a whole pass.
        freq: after every so many epochs, or the numbers of the epochs (from 1).

    Raises:
        ValueError: `freq` is neither, or holds nothing.
    """

    def __init__(self, feed: Feed, steps: int | None, freq: int | Sequence[int]) -> None:
        if isinstance(freq, bool) or not isinstance(freq, int | list | tuple):
            raise ValueError(
                f"validation_freq is a number of epochs or a list of epochs; found {freq!r}"
            )
        if isinstance(freq, int) and freq < 1:
            raise ValueError(f"validation_freq has to be 1 or more; found {freq}")
        if not isinstance(freq, int):
            if not freq:
                raise ValueError("validation_freq lists the epochs to validate after; it is empty")
            for epoch in freq:
                whole_number("an epoch in validation_freq (counted from 1)", epoch, 1)
        self.feed, self.steps, self.freq = feed, steps, freq
        # A generator goes on where it stood; what has a beginning starts there each time.
        self._stream = feed.batches() if feed.steps is None else None

    def is_due(self, epoch: int) -> bool:
        """Tells whether the data are evaluated after an epoch (counted from 0)."""
        if isinstance(self.freq, int):
            return (epoch + 1) % self.freq == 0
        return epoch + 1 in self.freq

    def stream(self) -> Iterator[Any]:
        """Returns the batches of one evaluation and those after it."""
        return self.feed.batches() if self._stream is None else self._stream

    def close(self) -> None:
        """Ends the threads that read a generator ahead."""
        if isinstance(self._stream, Generator):
            self._stream.close()


def validation_of(
    signature: Signature,
    data: Any,
    *,
    steps: int | None,
    freq: int | Sequence[int],
    batch_size: int | None,
    by_steps: bool,
    reading: Reading,
    strict: bool,
    parallel: Parallel,
) -> Validation | None:
    """Returns what `fit` evaluates, or None where it is given no data for it.

    Args:
        signature: of the model.
        data: `validation_data`.
        steps: `validation_steps`.
        freq: `validation_freq`.
        batch_size: rows a batch of arrays.
        by_steps: those of training are counted too.
        reading: of generators and Sequences.
        strict: numbers that are not finite are an error.
        parallel: the devices that share a batch.

    Raises:
        ValueError: the data do not fit, the steps or the frequency are none, or they are given
            without data.
    """
    if data is None:
        if steps is not None or freq != 1:
            given = f"validation_steps={steps}" if steps is not None else f"validation_freq={freq}"
            raise ValueError(
                f"{given} is given without validation_data, so that nothing would be evaluated: "
                "give the data (or validation_split), or leave it out"
            )
        return None
    if kind_of(data) != "arrays":
        feed = as_feed(signature, data, reading=reading, strict=strict, parallel=parallel)
        check_has_steps(feed, steps, "validation_steps")
        return Validation(feed, steps, freq)
    if not isinstance(data, list | tuple) or len(data) not in (2, 3):
        raise ValueError(
            "validation_data is (x, y) or (x, y, sample_weight), or a generator, Sequence or "
            f"loader; found {type(data).__name__} "
            f"{f'of {len(data)}' if isinstance(data, list | tuple) else ''}"
        )
    if steps is not None and not by_steps:
        raise ValueError(
            "with arrays, validation_steps needs steps_per_epoch; leave it out to evaluate all "
            f"rows (found {steps})"
        )
    # A step over arrays takes all of them; several would give the same means again.
    feed = as_feed(signature, *data, batch_size=batch_size, strict=strict, parallel=parallel)
    return Validation(feed, None, freq)
