"""Sweeps that tests start as a user does, and stop; and processes that end as they are told."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from child_processes import ended

from yolo_jax.launch.job import Job
from yolo_jax.run_folder import RunFolder
from yolo_jax.sweep.folder import SweepFolder
from yolo_jax.sweep.run import Entry, Source, Sweeper

CONFIGS = Path(__file__).parent / "configs"
PATIENCE = 900  # s; more than a busy machine takes for all trials
CONFIG = CONFIGS / "short_sweep.py"


@contextmanager
def started(log: Path, *options: str, config: Path = CONFIG) -> Iterator[subprocess.Popen]:
    """Starts a sweep that prints to a log."""
    command = [sys.executable, "-m", "yolo_jax", "sweep", str(config), *options]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with log.open("w") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)
    with ended(process):
        yield process


def finish(log: Path, *options: str, config: Path = CONFIG) -> tuple[int, str]:
    """Runs a sweep to its end; returns its exit status, and what it printed."""
    with started(log, *options, config=config) as process:
        return process.wait(PATIENCE), log.read_text()


_HOLDER = """
import sys
from pathlib import Path
from yolo_jax.core.locks import locked
with locked(Path(sys.argv[1]), ""):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_process_has(folder: Path) -> Iterator[int]:
    """Keeps a folder in use by a living process, whose number it yields."""
    command = [sys.executable, "-c", _HOLDER, str(folder / "lock")]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with ended(holder):
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        yield holder.pid


@dataclass
class _Ended:
    """A process that is over."""

    code: int

    def status(self) -> int:
        return self.code

    def stop(self) -> None:
        pass

    def kill(self) -> None:
        pass


class Scripted:
    """A backend whose processes are over at once, each with the next status.

    Args:
        statuses: or what is called in the place of a process, with its trials' run folders.

    Attributes:
        started: names of each process's trials.
    """

    parallel: int | None = 1
    pause = 0.0

    def __init__(self, *statuses: int | Callable[[list[RunFolder]], int]) -> None:
        self._statuses = list(statuses)
        self.started: list[list[str]] = []

    def start(self, job: Job, log: Path) -> _Ended:
        names = [json.loads(word)["name"] for word in job.arguments if word != "--changes"]
        self.started.append(names)
        status = self._statuses.pop(0)
        if not isinstance(status, int):
            status = status([RunFolder(log.parent / name) for name in names])
        return _Ended(status)


def leave_figures(*runs: RunFolder, epochs: int) -> None:
    """Leaves the figures of runs that are done."""
    for run in runs:
        run.path.mkdir(parents=True, exist_ok=True)
        run.save_figures({"AP": 0.5, "AP50": 0.5, "sources": {}, "epochs": epochs})


def run_scripted(
    folder: SweepFolder, source: Source, backend: Scripted, restarts: int = 0
) -> dict[str, Entry]:
    """Runs a sweep by a scripted backend; returns how its trials stand."""
    entries: dict[str, Entry] = {}
    Sweeper(folder, entries, backend, Job, lambda entries: None, restarts).run(source)
    return entries
