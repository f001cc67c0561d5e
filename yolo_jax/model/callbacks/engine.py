"""Callbacks that ask the engine for something: `ExponentialMovingAverage`, `Profile`."""

from pathlib import Path
from typing import Any

import jax

from yolo_jax.model.callbacks.callback import Callback, Logs


class ExponentialMovingAverage(Callback):
    """Keeps a moving average of the weights, which evaluate and predict use.

    The same as `compile(ema_decay=decay)`: the average is part of the step, on the device. It goes
    on where a resumed run's stood, and stays after the fit.

    Args:
        decay: what the average keeps of itself a step, between 0 and 1.

    Raises:
        ValueError: `decay` lies outside.
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"an average's decay lies from 0 to below 1; found {decay}")
        self.decay = decay

    def set_model(self, model: Any) -> None:
        """Turns the average on, before a checkpoint with one is read."""
        super().set_model(model)
        model.average_weights(self.decay)


class Profile(Callback):
    """Writes a `jax.profiler` trace of some steps, for TensorBoard or Perfetto.

    Args:
        folder: of the trace; made.
        first_step: the first step of this fit that is traced, from 0; those before compile and
            fill the caches.
        steps: that are traced.

    Raises:
        ValueError: `first_step` is negative, or there are no `steps`.
    """

    def __init__(self, folder: Path | str, first_step: int = 10, steps: int = 5) -> None:
        if first_step < 0 or steps < 1:
            raise ValueError(
                f"Profile takes a first_step from 0 and 1 step or more; found {first_step}, {steps}"
            )
        self.folder, self.first_step, self.steps = Path(folder), first_step, steps
        self._done = 0
        self._tracing = self._traced = False

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Counts from the fit's first step."""
        self._done, self._traced = 0, False

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Starts the trace, where it is time, once the device has done what came before."""
        self._begun = batch
        if self._done >= self.first_step and not self._traced:
            jax.block_until_ready(self.model.state.step)
            self.folder.mkdir(parents=True, exist_ok=True)
            jax.profiler.start_trace(str(self.folder))
            self._tracing = self._traced = True

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Ends the trace after its last step."""
        self._done += batch + 1 - self._begun  # several, where one call takes them
        if self._done >= self.first_step + self.steps:
            self._stop()

    def close(self) -> None:
        """Ends the trace of a fit that was shorter."""
        self._stop()

    def _stop(self) -> None:
        if self._tracing:
            jax.block_until_ready(self.model.state.step)
            jax.profiler.stop_trace()
        self._tracing = False
