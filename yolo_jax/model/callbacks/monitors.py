"""Callbacks that watch a log key: `EarlyStopping`, `ReduceLROnPlateau`."""

import base64
import math
from typing import Any

import numpy as np

from yolo_jax.core.caller import warn_caller
from yolo_jax.core.numbers import finite_number, whole_number
from yolo_jax.model.callbacks.callback import Callback, Logs


class Monitoring(Callback):
    """Watches one log key and remembers its best value.

    Args:
        monitor: the log key.
        mode: `min`, `max`, or `auto`: `max` for keys with `acc` in them and for `MeanAP`'s, else
            `min`.

    Raises:
        TypeError: `monitor` is no text.

    Attributes:
        best: the best value so far; infinite before the first.
    """

    def __init__(self, monitor: str, mode: str) -> None:
        if not isinstance(monitor, str):
            raise TypeError(f"monitor is a key of the logs, such as 'val_loss'; found {monitor!r}")
        if mode not in ("auto", "min", "max"):
            warn_caller(
                f"{type(self).__name__} mode {mode!r} is unknown, fallback to auto mode.",
                RuntimeWarning,
            )
            mode = "auto"
        if mode == "auto":
            mode = "max" if _is_better_when_greater(monitor) else "min"
        self.monitor, self.mode = monitor, mode
        self.best = self.worst = math.inf if mode == "min" else -math.inf

    def better(self, value: float, other: float) -> bool:
        """Tells whether a value is strictly better than another; NaN never is."""
        return value < other if self.mode == "min" else value > other

    def value(self, logs: Logs | None, complaint: str) -> float | None:
        """Returns the watched value; None, with a warning, where the logs lack it."""
        logs = logs or {}
        if self.monitor in logs:
            return float(logs[self.monitor])
        warn_caller(
            f"{complaint} `{self.monitor}` which is not available. Available metrics are: "
            f"{','.join(logs)}",
            RuntimeWarning,
        )
        return None

    def state_dict(self) -> dict[str, Any]:
        """Returns the best value; null while there is none, as JSON knows no infinity."""
        return {"best": self.best if math.isfinite(self.best) else None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes the best value back."""
        self.best = self.worst if state["best"] is None else state["best"]


class EarlyStopping(Monitoring):
    """Stops the fit when the watched value has stopped improving.

    A value improves when value + min_delta < best (min) or value − min_delta > best (max). The
    weights are restored when it stops, not when the epochs simply end.

    `best` starts at the baseline, so only values beyond it count. With `restore_best_weights` there
    must be weights to restore, so there `best` starts at infinity and the baseline only keeps
    the patience running, as Keras does from 2.4 on (2.3 crashes). So values that improve without
    reaching the baseline stop it only when they cease to improve.

    A checkpoint of the run holds the weights kept for restoring within its JSON, in base64: a third
    more than their size in memory. A fit that resumes behind such a stop trains no further, unless
    its patience is longer.

    Args:
        monitor: log key to watch.
        min_delta: least change that is an improvement; below 0 a value may be that much worse.
        patience: epochs without improvement after which it stops; 0 is as 1.
        verbose: 1 says so when it stops.
        mode: `min`, `max` or `auto`.
        baseline: a value to beat.
        restore_best_weights: go back to the best epoch's weights when it stops.

    Attributes:
        wait: epochs since the last improvement.
        stopped_epoch: where it stopped, or 0.
        best_weights: of the best epoch, where they are to be restored.

    Raises:
        ValueError: `patience` is no whole number, or `min_delta` or `baseline` no number.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
    ) -> None:
        super().__init__(monitor, mode)
        min_delta = finite_number("min_delta", min_delta)
        self.min_delta = min_delta if self.mode == "min" else -min_delta
        self.patience, self.verbose = whole_number("patience", patience), verbose
        self.baseline = None if baseline is None else finite_number("baseline", baseline)
        self.restore_best_weights = restore_best_weights
        self._resumed = False
        self._reset()

    def _reset(self) -> None:
        self.wait = self.stopped_epoch = 0
        self._stopped = False  # which `stopped_epoch`, 0 in the first too, does not tell
        self.best = self.worst
        if self.baseline is not None and not self.restore_best_weights:
            self.best = self.baseline
        self.best_weights: list[np.ndarray] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Starts afresh, unless a checkpoint was just read; behind a stop it stops again."""
        if not self._resumed:
            self._reset()
        self._resumed = False
        self._stopped = self._stopped and self.wait >= self.patience
        if self._stopped:
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Judges the epoch."""
        current = self.value(logs, "Early stopping conditioned on metric")
        if current is None:
            return
        if self.restore_best_weights and self.best_weights is None:
            # Should no epoch improve (NaN), the first is what is gone back to.
            self.best_weights = self._judged_weights()
        self.wait += 1
        if self.better(current + self.min_delta, self.best):
            self.best = current
            if self.restore_best_weights:
                self.best_weights = self._judged_weights()
            if not self._short_of_baseline(current):
                self.wait = 0
        elif self.wait >= self.patience:
            self.stopped_epoch, self._stopped = epoch, True
            self.model.stop_training = True
            if self.best_weights is not None:
                if self.verbose > 0:
                    print("Restoring model weights from the end of the best epoch")
                self.model.set_weights(self.best_weights)

    def _judged_weights(self) -> list[np.ndarray]:
        """Returns the weights that the epoch's value is of: the average, where there is one."""
        with self.model.averaged_layers():
            return self.model.get_weights()

    def _short_of_baseline(self, current: float) -> bool:
        if self.baseline is None or not self.restore_best_weights:
            return False
        return not self.better(current + self.min_delta, self.baseline)

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Says where it stopped."""
        if self.stopped_epoch > 0 and self.verbose > 0:
            print(f"Epoch {self.stopped_epoch + 1:05d}: early stopping")

    def state_dict(self) -> dict[str, Any]:
        """Returns what it knows, weights to restore included."""
        kept = self.best_weights
        return super().state_dict() | {
            "wait": self.wait,
            "stopped_epoch": self.stopped_epoch,
            "stopped": self._stopped,
            "best_weights": None if kept is None else [_encode(array) for array in kept],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes it back."""
        super().load_state_dict(state)
        self.wait, self.stopped_epoch = state["wait"], state["stopped_epoch"]
        # A checkpoint that was made before this was kept lacks it.
        self._stopped = state.get("stopped", self.stopped_epoch > 0)
        kept = state["best_weights"]
        self.best_weights = None if kept is None else [_decode(array) for array in kept]
        self._resumed = True


