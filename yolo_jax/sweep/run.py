"""The loop of a sweep: processes started, looked at and ended, whatever they run on."""

import json
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Literal, Protocol

from yolo_jax.core.interrupts import Terminated
from yolo_jax.launch.job import Job
from yolo_jax.run_folder import Failure, FailureKind
from yolo_jax.sweep.folder import Progress, SweepFolder
from yolo_jax.sweep.trials import Trial
from yolo_jax.training.distributed import EXIT_DIVERGED, EXIT_PREEMPTED

State = Literal["waiting", "running", "done", "stopped"] | FailureKind
Unit = tuple[Trial, ...]  # trials that one process runs
_SIGNALLED = 128  # and the signal's number
_KILLED = _SIGNALLED + signal.SIGKILL
# Of a process that was asked to end; by the signal itself where it could not say so yet.
_STOPPED = (EXIT_PREEMPTED, _SIGNALLED + signal.SIGINT)
_DOUBLED_SECONDS = 1.0  # between two signals that are one, to the group and to this process


class Process(Protocol):
    """A unit's process, somewhere."""

    def status(self) -> int | None:
        """Returns the exit status as a shell says it, or None while it waits or runs."""
        ...

    def stop(self) -> None:
        """Has it save and end."""
        ...

    def kill(self) -> None:
        """Ends it at once."""
        ...


class NotStarted(Exception):
    """A process could not be started; others may be, and so may this one another time."""


class Backend(Protocol):
    """What processes run on.

    Attributes:
        parallel: processes at once; None: as many as there are.
        pause: s between two looks at them.
    """

    parallel: int | None
    pause: float

    def start(self, job: Job, log: Path) -> Process:
        """Starts a process, or has it wait for its resources.

        Args:
            job: to run, in one process.
            log: file that what it prints is added to.

        Raises:
            NotStarted: a queue refuses it.
        """
        ...


class Source(Protocol):
    """Where trials come from."""

    def next(self) -> Unit | None:
        """Returns the next trials to run, or None where there are none any more."""
        ...

    def is_hopeless(self, trial: Trial, progress: Progress) -> bool:
        """Tells whether a running trial is to end early."""
        ...

    def ended(self, entry: "Entry") -> None:
        """Takes note of a trial that is over; not of one that was stopped and goes on later."""
        ...


@dataclass
class Entry:
    """A trial as the table shows it.

    Attributes:
        trial: itself.
        epochs: that it is to have.
        state: of it.
        progress: how far it is.
        seconds: that it ran in this start of the sweep; None: it has not.
        message: why it failed.
    """

    trial: Trial
    epochs: int
    state: State
    progress: Progress
    seconds: float | None = None
    message: str = ""


class Listed:
    """Trials that are known beforehand.

    Args:
        units: of them, to run.
    """

    def __init__(self, units: Iterable[Unit]) -> None:
        self._left = deque(units)

    def next(self) -> Unit | None:
        """Returns the next trials."""
        return self._left.popleft() if self._left else None

    def is_hopeless(self, trial: Trial, progress: Progress) -> bool:
        """Returns False: all run to their end."""
        return False

    def ended(self, entry: Entry) -> None:
        """Does nothing."""


@dataclass
class _Running:
    unit: Unit
    process: Process
    since: float
    log_start: int  # bytes of the log that are of earlier starts
    found: set[str]  # trials whose figures lay there, though the sweep knew them not as done
    is_told: bool = False  # to save and end
    pruned: set[str] = field(default_factory=set)


