"""Callbacks: hooks into `fit`, under Keras's names and in Keras's order."""

import csv
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensorboardX import SummaryWriter
from tqdm import tqdm

from yolo_jax.training.checkpoint import Checkpoints

if TYPE_CHECKING:
    from yolo_jax.model.model import Model

Logs = dict[str, float]


class Callback:
    """Does nothing at every hook.

    Attributes:
        model: the model being fitted.
        params: `epochs`, `steps` and `verbose` of the fit.
    """

    model: "Model"
    params: dict[str, Any]

    def set_model(self, model: "Model") -> None:
        """Receives the model before anything else."""
        self.model = model

    def set_params(self, params: dict[str, Any]) -> None:
        """Receives the numbers of the fit."""
        self.params = params

    def on_train_begin(self) -> None:
        """Runs before the first epoch."""

    def on_epoch_begin(self, epoch: int) -> None:
        """Runs before each epoch (counted from 0)."""

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float]) -> None:
        """Runs after each batch; reading a value from `logs` waits for the device."""

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Runs after each epoch and its validation; keys added to `logs` are kept."""

    def on_train_end(self) -> None:
        """Runs after the last epoch."""

    def state_dict(self) -> dict[str, Any]:
        """Returns what a checkpoint keeps of the callback, as JSON holds it."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` returned."""


class ProgbarLogger(Callback):
    """Shows each epoch's progress with the running loss and images per second.

    On a terminal a bar, elsewhere one line an epoch. The loss is fetched once a second.
    """

    def on_epoch_begin(self, epoch: int) -> None:
        """Opens the epoch's bar."""
        self._started = self._shown = time.perf_counter()
        self._rows = 0
        self._bar = tqdm(
            total=self.params["steps"],
            desc=f"Epoch {epoch + 1}/{self.params['epochs']}",
            disable=not sys.stderr.isatty(),
            leave=False,
        )

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float]) -> None:
        """Moves the bar; shows the numbers about once a second."""
        self._rows += int(logs["size"])
        self._bar.update()
        now = time.perf_counter()
        if not self._bar.disable and now - self._shown > 1:
            self._shown = now
            speed = self._rows / (now - self._started)
            self._bar.set_postfix_str(f"loss {logs['loss']:.4f}, {speed:.1f} images/s")

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Prints the epoch's line."""
        self._bar.close()
        seconds = time.perf_counter() - self._started
        shown = " - ".join(f"{key}: {value:.4f}" for key, value in logs.items())
        print(
            f"Epoch {epoch + 1}/{self.params['epochs']} - {seconds:.0f}s - "
            f"{self._rows / seconds:.1f} images/s - {shown}",
            flush=True,
        )


class CSVLogger(Callback):
    """Writes the whole History to a CSV file after every epoch, so that resuming leaves no gap."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Rewrites the file: the epochs before this one from History, then this one."""
        history = self.model.history
        keys = list(dict.fromkeys([*history.history, *logs]))
        rows = [
            [number, *(history.history[key][i] if key in history.history else "" for key in keys)]
            for i, number in enumerate(history.epoch)
            if number < epoch
        ]
        rows.append([epoch, *(logs.get(key, "") for key in keys)])
        partial = self.path.with_suffix(".partial")
        with partial.open("w", newline="") as file:
            csv.writer(file).writerows([["epoch", *keys], *rows])
        partial.replace(self.path)


class TensorBoard(Callback):
    """Writes each epoch's logs as TensorBoard scalars, the step being the epoch."""

    def __init__(self, log_dir: Path | str) -> None:
        self.log_dir = Path(log_dir)

    def on_train_begin(self) -> None:
        """Opens the events file."""
        self._writer = SummaryWriter(str(self.log_dir))

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Writes the scalars."""
        for key, value in logs.items():
            self._writer.add_scalar(key, value, epoch)
        self._writer.flush()

    def on_train_end(self) -> None:
        """Closes the events file."""
        self._writer.close()


class Checkpoint(Callback):
    """Saves the whole run, so that `fit(resume=folder)` goes on as if it had never stopped.

    Args:
        folder: of the checkpoints.
        keep: latest ones kept.
        monitor: log key whose least value marks the best one, kept too.
        every_steps: save within epochs as well, after so many batches.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        keep: int = 2,
        monitor: str | None = "val_loss",
        every_steps: int | None = None,
    ) -> None:
        self.folder, self.keep, self.monitor = Path(folder), keep, monitor
        self.every_steps = every_steps

    def on_train_begin(self) -> None:
        """Opens the folder."""
        self._checkpoints = Checkpoints(self.folder, keep=self.keep, monitor=self.monitor)

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float]) -> None:
        """Saves within the epoch where asked for; the epoch's end saves by itself."""
        due = self.every_steps is not None and (batch + 1) % self.every_steps == 0
        if due and batch + 1 < self.params["steps"]:
            self._save({})

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """Saves the finished epoch; runs after every other callback."""
        self._save(logs)

    def on_train_end(self) -> None:
        """Waits until the last save is on the disk."""
        self._checkpoints.close()

    def _save(self, logs: Logs) -> None:
        run = self.model.run
        self._checkpoints.save(run.batches, run.arrays(), run.progress(), logs)
