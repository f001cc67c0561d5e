"""Callbacks driven by hand, over a model of one weight."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from yolo_jax.model.callbacks import (
    CallbackList,
)


class Optimizer:
    """Holds its rate in float32, as ours on the device."""

    def __init__(self) -> None:
        self.lr = 0.1

    @property
    def lr(self) -> float:
        return float(self._lr)

    @lr.setter
    def lr(self, value: float) -> None:
        self._lr = np.float32(value)


class Tiny:
    """One weight, an optimizer and files: what callbacks act on."""

    def __init__(self, epoch: int = 0) -> None:
        self.stop_training, self.optimizer = False, Optimizer()
        self.weights = [np.zeros(1, np.float32)]
        self.run = SimpleNamespace(epoch=epoch)

    def get_weights(self):
        return [array.copy() for array in self.weights]

    def set_weights(self, weights):
        self.weights = [array.copy() for array in weights]

    averaged_layers = staticmethod(nullcontext)

    def save_weights(self, path):
        Path(path).write_text("weights")


def drive(callback, values, key="val_loss", *, model=None, first=0, end=True):
    """Calls the hooks as fit does; yields (logs, rate during the epoch) after each epoch."""
    model = model or Tiny()
    each = CallbackList([callback])
    each.set_params({"epochs": len(values), "steps": 1, "verbose": 0})
    each.set_model(model)
    each.on_train_begin()
    for epoch, value in enumerate(values, first):
        model.weights = [np.full(1, epoch, np.float32)]
        each.on_epoch_begin(epoch)
        rate = model.optimizer.lr
        logs = {"loss": 1.0}
        if value is not None:
            logs[key] = float(value)
        each.on_epoch_end(epoch, logs)
        yield logs, rate
        if model.stop_training:
            break
    if end:
        each.on_train_end()
        each.close()
