"""Run folders as a report reads them: whatever is there, and what is wrong or missing in words."""

import csv
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from yolo_jax.report.details import DETAILS, EXAMPLES
from yolo_jax.report.warned import WARNINGS
from yolo_jax.run_folder import RunFolder, flatten, is_complete, read_json

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
        warnings: met, each with kind, text and count.
        faults: what is wrong with the folder.
        lacks: what an older run has not kept, and the page therefore not.
        failure: kind and message, where a sweep says that the run failed.
        log: the last lines of its output, where it failed.
    """

    name: str
    path: Path
    config: dict[str, Any] | None = None
    history: Columns = field(default_factory=dict)
    speed: Columns = field(default_factory=dict)
    figures: dict[str, Any] | None = None
    details: dict[str, Any] | None = None
    warnings: list[dict[str, Any]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    lacks: list[str] = field(default_factory=list)
    failure: dict[str, Any] | None = None
    log: str = ""

    @property
    def epochs(self) -> int:
        """Returns the epochs that are written down."""
        return len(self.history.get("epoch", ()))

    @property
    def is_complete(self) -> bool:
        """Tells that the run came to its end, and that nothing is wrong with its folder."""
        if self.config is None or self.failure is not None or self.faults:
            return False
        return is_complete(self.figures, self.config["epochs"])

    @property
    def state(self) -> str:
        """Returns in a word how the run stands."""
        if self.failure is not None:
            return str(self.failure["kind"])
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
    return any((path / name).exists() for name in _OF_A_RUN)


def read_run(path: Path, name: str, failure_file: Path | None = None) -> Run:
    """Reads a run folder; what cannot be read is told in `faults`, and never raised.

    Args:
        path: of the folder, which need not be there where a sweep has not come to it.
        name: of the run in the report.
        failure_file: in which a sweep says how it failed; its output lies beside it.
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
    details = attempt(lambda: _details(path / DETAILS))
    lacks = []
    if figures is not None and not (path / DETAILS).exists():
        lacks.append(f"{DETAILS} (precision by recall, confusions, worst and best images)")
    history = attempt(lambda: _columns(path / HISTORY, faults)) or {}
    speed = attempt(lambda: _columns(path / SPEED, faults)) or {}
    if history and not (path / SPEED).exists():
        lacks.append(f"{SPEED} (seconds and images a second by epoch, input wait)")
    warnings = attempt(lambda: _warnings(path / WARNINGS))
    if history and warnings is None and not (path / WARNINGS).exists():
        lacks.append(f"{WARNINGS} (warnings met)")
    failure = attempt(lambda: _failure(failure_file)) if failure_file is not None else None
    log = ""
    if failure is not None and failure_file is not None:
        log = attempt(lambda: _tail(failure_file.with_name(f"{path.name}.log"))) or ""
    return Run(
        name, path, config, history, speed, figures, details, warnings or [], faults, lacks,
        failure, log,
    )  # fmt: skip


def _columns(path: Path, faults: list[str]) -> Columns:
    """Reads a CSV file of numbers; rows behind one that is cut are left out, and that is told.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it holds something else.
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    names = rows[0] if rows else []
    if "epoch" not in names:
        raise ValueError(f"{path} is damaged: its first line does not name the column epoch")
    columns: Columns = {name: [] for name in names}
    for number, row in enumerate(rows[1:], 2):
        try:
            values = [_number(text) for text in row]
        except ValueError:
            values = []
        if len(values) != len(names):
            faults.append(f"{path} is cut or damaged from line {number} on; shown are those before")
            break
        for name, value in zip(names, values, strict=True):
            columns[name].append(value)
    return columns


def _number(text: str) -> float | None:
    """Returns a number of a CSV file; None for `NA`, and for what no plot can show."""
    value = math.nan if text == "NA" else float(text)
    return value if math.isfinite(value) else None


def _details(path: Path) -> dict[str, Any]:
    content = read_json(path, dict)
    expected = {"threshold", "iou", "recall_step", "precision", "confusion", "worst", "best"}
    _expect(path, content, expected)
    for example in (*content["worst"], *content["best"]):
        picture = Path(example["picture"])
        # Of another place it would bring any file of the reader's into a page that is passed on.
        if picture.parent != Path(EXAMPLES) or not (path.parent / picture).is_file():
            raise ValueError(f"{path} names {picture}, which is not there in {EXAMPLES}/")
    return content


def _warnings(path: Path) -> list[dict[str, Any]]:
    content = read_json(path, list)
    for one in content:
        _expect(path, one, {"kind", "text", "count"})
    return content


def _failure(path: Path) -> dict[str, Any]:
    content = read_json(path, dict)
    _expect(path, content, {"kind", "message"})
    return content


def _expect(path: Path, content: Mapping[str, Any], names: set[str]) -> None:
    missing = sorted(names - content.keys())
    if missing:
        raise ValueError(f"{path} is damaged: it lacks {missing}")


def _tail(path: Path) -> str:
    """Returns the last lines of a log."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _LOG_BYTES))
        text = file.read().decode("utf-8", errors="replace")
    return "\n".join(text.splitlines()[-_LOG_LINES:])
