"""Callbacks that log to a tracker's server or files: `WandB`, `MLflow`, `Aim`.

Their libraries are extras, which are imported when one of these is made.
"""

import abc
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from yolo_jax.core.extras import module_of_extra
from yolo_jax.model.callbacks.callback import Callback, Logs
from yolo_jax.training.distributed import is_first

_log = logging.getLogger(__name__)
_PARAMS_AT_ONCE = 100  # MLflow takes no more


class Tracker(Callback, abc.ABC):
    """Logs the config and every epoch's logs as one run of a tracker; the step is the epoch.

    A fit that is resumed goes on with the same run. The first of several processes logs alone.

    Args:
        project: that the run is shown under.
        name: of the run; None: one of the tracker's.
        config: what the run was started with, by name.
    """

    def __init__(self, project: str, name: str | None, config: Mapping[str, Any] | None) -> None:
        self.project, self.name, self.config = project, name, dict(config or {})
        self._id: str | None = None
        self._is_open = self._has_failed = self._is_done = False

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Begins the run, or goes on with it."""
        self._has_failed = self._is_done = False
        if is_first():
            self._is_open = self._attempt(self._open)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Logs what are numbers."""
        if self._is_open:
            numbers = {name: _number(value) for name, value in (logs or {}).items()}
            known = {name: value for name, value in numbers.items() if value is not None}
            self._attempt(lambda: self._write(epoch, known))

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Notes that the fit came to its end."""
        self._is_done = True

    def close(self) -> None:
        """Ends the run, as finished or failed."""
        if self._is_open:
            self._attempt(self._finish)
        self._is_open = False

    def log_after_fit(self, step: int, numbers: Mapping[str, float]) -> None:
        """Logs what is known only when the fit is over to its run, which is opened again for it.

        Args:
            step: of the numbers.
            numbers: by name.
        """
        if is_first():
            self._is_open = self._attempt(self._open)
        if self._is_open:
            self._attempt(lambda: self._write(step, numbers))
        self.close()

    def state_dict(self) -> dict[str, Any]:
        """Returns the tracker's own name of the run."""
        return {"id": self._id}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes it back."""
        self._id = state["id"]

    def _attempt(self, action: Callable[[], None]) -> bool:
        """Tells whether the tracker did something; once it has failed it is left alone."""
        if self._has_failed:
            return False
        try:
            action()
        except Exception as error:
            # Days of training are worth more than their copy on somebody's server, which may be
            # down for a minute: nothing that a tracker raises ends them. All is in history.csv.
            self._has_failed = True
            _log.warning(
                "%s failed and is left out from here on: %s: %s; the training goes on",
                type(self).__name__,
                type(error).__name__,
                " ".join(str(error).split()),
            )
        return not self._has_failed

    @abc.abstractmethod
    def _open(self) -> None:
        """Begins a run, or goes on with that of `_id`, which it sets."""

    @abc.abstractmethod
    def _write(self, epoch: int, numbers: Mapping[str, float]) -> None:
        """Logs an epoch's numbers."""

    @abc.abstractmethod
    def _finish(self) -> None:
        """Ends the run."""


class WandB(Tracker):
    """Logs to Weights & Biases, as its own settings say (`WANDB_MODE=offline`, `WANDB_DIR`).

    Args:
        project: of the run.
        name: of the run; None: one of its own.
        config: what the run was started with, by name.

    Raises:
        ValueError: the library is not there.
    """

    def __init__(
        self,
        project: str = "yolo_jax",
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(project, name, config)
        self._wandb = module_of_extra("wandb", "track", "logging to wandb")
        self._run: Any = None

    def _open(self) -> None:
        self._run = self._wandb.init(
            project=self.project,
            name=self.name,
            config=self.config,
            id=self._id,
            resume=None if self._id is None else "allow",
            reinit="create_new",  # one of the user's own goes on beside it
        )
        self._id = self._run.id
        # Its own steps never go back, as epochs do that a killed run has logged and not saved.
        self._run.define_metric("*", step_metric="epoch")

    def _write(self, epoch: int, numbers: Mapping[str, float]) -> None:
        self._run.log({"epoch": epoch, **numbers})

    def _finish(self) -> None:
        self._run.finish(exit_code=0 if self._is_done else 1)


class MLflow(Tracker):
    """Logs to MLflow, where `MLFLOW_TRACKING_URI` says or its own default.

    Args:
        project: name of MLflow's experiment, which is made.
        name: of the run; None: one of its own.
        config: what the run was started with, by name; MLflow's params.

    Raises:
        ValueError: the library is not there.
    """

    def __init__(
        self,
        project: str = "yolo_jax",
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(project, name, config)
        self._mlflow = module_of_extra("mlflow", "track", "logging to mlflow")
        self._client: Any = None

    def _open(self) -> None:
        # The client leaves the run alone that the user's own code may have begun.
        self._client = self._mlflow.MlflowClient()
        if self._id is not None:
            self._client.update_run(self._id, status="RUNNING")
            return
        known = self._client.get_experiment_by_name(self.project)
        experiment = known.experiment_id if known else self._client.create_experiment(self.project)
        self._id = self._client.create_run(experiment, run_name=self.name).info.run_id
        params = [
            self._mlflow.entities.Param(name, str(value)) for name, value in self.config.items()
        ]
        for start in range(0, len(params), _PARAMS_AT_ONCE):
            self._client.log_batch(self._id, params=params[start : start + _PARAMS_AT_ONCE])

    def _write(self, epoch: int, numbers: Mapping[str, float]) -> None:
        now = int(1000 * time.time())
        metric = self._mlflow.entities.Metric
        metrics = [metric(name, value, now, epoch) for name, value in numbers.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def _finish(self) -> None:
        self._client.set_terminated(self._id, "FINISHED" if self._is_done else "FAILED")


class Aim(Tracker):
    """Logs to an Aim repository.

    Args:
        project: name of Aim's experiment.
        name: of the run; None: one of its own.
        config: what the run was started with, by name.
        repo: the repository's folder or address; None: that of the folder one stands in, or above.

    Raises:
        ValueError: the library is not there.
    """

    def __init__(
        self,
        project: str = "yolo_jax",
        name: str | None = None,
        config: Mapping[str, Any] | None = None,
        repo: Path | str | None = None,
    ) -> None:
        super().__init__(project, name, config)
        self._aim = module_of_extra("aim", "aim", "logging to aim")
        self.repo = None if repo is None else str(repo)
        self._run: Any = None

    def _open(self) -> None:
        self._run = self._aim.Run(
            run_hash=self._id,
            repo=self.repo,
            experiment=self.project,
            system_tracking_interval=None,
            capture_terminal_logs=False,
        )
        if self._id is None and self.name is not None:
            self._run.name = self.name
        self._id = self._run.hash
        self._run["config"] = self.config

    def _write(self, epoch: int, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            self._run.track(value, name=name, step=epoch, epoch=epoch)

    def _finish(self) -> None:
        self._run["finished"] = self._is_done
        self._run.close()


def _number(value: Any) -> float | None:
    """Returns a log's value, if it is a number; trackers have no place for those that are none."""
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "fiub":
        return None
    return float(array.item())
