"""Callbacks that save: `ModelCheckpoint` the model or its weights, `Checkpoint` the whole run."""

import logging
import sys
from pathlib import Path
from typing import Any, NoReturn

from yolo_jax.core.caller import warn_caller
from yolo_jax.core.numbers import whole_number
from yolo_jax.model import saved_run
from yolo_jax.model.callbacks.callback import Callback, Logs
from yolo_jax.model.callbacks.monitors import Monitoring
from yolo_jax.training.checkpoint import Checkpoints
from yolo_jax.training.distributed import Preempted, Preemption, is_first

_log = logging.getLogger(__name__)


class ModelCheckpoint(Monitoring):
    """Saves the model, or its weights, after epochs.

    For going on exactly where a run stood there is `Checkpoint`: no optimizer is in these files,
    so `save_weights_only` changes nothing, and both kinds are read by `model.load_weights`.

    Args:
        filepath: name of the file, with `{epoch}` (counted from 1) and any log key as
            `str.format` takes them: `ep{epoch:03d}-loss{loss:.3f}.h5`. Its folder is made.
        monitor: log key that decides the best epoch.
        verbose: 1 says what is done.
        save_best_only: save only when the watched value is better than all before.
        save_weights_only: taken so that scripts run.
        mode: `min`, `max` or `auto`.
        period: epochs between saves.

    Raises:
        ValueError: `period` is no whole number above 0.
        KeyError: at an epoch's end, when `filepath` names a key that the logs lack.
    """

    def __init__(
        self,
        filepath: Path | str,
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        period: int = 1,
    ) -> None:
        super().__init__(monitor, mode)
        self.filepath, self.verbose = str(filepath), verbose
        self.period = whole_number("ModelCheckpoint's period", period, 1)
        self.save_best_only, self.save_weights_only = save_best_only, save_weights_only
        self.epochs_since_last_save = 0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Saves, where it is time."""
        self.epochs_since_last_save += 1
        if self.epochs_since_last_save < self.period:
            return
        self.epochs_since_last_save = 0
        logs = {} if logs is None else logs
        path, number = self._path(epoch, logs), f"Epoch {epoch + 1:05d}"
        if not self.save_best_only:
            self._say(f"{number}: saving model to {path}")
            self._save(path)
            return
        current = self.value(logs, "Can save best model only with")
        if current is None:
            return
        if self.better(current, self.best):
            self._say(
                f"{number}: {self.monitor} improved from {self.best:.5f} to {current:.5f}, "
                f"saving model to {path}"
            )
            self.best = current
            self._save(path)
        else:
            self._say(f"{number}: {self.monitor} did not improve from {self.best:.5f}")

    def _path(self, epoch: int, logs: Logs) -> str:
        try:
            return self.filepath.format(epoch=epoch + 1, **logs)
        except KeyError as error:
            raise KeyError(
                f"ModelCheckpoint's filepath {self.filepath!r} names {error}; the logs have "
                f"epoch, {', '.join(logs)}"
            ) from error

    def _say(self, text: str) -> None:
        if self.verbose > 0 and is_first():
            print(f"\n{text}")

    def _save(self, path: str) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        self.model.save_weights(path)

    def state_dict(self) -> dict[str, Any]:
        """Returns the best value and the epochs since the last save."""
        return super().state_dict() | {"epochs_since_last_save": self.epochs_since_last_save}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes them back."""
        super().load_state_dict(state)
        self.epochs_since_last_save = state["epochs_since_last_save"]


class Checkpoint(Callback):
    """Saves the whole run, so that `fit(resume=folder)` goes on as if it had never stopped.

    On SIGTERM, or JAX's notice that a machine is to be given back, all processes save after the
    same step, and exit with status 143 (`Preempted`). A second SIGTERM exits at once.

    Args:
        folder: of the checkpoints.
        keep: latest ones kept.
        monitor: log key whose least value marks the best one, kept too. One that was in no
            epoch's logs is told of at the end.
        every_steps: save within epochs as well, after so many batches, or as soon behind them as
            a call of several steps ends.

    Raises:
        ValueError: `keep` or `every_steps` is no whole number above 0.
        NotADirectoryError: the folder is a file.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        keep: int = 2,
        monitor: str | None = "val_loss",
        every_steps: int | None = None,
    ) -> None:
        self.folder, self.monitor = Path(folder), monitor
        if self.folder.is_file():
            raise NotADirectoryError(
                f"Checkpoint keeps whole runs in a folder; {folder} is a file (weights alone are "
                "written by ModelCheckpoint)"
            )
        self.keep = whole_number("Checkpoint's keep", keep, 1)
        if every_steps is not None:
            every_steps = whole_number("Checkpoint's every_steps", every_steps, 1)
        self.every_steps = every_steps
        self._checkpoints: Checkpoints | None = None
        self._preemption = Preemption()

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Opens the folder."""
        self._logged: set[str] = set()
        self._checkpoints = Checkpoints(self.folder, keep=self.keep, monitor=self.monitor)
        self._preemption.listen()

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Remembers the first of the batches that one call takes."""
        self._begun = batch

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Saves within the epoch where asked for; the epoch's end saves by itself."""
        every = self.every_steps
        due = every is not None and (batch + 1) // every > self._begun // every
        assert self._checkpoints is not None  # since on_train_begin
        self._checkpoints.check()
        if self._preemption.reached():
            self._end_early()
        if due and batch + 1 != self.params["steps"]:
            self._save({})

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Stops within a validation, which is begun anew when the run goes on."""
        # An `evaluate` of its own has no run to save.
        if self._checkpoints is not None and self._preemption.reached():
            self._end_early()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Saves the finished epoch; runs after every other callback."""
        self._logged |= set(logs or {})
        self._save(logs or {})

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Tells of a monitor that was never there."""
        # The default goes unused wherever nothing is validated.
        if self._logged and self.monitor not in (None, "val_loss", *self._logged):
            warn_caller(
                f"Checkpoint's monitor {self.monitor!r} was in no epoch's logs, so that no best "
                f"checkpoint was kept. Available are: {', '.join(sorted(self._logged))}",
                RuntimeWarning,
            )

    def close(self) -> None:
        """Waits until the last save is on the disk; SIGTERM is heard for as long, and obeyed then.

        Raises:
            Preempted: it came during the last save.
        """
        was_open = self._checkpoints is not None
        try:
            if self._checkpoints is not None:
                self._checkpoints.close()
        finally:
            self._checkpoints = None
            is_told = self._preemption.ignore()
        if is_told and was_open and sys.exception() is None:
            raise Preempted

    def _end_early(self) -> NoReturn:
        self._save({})
        assert self._checkpoints is not None  # as _save says
        self._checkpoints.wait()  # lest a save that fails be told of as one that is kept
        _log.warning("asked to stop: %s keeps the run, which goes on from there", self.folder)
        raise Preempted

    def _save(self, logs: Logs) -> None:
        run = self.model.run
        assert self._checkpoints is not None  # since the fit began
        self._checkpoints.save(
            run.batches, saved_run.arrays_of(run), saved_run.progress_of(run), dict(logs)
        )