class ReduceLROnPlateau(Monitoring):
    """Multiplies the learning rate by `factor` when the watched value stands still.

    Args:
        monitor: log key to watch.
        factor: new rate / old rate; less than 1.
        patience: epochs without improvement after which the rate is reduced; 0 is as 1.
        verbose: 1 says so.
        mode: `min`, `max` or `auto`.
        min_delta: least change that is an improvement.
        cooldown: epochs after a reduction in which nothing is counted.
        min_lr: least rate.
        epsilon: the old name of `min_delta`.

    Attributes:
        wait: epochs counted since the last improvement or reduction.
        cooldown_counter: epochs of the cooldown that are left.

    Raises:
        ValueError: the factor is 1 or more, or a number is none or negative.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0,
        *,
        epsilon: float | None = None,
    ) -> None:
        super().__init__(monitor, mode)
        if finite_number("factor", factor, 0) >= 1.0:
            raise ValueError(
                f"ReduceLROnPlateau does not support a factor >= 1.0; found factor={factor}"
            )
        if epsilon is not None:
            warn_caller(
                "`epsilon` argument is deprecated and will be removed, use `min_delta` instead."
            )
            min_delta = epsilon
        self.factor, self.verbose = factor, verbose
        self.patience = whole_number("patience", patience)
        self.min_delta = finite_number("min_delta", min_delta)
        self.cooldown = whole_number("cooldown", cooldown)
        self.min_lr = finite_number("min_lr", min_lr, 0)
        self._resumed = False
        self._reset()

    def _reset(self) -> None:
        self.best, self.wait, self.cooldown_counter = self.worst, 0, 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Starts afresh, unless a checkpoint was just read."""
        if not self._resumed:
            self._reset()
        self._resumed = False

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Logs this epoch's rate as `lr`, then judges the epoch."""
        logs = {} if logs is None else logs
        optimizer = self.model.optimizer
        lr = logs["lr"] = float(optimizer.lr)
        current = self.value(logs, "Reduce LR on plateau conditioned on metric")
        if current is None:
            return
        if self.in_cooldown():
            self.cooldown_counter -= 1
            self.wait = 0
        margin = self.min_delta if self.mode == "min" else -self.min_delta
        if self.better(current, self.best - margin):
            self.best, self.wait = current, 0
        elif not self.in_cooldown():
            self.wait += 1
            if self.wait >= self.patience and lr > self.min_lr:
                reduced = max(lr * self.factor, self.min_lr)
                optimizer.lr = reduced
                if self.verbose > 0:
                    print(
                        f"\nEpoch {epoch + 1:05d}: ReduceLROnPlateau reducing learning rate to "
                        f"{reduced}."
                    )
                self.cooldown_counter, self.wait = self.cooldown, 0

    def in_cooldown(self) -> bool:
        """Tells whether a reduction is too recent for another."""
        return self.cooldown_counter > 0

    def state_dict(self) -> dict[str, Any]:
        """Returns what it knows; the rate itself is the optimizer's."""
        return super().state_dict() | {
            "wait": self.wait,
            "cooldown_counter": self.cooldown_counter,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes it back."""
        super().load_state_dict(state)
        self.wait, self.cooldown_counter = state["wait"], state["cooldown_counter"]
        self._resumed = True


def _is_better_when_greater(monitor: str) -> bool:
    own = monitor.removeprefix("val_") in ("AP", "AP50")
    return own or "acc" in monitor or monitor.startswith("fmeasure")


def _encode(array: np.ndarray) -> dict[str, Any]:
    array = np.asarray(array)
    data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")
    return {"dtype": array.dtype.name, "shape": list(array.shape), "data": data}


def _decode(kept: dict[str, Any]) -> np.ndarray:
    flat = np.frombuffer(base64.b64decode(kept["data"]), np.dtype(kept["dtype"]))
    return flat.reshape(kept["shape"]).copy()
