"""The record of a fit."""

from typing import Any

from yolo_jax.model.callbacks import Callback


class History(Callback):
    """Keeps every epoch's logs.

    Attributes:
        epoch: the epochs' numbers, from 0.
        history: for each log key its values by epoch.
    """

    def __init__(self) -> None:
        self.epoch: list[int] = []
        self.history: dict[str, list[float]] = {}

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Appends the logs."""
        self.epoch.append(epoch)
        for key, value in (logs or {}).items():
            self.history.setdefault(key, []).append(float(value))

    def state_dict(self) -> dict:
        """Returns all of it, for the checkpoint."""
        return {"epoch": list(self.epoch), "history": {k: list(v) for k, v in self.history.items()}}

    def load_state_dict(self, state: dict) -> None:
        """Takes it back."""
        self.epoch = list(state["epoch"])
        self.history = {key: list(values) for key, values in state["history"].items()}
