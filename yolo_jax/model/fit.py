"""The one training loop."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from yolo_jax.model.callbacks import Callback, Checkpoint
from yolo_jax.model.feed import Feed, as_fed
from yolo_jax.model.history import History
from yolo_jax.training.checkpoint import Checkpoints
from yolo_jax.training.step import FAILURES, Sums, zero_sums

if TYPE_CHECKING:
    from yolo_jax.model.model import Model

# Steps handed to the device ahead of the one it computes: enough to keep it busy, few enough
# that batches do not pile up in memory.
_STEPS_AHEAD = 2


class BatchLogs(Mapping[str, float]):
    """A batch's logs, fetched from the device only when somebody reads them."""

    def __init__(self, batch: int, size: int, sums: Sums) -> None:
        self._known, self._sums = {"batch": batch, "size": size}, sums

    def __getitem__(self, key: str) -> float:
        """Returns `batch`, `size`, or the epoch's running mean of a loss."""
        if key in self._known:
            return self._known[key]
        total, count = jax.device_get(self._sums[key])
        return float(total / count)

    def __iter__(self) -> Iterator[str]:
        """Iterates over the keys."""
        return iter([*self._known, *self._sums])

    def __len__(self) -> int:
        """Returns the number of keys."""
        return len(self._known) + len(self._sums)


def means(sums: Sums) -> dict[str, float]:
    """Fetches sums and returns their means, the loss first."""
    fetched = jax.device_get(sums)
    names = sorted(fetched, key=lambda name: (name != "loss", name))
    return {name: float(fetched[name][0] / max(fetched[name][1], 1)) for name in names}


class FitRun:
    """One call of `fit`: where it stands, and how to go on from a checkpoint.

    Attributes:
        epoch: the current one, from 0.
        step: batches of it that are done.
        batches: batches taken from the feed since its start; the data position.
    """

    def __init__(
        self,
        model: "Model",
        feed: Feed,
        *,
        epochs: int,
        initial_epoch: int,
        steps: int,
        callbacks: Sequence[Callback],
        validation: Feed | None,
        verbose: int,
    ) -> None:
        self.model, self.feed, self.validation = model, feed, validation
        self.epochs, self.steps = epochs, steps
        self.epoch, self.step = initial_epoch, 0
        self.batches = initial_epoch * steps
        self.sums: Sums = {}
        self.history = History()
        savers = [callback for callback in callbacks if isinstance(callback, Checkpoint)]
        others = [callback for callback in callbacks if not isinstance(callback, Checkpoint)]
        # History follows what adds to the logs; a checkpoint holds what all the others know.
        self.callbacks: list[Callback] = [*others, self.history, *savers]
        for callback in self.callbacks:
            callback.set_model(model)
            callback.set_params({"epochs": epochs, "steps": steps, "verbose": verbose})

    def arrays(self) -> dict[str, Any]:
        """Returns the arrays that a checkpoint holds."""
        names = self.model.log_names
        sums = self.sums or zero_sums(names)
        return {"state": self.model.state, "sums": {name: sums[name] for name in names}}

    def progress(self) -> dict[str, Any]:
        """Returns the rest of what a checkpoint holds."""
        finished = self.step == self.steps
        return {
            "epoch": self.epoch + 1 if finished else self.epoch,
            "step": 0 if finished else self.step,
            "batches": self.batches,
            "callbacks": {name: c.state_dict() for name, c in self._named_callbacks().items()},
        }

    def resume(self, folder: Any) -> None:
        """Goes on from the newest checkpoint of a folder, if it has one."""
        checkpoints = Checkpoints(folder, monitor=None, read_only=True)
        restored = checkpoints.restore(self.arrays())
        checkpoints.close()
        if restored is None:
            return
        arrays = self.model.parallel.replicate(restored.arrays)
        self.model.state = arrays["state"]
        progress = restored.progress
        self.epoch, self.step = progress["epoch"], progress["step"]
        self.batches = progress["batches"]
        self.sums = arrays["sums"] if self.step else {}
        for name, callback in self._named_callbacks().items():
            # A callback that the interrupted run did not have starts afresh.
            if name in progress["callbacks"]:
                callback.load_state_dict(progress["callbacks"][name])

    def _named_callbacks(self) -> dict[str, Callback]:
        """Returns the callbacks by class name, numbered where one class comes twice."""
        named: dict[str, Callback] = {}
        for callback in self.callbacks:
            kind = type(callback).__name__
            same = sum(type(other) is type(callback) for other in named.values())
            named[f"{kind}_{same}" if same else kind] = callback
        return named

    def run(self) -> History:
        """Trains until the last epoch is done."""
        for callback in self.callbacks:
            callback.on_train_begin()
        stream = self.feed.batches(self.batches) if self.epoch < self.epochs else iter(())
        try:
            while self.epoch < self.epochs:
                self._run_epoch(stream)
                self.epoch, self.step, self.sums = self.epoch + 1, 0, {}
        finally:
            for callback in self.callbacks:
                callback.on_train_end()
        return self.history

    def _run_epoch(self, stream: Iterator[Any]) -> None:
        model = self.model
        for callback in self.callbacks:
            callback.on_epoch_begin(self.epoch)
        self.sums = self.sums or model.parallel.replicate(zero_sums(model.log_names))
        ahead: deque[Sums] = deque()
        while self.step < self.steps:
            fed = as_fed(next(stream))
            size = len(jax.tree.leaves(fed.x)[0])
            model.state, self.sums = model.train_function(size)(model.state, self.sums, fed)
            self.step, self.batches = self.step + 1, self.batches + 1
            logs = BatchLogs(self.step - 1, size, self.sums)
            for callback in self.callbacks:
                callback.on_train_batch_end(self.step - 1, logs)
            ahead.append(self.sums)
            if len(ahead) > _STEPS_AHEAD:
                jax.block_until_ready(ahead.popleft())
        self._check_finite()
        epoch_logs = means(self.sums)
        if self.validation is not None:
            validated = model.evaluate_feed(self.validation)
            epoch_logs |= {f"val_{name}": value for name, value in validated.items()}
        for callback in self.callbacks:
            callback.on_epoch_end(self.epoch, epoch_logs)

    def _check_finite(self) -> None:
        step, term = np.asarray(self.model.state.failure)
        if step >= 0:
            raise FloatingPointError(
                f"the {FAILURES[term]} of step {step} (counted from 0) was not finite; the update "
                "was refused, and the parameters are those before it. Lower the learning rate, "
                "clip the gradient, or look at that step's images."
            )


def evaluate(model: "Model", feed: Feed) -> Sums:
    """Sums losses over one pass of a feed."""
    sums = model.parallel.replicate(zero_sums(model.log_names))
    stream = feed.batches(0)
    for _ in range(len(feed)):
        fed = as_fed(next(stream))
        size = len(jax.tree.leaves(fed.x)[0])
        sums = model.evaluate_function(size)(model.state, sums, fed)
    return jax.tree.map(jnp.asarray, sums)
