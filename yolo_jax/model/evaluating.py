"""The one evaluation loop, and the logs that a batch's callbacks are given."""

from collections.abc import Callable, Iterator, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any

import jax

from yolo_jax.core.caller import warn_caller
from yolo_jax.model.callbacks import Callback
from yolo_jax.training.step import Sums, row_count

if TYPE_CHECKING:
    from yolo_jax.model.trainer import Trainer

# Stands in a batch's logs for a mean that nobody has asked for.
_ON_DEVICE = object()


class BatchLogs(MutableMapping[str, Any]):
    """A batch's logs: running means, fetched from the device only when somebody reads one.

    `logs["batch"]`, its number, and `logs["size"]`, its rows, are known to the host; as in tf.keras
    they are not among the keys. What a callback sets is seen by those behind it.

    Attributes:
        was_fetched: somebody has read a value, for which the host waited for the device.
    """

    def __init__(
        self,
        batch: int,
        size: int,
        sums: Sums,
        names: Sequence[str],
        results: Callable[[Sums], dict],
    ) -> None:
        self._known = {"batch": batch, "size": size}
        self._sums, self._results = sums, results
        self._values: dict[str, Any] = dict.fromkeys(names, _ON_DEVICE)
        self.was_fetched = False

    def __getitem__(self, key: str) -> Any:
        """Returns the running mean of a loss or metric, `batch`, `size`, or what was set.

        Raises:
            KeyError: there is no such key.
        """
        if key in self._values:
            value = self._values[key]
            return self._fetched([key])[key] if value is _ON_DEVICE else value
        if key in self._known:
            return self._known[key]
        raise KeyError(f"{key!r}: a batch's logs have {', '.join(self._values)}, batch and size")

    def __setitem__(self, key: str, value: Any) -> None:
        """Sets a value."""
        self._values[key] = value

    def __delitem__(self, key: str) -> None:
        """Removes one of the keys."""
        del self._values[key]

    def __iter__(self) -> Iterator[str]:
        """Iterates over the keys."""
        return iter(self._values)

    def __len__(self) -> int:
        """Returns the number of keys."""
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        """Tells whether there is a key, without fetching its value."""
        return key in self._values or key in self._known

    def __repr__(self) -> str:
        """Shows the values, which waits for the device."""
        return repr(self.copy())

    def copy(self) -> dict[str, Any]:
        """Returns a plain dict of all values, fetched at once."""
        waiting = [key for key, value in self._values.items() if value is _ON_DEVICE]
        return self._values | self._fetched(waiting)

    def _fetched(self, keys: Sequence[str]) -> dict[str, float]:
        self.was_fetched = True
        return self._results(jax.device_get({key: self._sums[key] for key in keys}))


def evaluate(
    model: "Trainer",
    stream: Iterator[Any],
    steps: int | None,
    callbacks: Callback,
    data: str = "input",
) -> dict[str, float]:
    """Returns losses and metrics over a number of batches, or until there are no more.

    Args:
        model: compiled.
        stream: of batches.
        steps: how many; None takes all.
        callbacks: that listen.
        data: what the user calls them, for the warning where they end too soon.

    Raises:
        ValueError: there is not one batch.
    """
    compiled = model.require_compiled()
    callbacks.on_test_begin()
    sums, step = None, 0
    while steps is None or step < steps:
        callbacks.on_test_batch_begin(step)
        fed = next(stream, None)
        if fed is None:
            if steps is not None:
                warn_caller(
                    f"Your {data} ran out of data after {step} of {steps} batches; the figures "
                    "are of those."
                )
            break
        if sums is None:
            sums = compiled.zero_sums(model.state, fed, training=False)
        sums = compiled.evaluate(model.state, sums, fed)
        objective = compiled.objective
        rows = model.parallel.processes * row_count(fed)
        logs = BatchLogs(step, rows, sums, objective.log_names, objective.results)
        callbacks.on_test_batch_end(step, logs)
        step += 1
    if sums is None:
        raise ValueError("there was not one batch to evaluate")
    results = compiled.objective.results(jax.device_get(sums))
    callbacks.on_test_end(results)
    return results
