"""Callbacks that steer: `LearningRateScheduler`, `TerminateOnNaN`."""

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from yolo_jax.model.callbacks.callback import Callback, Logs


class LearningRateScheduler(Callback):
    """Sets the learning rate before every epoch, and logs it as `lr`.

    Args:
        schedule: called (epoch, lr), or (epoch) if it takes one argument; returns the new rate.
        verbose: 1 says so.

    Raises:
        TypeError: `schedule` is no function.
        ValueError: at an epoch's begin, when the schedule's value is no float.
    """

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        if not callable(schedule):
            raise TypeError(f"schedule must be a function; found {type(schedule).__name__}")
        self.schedule, self.verbose = schedule, verbose

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Sets the rate."""
        optimizer = self.model.optimizer
        if _takes_two(self.schedule):
            lr = self.schedule(epoch, float(optimizer.lr))
        else:
            lr = self.schedule(epoch)
        if not isinstance(lr, float | np.floating):
            raise ValueError(
                'The output of the "schedule" function should be float; found '
                f"{lr!r} ({type(lr).__name__}) at epoch {epoch}: convert it by float()"
            )
        optimizer.lr = float(lr)
        if self.verbose > 0:
            print(f"\nEpoch {epoch + 1:05d}: LearningRateScheduler setting learning rate to {lr}.")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Logs the rate."""
        if logs is not None:
            logs["lr"] = float(self.model.optimizer.lr)


def _takes_two(function: Callable[..., Any]) -> bool:
    """Tells whether a function can be called with two positional arguments.

    Asked of the signature: Keras tries the call, and hides a TypeError raised within.
    """
    try:
        inspect.signature(function).bind(0, 0.0)
    except TypeError:
        return False
    return True


class TerminateOnNaN(Callback):
    """Stops the fit at a batch whose loss is NaN or infinite; reads the loss of every batch."""

    def on_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Looks at the loss, which waits for the device."""
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(loss):
            print(f"Batch {batch}: Invalid loss, terminating training")
            self.model.stop_training = True
