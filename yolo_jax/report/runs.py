"""Run folders as a report reads them: whatever is there, and what is wrong or missing in words."""

import csv
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from yolo_jax.report.details import DETAILS, Details, read_details
from yolo_jax.report.warned import WARNINGS, Met, read_warnings
from yolo_jax.run_folder import GROUP_MEMBERS, Failure, RunFolder, flatten, is_complete

HISTORY, SPEED = "history.csv", "speed.csv"
# By one of these a folder is known for a run's, be it half written.
_OF_A_RUN = ("config.json", "classes.json", "metrics.json", HISTORY, "checkpoints", "lock")
_LOG_LINES, _LOG_BYTES = 15, 20_000
Columns = dict[str, list[float | None]]
Read = TypeVar("Read")


@dataclass(frozen=True)
class Run:
    """What a run's folder holds.

    Attributes:
        name: of the run in the report.
        path: of its folder.
        config: every field by dotted name; None where it cannot be read.
        history: values by column and epoch, `epoch` (from 0) among them; None is a lack.
        speed: the same of seconds, images a second and the share of input wait.
        figures: of the held-out images; None before the run's end.
        details: behind those figures; see `save_details`.
        classes: their names; none where they are not known.
        warnings: met, each with kind, text and count.
        faults: what is wrong with the folder.
        lacks: what an older run has not kept, and the page therefore not.
        failure: of a sweep's trial that ended early, why.
        log: the last lines of its output, where it failed.
    """

    name: str
    path: Path
    config: dict[str, Any] | None = None
    history: Columns = field(default_factory=dict)
    speed: Columns = field(default_factory=dict)
    figures: dict[str, Any] | None = None
    details: Details | None = None
    classes: tuple[str, ...] = ()
    warnings: list[Met] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    lacks: list[str] = field(default_factory=list)
    failure: Failure | None = None
    log: str = ""

    @property
    def epochs(self) -> int:
        """Returns the epochs that are written down."""
        return len(self.history.get("epoch", ()))

    @property
    def is_current(self) -> bool:
        """Tells that the held-out figures are of the last epoch that is written down.

        Those of a run that was complete, and goes on with more epochs, are not.
        """
        return self.figures is not None and self.figures["epochs"] == self.epochs

    @property
    def is_complete(self) -> bool:
        """Tells that the run came to its end, and that nothing is wrong with its folder."""
        if self.config is None or self.failure is not None or self.faults or not self.is_current:
            return False
        return is_complete(self.figures, self.config["epochs"])

    @property
    def progress(self) -> str:
        """Returns the epochs, and of how many; of a run that goes on these are not known."""
        if self.config is None:
            return str(self.epochs) if self.epochs else "–"
        wanted = self.config["epochs"]
        return f"{self.epochs} of {wanted}" if self.epochs <= wanted else str(self.epochs)

    @property
    def state(self) -> str:
        """Returns in a word how the run stands."""
        if self.failure is not None:
            return self.failure.kind
        if self.faults:
            return "broken"
        if self.is_complete:
            return "complete"
        return "unfinished" if self.path.is_dir() else "not started"

    def last(self, column: str) -> float | None:
        """Returns the last epoch's value of a column of history.csv, or None."""
        return (self.history.get(column) or [None])[-1]


def is_run(path: Path) -> bool:
    """Tells whether a folder is a run's, a broken or half-written one too."""
    # That of the checkpoints of trials that are trained together is of no run.
    is_shared = (path / GROUP_MEMBERS).exists()
    return not is_shared and any((path / name).exists() for name in _OF_A_RUN)


def read_run(path: Path, name: str) -> Run:
    """Reads a run folder; what cannot be read is told in `faults`, and never raised.

    Args:
        path: of the folder, which need not be there where a sweep has not come to it.
        name: of the run in the report.
    """
    faults: list[str] = []

    def attempt(read: Callable[[], Read]) -> Read | None:
        try:
            return read()
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            faults.append(str(error))
            return None

    folder = RunFolder(path)
    config = attempt(lambda: flatten(folder.config()))
    if config is None and not faults and path.is_dir():
        faults.append(f"{path / 'config.json'} is not there: the folder is half written")
    figures = attempt(folder.figures)
    details = attempt(lambda: read_details(path))
    classes = attempt(folder.class_names) or ()
    lacks = []
    if figures is not None and not (path / DETAILS).exists():
        lacks.append(f"{DETAILS} (precision by recall, confusions, worst and best images)")
    history = attempt(lambda: _columns(path / HISTORY, faults)) or {}
    if figures is not None and len(history.get("epoch", ())) < figures["epochs"] and not faults:
        faults.append(
            f"{path / HISTORY} has {len(history.get('epoch', ()))} epochs, and metrics.json is of "
            f"{figures['epochs']}: rows are missing"
        )
    speed = attempt(lambda: _columns(path / SPEED, faults)) or {}
    if history and not (path / SPEED).exists():
        lacks.append(f"{SPEED} (seconds and images a second by epoch, input wait)")
    warnings = attempt(lambda: read_warnings(path / WARNINGS))
    if history and warnings is None and not (path / WARNINGS).exists():
        lacks.append(f"{WARNINGS} (warnings met)")
    failure, log = attempt(folder.failure), None
    if failure is not None:
        log = attempt(lambda: _tail(folder.failure_file.with_name(f"{path.name}.log")))
    return Run(
        name, path, config, history, speed, figures, details, classes, warnings or [], faults,
        lacks, failure, log or "",
    )  # fmt: skip


def _columns(path: Path, faults: list[str]) -> Columns:
    """Reads a CSV file of numbers; rows behind one that is cut are left out, and that is told.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it holds something else.
    """
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        rows = csv.reader(file)
        names = _row(rows) or []
        if "epoch" not in names or len(set(names)) < len(names):
            raise ValueError(f"{path} is damaged: its first line does not name each column once")
        columns: Columns = {name: [] for name in names}
        while (row := _row(rows)) is not None:
            values = _numbers(row)
            if len(values) != len(names) or values[names.index("epoch")] is None:
                told = f"is cut or damaged from line {rows.line_num} on; shown are those before"
                faults.append(f"{path} {told}")
                break
            for name, value in zip(names, values, strict=True):
                columns[name].append(value)
    return columns


def _row(rows: Iterator[list[str]]) -> list[str] | None:
    """Returns the next row, or None behind the last; one of a line without an end is empty."""
    try:
        return next(rows, None)
    except csv.Error:
        return []


def _numbers(row: Sequence[str]) -> list[float | None]:
    """Returns the numbers of a row; none of one that holds something else."""
    try:
        return [_number(text) for text in row]
    except ValueError:
        return []


def _number(text: str) -> float | None:
    """Returns a number of a CSV file; None for `NA`, and for what no plot can show."""
    value = math.nan if text == "NA" else float(text)
    return value if math.isfinite(value) else None


def _tail(path: Path) -> str:
    """Returns the last lines of a log."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _LOG_BYTES))
        text = file.read().decode("utf-8", errors="replace")
    return "\n".join(text.splitlines()[-_LOG_LINES:])
