"""A sweep's folder: what it is of, and beside each trial's run folder its log and its failure."""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from yolo_jax.config import ExperimentConfig
from yolo_jax.config.flat import flatten, with_changes
from yolo_jax.core.json_files import read_json, save_json
from yolo_jax.core.locks import locked
from yolo_jax.data.doctor import listed
from yolo_jax.experiment.groups import note_group
from yolo_jax.run_folder import RunFolder, differences, is_complete
from yolo_jax.sweep.trials import Trial

_FORMAT = 1


class Progress(NamedTuple):
    """How far a trial is.

    Attributes:
        history: its logs by epoch, `epoch` among them.
        figures: held-out ones, None before its end.
    """

    history: list[dict[str, float]]
    figures: dict[str, Any] | None

    @property
    def epochs(self) -> int:
        """Returns the epochs behind it."""
        return int(self.history[-1]["epoch"]) + 1 if self.history else 0

    def last(self, name: str) -> float | None:
        """Returns a log of the last epoch that has it, or None where none has."""
        values = (row.get(name, math.nan) for row in reversed(self.history))
        return next((value for value in values if not math.isnan(value)), None)


class SweepFolder:
    """A sweep's folder, `runs/NAME` of its config.

    Args:
        base: the config that its trials change.
    """

    def __init__(self, base: ExperimentConfig) -> None:
        self.path = base.runs / base.name
        self.base = base
        self.trials: list[Trial] = []
        self._record = self.path / "sweep.json"
        self._first_base: dict[str, Any] | None = None  # as of the sweep's first start
        self._horizon: int | None = None
        self._read: dict[str, tuple[tuple, Progress]] = {}

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keeps other sweeps out of the folder, as long as the block or this process lasts.

        Raises:
            ValueError: a living process has it; or the folder holds no sweep, but other files.
        """
        self._refuse_other_files()
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path / "lock", "choose another --name"):
            yield

    def resolve(self, trials: Sequence[Trial]) -> None:
        """Takes trials beside those that the folder has; of a sweep that goes on, checks them.

        Args:
            trials: that may be more, or fewer, than the folder has.

        Raises:
            ValueError: the folder holds a sweep of another base config, or has other fields of a
                trial of the same name; those that differ are named.
        """
        self._refuse_other_files()
        self.trials = list(trials)
        if self._record.is_file():
            self._check_same(read_json(self._record, dict))

    def _check_same(self, stored: dict[str, Any]) -> None:
        base = json.loads(json.dumps(flatten(self.base)))
        if stored.get("format") != _FORMAT or not {"base", "trials"} <= stored.keys():
            raise ValueError(
                f"{self._record} is damaged or of another version; expected format {_FORMAT}"
            )
        otherwise = "Choose another --name, or go back to the sweep's own"
        # Fields that are younger than the sweep are None to it.
        if differing := differences(dict.fromkeys(base) | stored["base"], base):
            raise ValueError(
                f"{self.path} holds a sweep of another config; these differ: {differing}. "
                f"{otherwise} config."
            )
        own = {trial.name.casefold(): trial for trial in self.trials}
        for one in stored["trials"]:
            trial = own.get(one["name"].casefold())
            if trial is None:
                self.trials.append(Trial(one["name"], one["changes"]))
            elif trial.name != one["name"]:
                raise ValueError(
                    f"{self.path} has a trial {one['name']}, and now one {trial.name}: some disks "
                    "do not tell them apart; give it another name"
                )
            elif differing := differences(one["changes"], trial.changes):
                raise ValueError(
                    f"{self.path} has a trial {trial.name} with other values: {differing}. "
                    f"{otherwise} values; trials of other names may be added."
                )
        # Trials that are added later end their schedules where the others do.
        if self.base.optimizer.horizon is None and stored["base"]["epochs"] != base["epochs"]:
            self._horizon = stored["base"]["epochs"]
        self._first_base = stored["base"]

    def save(self, config_file: Path) -> None:
        """Writes what the sweep is of.

        Args:
            config_file: as it was given.
        """
        trials = [trial._asdict() for trial in self.trials]
        base = self._first_base or flatten(self.base)
        record = {"format": _FORMAT, "config": config_file.as_posix(), "base": base}
        save_json(self._record, record | {"trials": trials})

    def changes(self, trial: Trial) -> dict[str, Any]:
        """Returns all that a trial's run has other than the base: its place too."""
        own: dict[str, Any] = {"name": trial.name, "runs": self.path.as_posix()}
        if self._horizon is not None and "epochs" not in trial.changes:
            own["optimizer.horizon"] = self._horizon
        return own | trial.changes

    def config(self, trial: Trial) -> ExperimentConfig:
        """Returns the config of a trial's run."""
        return with_changes(self.base, self.changes(trial))

    def log(self, trial: Trial) -> Path:
        """Returns the file of what a trial prints."""
        return self.path / f"{trial.name}.log"

    def ticket(self, name: str) -> Path:
        """Returns the file of the number of a unit's job, by its first trial, in a cluster."""
        return self.path / f"{name}.job.json"

    def progress(self, trial: Trial) -> Progress:
        """Returns how far a trial is; files are read where they changed since the last time."""
        run = self.run(trial)
        stamps = _stamp(run.history_file), _stamp(run.figures_file)
        if trial.name not in self._read or self._read[trial.name][0] != stamps:
            self._read[trial.name] = stamps, Progress(run.history(), run.figures())
        return self._read[trial.name][1]

    def is_done(self, trial: Trial) -> bool:
        """Tells whether a trial has its figures, of all its epochs."""
        figures = self.run(trial).figures()
        return is_complete(figures, self.config(trial).epochs)

    def is_begun(self, trial: Trial) -> bool:
        """Tells whether a trial has a run, or a job that waits for its turn."""
        return self.run(trial).is_begun or self.ticket(trial.name).exists()

    def begin(self, unit: Sequence[Trial]) -> None:
        """Notes which trials one program trains, before it is there: so they go on ever after."""
        if len(unit) > 1:
            note_group([self.config(trial) for trial in unit])

    def check_free(self, unit: Sequence[Trial]) -> None:
        """Checks that no living process has a unit's run folders, unless it is a job of ours.

        Raises:
            ValueError: one has.
        """
        if self.ticket(unit[0].name).exists():
            return
        for run in map(self.run, unit):
            if run.path.is_dir():
                with run.in_use():
                    pass

    def run(self, trial: Trial) -> RunFolder:
        """Returns a trial's run folder."""
        return RunFolder(self.path / trial.name)

    def _refuse_other_files(self) -> None:
        """Refuses a run's folder, or one of somebody's own files."""
        if self._record.is_file() or not self.path.is_dir():
            return
        early = ("lock", "sweep.partial", "study.db")
        others = sorted(path.name for path in self.path.iterdir() if path.name not in early)
        if others:
            raise ValueError(
                f"{self.path} holds no sweep (there is no {self._record.name}) but "
                f"{listed(others)}; choose another --name, or an empty folder"
            )


def _stamp(path: Path) -> tuple[int, ...] | None:
    """Returns what changes with a file, or None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