class Sweeper:
    """A sweep under way.

    Args:
        folder: of the sweep, in use by this process.
        entries: of the trials that are known, by name; others are added.
        backend: what runs them.
        job_of: makes the job of a unit's arguments.
        show: shows the entries, again and again.
        restarts: times that a trial which was preempted goes on, in this start of the sweep.
    """

    def __init__(
        self,
        folder: SweepFolder,
        entries: dict[str, Entry],
        backend: Backend,
        job_of: Callable[[tuple[str, ...]], Job],
        show: Callable[[Sequence[Entry]], None],
        restarts: int = 0,
    ) -> None:
        self.folder, self.entries, self.backend = folder, entries, backend
        self._job_of, self._show, self._restarts = job_of, show, restarts
        self._running: list[_Running] = []
        self._again: deque[Unit] = deque()
        self._tries: dict[str, int] = {}

    def run(self, source: Source) -> None:
        """Runs the trials of a source to their ends.

        On SIGTERM and Ctrl-C the running trials save and end; on a second one they are killed.

        Args:
            source: of the trials.

        Raises:
            KeyboardInterrupt: such a signal came.
        """
        with _signals() as asked:
            try:
                while True:
                    more = not asked and self._start_more(source)
                    self._look(source, stopping=bool(asked))
                    self._show(list(self.entries.values()))
                    self._pass_on(asked)
                    if not self._running and (asked or not (more or self._again)):
                        break
                    time.sleep(self.backend.pause)
            finally:
                self._end_all(asked)
        if asked:
            raise KeyboardInterrupt if asked[0] == signal.SIGINT else Terminated

    def _start_more(self, source: Source) -> bool:
        """Starts what there is room for; tells whether there may be more."""
        while self.backend.parallel is None or len(self._running) < self.backend.parallel:
            if self._again:
                self._start(self._again.popleft(), source)
            elif (unit := source.next()) is not None:
                self._start(unit, source)
            else:
                return False
        return True

    def _start(self, unit: Unit, source: Source) -> None:
        changes = [json.dumps(self.folder.changes(trial)) for trial in unit]
        words = tuple(word for one in changes for word in ("--changes", one))
        log = self.folder.log(unit[0])
        start = log.stat().st_size if log.exists() else 0
        unknown = [trial for trial in unit if self._entry(trial).state != "done"]
        found = {trial.name for trial in unknown if self.folder.is_done(trial)}
        for trial in unit:
            self.folder.run(trial).save_failure(None)
            entry = self._entry(trial)
            entry.state, entry.message, entry.seconds = "running", "", entry.seconds or 0.0
        self.folder.begin(unit)
        try:
            process = self.backend.start(self._job_of(words), log)
        except NotStarted as error:
            for entry in (self.entries[trial.name] for trial in unit):
                entry.state = "done"
                if not self.folder.is_done(entry.trial) or entry.trial.name in found:
                    self._fail(entry, Failure("crashed", str(error), 1))
                source.ended(entry)
            return
        self._running.append(_Running(unit, process, time.monotonic(), start, found))

    def _entry(self, trial: Trial) -> Entry:
        if trial.name not in self.entries:
            epochs = self.folder.config(trial).epochs
            empty = Progress([], None)
            self.entries[trial.name] = Entry(trial, epochs, "waiting", empty)
        return self.entries[trial.name]

    def _look(self, source: Source, *, stopping: bool) -> None:
        """Reads how far the running trials are, and takes note of those that ended."""
        for one in list(self._running):
            status = one.process.status()
            now = time.monotonic()
            for trial in one.unit:
                entry = self.entries[trial.name]
                entry.progress = self.folder.progress(trial)
                entry.seconds = (entry.seconds or 0.0) + now - one.since
                hopeless = status is None and source.is_hopeless(trial, entry.progress)
                if hopeless and trial.name not in one.pruned:
                    one.pruned.add(trial.name)
                    one.process.stop()
            one.since = now
            if status is None:
                continue
            self._running.remove(one)
            for trial in one.unit:
                self._end(trial, one, status, stopping=stopping)
                if self.entries[trial.name].state != "stopped":
                    source.ended(self.entries[trial.name])
            if not stopping:
                self._run_again_if_preempted(one.unit)

    def _end(self, trial: Trial, one: _Running, status: int, *, stopping: bool) -> None:
        entry = self.entries[trial.name]
        # Figures that lay there are a trial's own where its process took them for its own.
        if self.folder.is_done(trial) and (status == 0 or trial.name not in one.found):
            entry.state = "done"
        elif (
            own := self.folder.run(trial).failure()
        ) is not None:  # of one among others, by its process
            entry.state, entry.message = own.kind, own.message
        elif trial.name in one.pruned:
            self._fail(entry, Failure("pruned", "", status))
        elif status in _STOPPED or (stopping and status == _KILLED):
            entry.state = "stopped"
        else:
            kind = "diverged" if status == EXIT_DIVERGED else "crashed"
            said = _last_words(self.folder.log(one.unit[0]), one.log_start, status)
            self._fail(entry, Failure(kind, said, status))

    def _fail(self, entry: Entry, failure: Failure) -> None:
        self.folder.run(entry.trial).save_failure(failure)
        entry.state, entry.message = failure.kind, failure.message

    def _run_again_if_preempted(self, unit: Unit) -> None:
        tries = self._tries.get(unit[0].name, 0)
        is_stopped = any(self.entries[trial.name].state == "stopped" for trial in unit)
        if is_stopped and tries < self._restarts:
            self._tries[unit[0].name] = tries + 1
            self._again.append(unit)  # whole: its trials are one state

    def _pass_on(self, asked: Sequence[int]) -> None:
        """Has the running trials save and end, or once a second signal came end at once."""
        for one in self._running:
            if len(asked) > 1:
                one.process.kill()
            elif asked and not one.is_told:
                one.is_told = True
                one.process.stop()

    def _end_all(self, asked: Sequence[int]) -> None:
        """Leaves no process behind where something went wrong here."""
        for one in self._running:
            one.process.stop()
        while self._running:
            self._running = [one for one in self._running if one.process.status() is None]
            if len(asked) > 1:
                self._pass_on(asked)
            time.sleep(self.backend.pause)


def _last_words(log: Path, start: int, status: int) -> str:
    """Returns what a process said last, by its log from a byte on."""
    if status > _SIGNALLED:
        return f"ended by {signal.Signals(status - _SIGNALLED).name}"
    if not log.is_file():
        return f"exit status {status}, and it printed nothing"
    with log.open("rb") as file:
        file.seek(start)
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
    told = [line for line in lines if line.startswith("yolo-jax: ")]
    last = next((line for line in reversed(told or lines) if line), "it printed nothing")
    return last.removeprefix("yolo-jax: ") if status else f"it ended without figures: {last}"


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Yields the numbers of the signals that came and ask for an end."""
    came: list[int] = []
    last = 0.0

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal last
        now = time.monotonic()
        if not came or now - last > _DOUBLED_SECONDS:
            came.append(number)
            last = now  # of one that counts: however often they come, the next one is not far

    usual = {n: signal.signal(n, note) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield came
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
