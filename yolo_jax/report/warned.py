"""The warnings that a run met, kept in its folder."""

import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict

from yolo_jax.core.json_files import read_json, save_json

WARNINGS = "warnings.json"
_MOST = 100  # kept; a run that meets more has said the same of many things


class Met(TypedDict):
    """A warning, and how often it was met."""

    kind: str
    text: str
    count: int


def read_warnings(path: Path) -> list[Met]:
    """Returns the warnings that a file keeps.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged.
    """
    return read_json(path, list[Met])


class Warned(logging.Handler):
    """Counts warnings by their text; keeps them in the files that it is told of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._counts: Counter[tuple[str, str]] = Counter()
        self._earlier: dict[Path, Counter[tuple[str, str]]] = {}  # of earlier starts, by file

    def emit(self, record: logging.LogRecord) -> None:
        """Counts a record; a new one is written at once, lest a kill loses it."""
        key = (record.levelname.lower(), record.getMessage())
        is_new = key not in self._counts
        if is_new and len(self._counts) >= _MOST:
            return
        self._counts[key] += 1
        if is_new:
            try:
                self.save()
            except OSError:
                self.handleError(record)  # says so; what fills the disk will stop the run elsewhere

    def keep_in(self, path: Path) -> None:
        """Writes what was met to a file from now on, after what earlier starts of the run met.

        Raises:
            ValueError: the file is damaged.
        """
        try:
            earlier = read_warnings(path) if path.is_file() else []
        except ValueError as error:
            raise ValueError(f"{error}; delete it to go on") from error
        self._earlier[path] = Counter({(one["kind"], one["text"]): one["count"] for one in earlier})
        self.save()

    def save(self) -> None:
        """Writes the files."""
        for path, earlier in self._earlier.items():
            found = (earlier + self._counts).items()
            save_json(path, [{"kind": k, "text": t, "count": n} for (k, t), n in found])


@contextmanager
def collected_warnings() -> Iterator[Warned]:
    """Collects Python's warnings and those of yolo_jax's log; they are shown as ever."""
    handler, log, show = Warned(), logging.getLogger("yolo_jax"), warnings.showwarning

    def show_and_keep(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
        show(message, category, *place, **more)
        text = f"{category.__name__}: {message}"
        handler.handle(logging.LogRecord("", logging.WARNING, "", 0, text, None, None))

    log.addHandler(handler)
    warnings.showwarning = show_and_keep
    try:
        yield handler
    finally:
        warnings.showwarning = show
        log.removeHandler(handler)
        handler.save()
