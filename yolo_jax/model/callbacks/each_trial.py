"""`EachTrial`: callbacks of one trial among those that are trained together."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from yolo_jax.model.callbacks.callback import Callback, CallbackList, Logs

AT = "@"  # between a log's name and the trial's


def own_logs(logs: Mapping[str, Any], trial: str) -> dict[str, Any]:
    """Returns a trial's own logs, under the names that they have where it is trained alone."""
    end = f"{AT}{trial}"
    return {key.removesuffix(end): value for key, value in logs.items() if key.endswith(end)}


def means(logs: Mapping[str, Any], trials: Sequence[str]) -> dict[str, Any]:
    """Returns the logs without those of single trials."""
    ends = tuple(f"{AT}{trial}" for trial in trials)
    return {key: logs[key] for key in logs if not key.endswith(ends)}


class EachTrial(Callback):
    """Calls each trial's own callbacks at epochs' ends, with the trial's own logs.

    One that has diverged is called no more: its files end with its last whole epoch.

    Args:
        callbacks: of each trial, by its name; such as look at logs, not at the model's weights.
    """

    def __init__(self, callbacks: Mapping[str, Sequence[Callback]]) -> None:
        self.each = {trial: CallbackList(own) for trial, own in callbacks.items()}

    def set_model(self, model: Any) -> None:
        """Gives every callback the model of all trials."""
        super().set_model(model)
        for own in self.each.values():
            own.set_model(model)

    def set_params(self, params: dict[str, Any]) -> None:
        """Gives every callback the numbers of the call."""
        super().set_params(params)
        for own in self.each.values():
            own.set_params(params)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Has every callback begin."""
        for own in self.each.values():
            own.on_train_begin()

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Has every callback begin an epoch."""
        for own in self.each.values():
            own.on_epoch_begin(epoch)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Hands out the trials' logs."""
        for trial, own in self.each.items():
            found = own_logs(logs or {}, trial)
            if math.isfinite(found.get("loss", math.nan)):
                own.on_epoch_end(epoch, found)

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Has every callback end."""
        for trial, own in self.each.items():
            own.on_train_end(own_logs(logs or {}, trial))

    def close(self) -> None:
        """Closes every callback."""
        for own in self.each.values():
            own.close()

    def state_dict(self) -> dict[str, Any]:
        """Returns what each trial's callbacks keep, in their order."""
        return {trial: [one.state_dict() for one in own] for trial, own in self.each.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Gives it back to them."""
        for trial, own in self.each.items():
            for one, kept in zip(own, state.get(trial, []), strict=False):
                one.load_state_dict(kept)
