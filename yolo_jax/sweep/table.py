"""How trials stand: a live table on a terminal, else a line for each thing that happens."""

import itertools
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Column, Table

from yolo_jax.sweep.run import Entry

Show = Callable[[Sequence[Entry]], None]
_COLUMNS = ("trial", "state", "epoch", "loss", "val_loss", "time", "AP50")
_BESIDE_NAMES = 60  # letters of a line at most: of the other columns, and of the frame
_COLOURS = {"running": "cyan", "done": "green", "crashed": "red", "diverged": "red"}


@contextmanager
def shown() -> Iterator[Show]:
    """Yields what shows the entries, each time that it is called."""
    console = Console()
    if not console.is_terminal:
        yield _Lines()
        return
    with Live(console=console, auto_refresh=False) as live:
        yield lambda entries: live.update(
            _table(entries, console.height, console.width), refresh=True
        )


class _Lines:
    """Prints a line for each trial that began, ended an epoch, or ended."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[str, int]] = {}

    def __call__(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            now = entry.state, entry.progress.epochs
            if self._before.get(entry.trial.name, ("waiting", now[1])) != now:
                print(line(entry), flush=True)
            self._before[entry.trial.name] = now


def line(entry: Entry) -> str:
    """Returns how a trial stands, in a line."""
    name, state, epoch, loss, val_loss, time, ap50 = _cells(entry)
    parts = [f"{name}: {state}", f"epoch {epoch}"]
    figures = {"loss": loss, "val_loss": val_loss, "AP50": ap50, "time": time}
    parts += [f"{key} {value}" for key, value in figures.items() if value != "–"]
    return "  ".join([*parts, *filter(None, [entry.message])])


def _table(entries: Sequence[Entry], height: int, width: int) -> Table:
    """Returns the table; of more trials than the terminal has lines, those not over come first.

    Names go on in another line: seeds, by which trials differ, stand at their end.
    """
    table = Table(Column(_COLUMNS[0], overflow="fold"), *_COLUMNS[1:], expand=False)
    name_width = max(width - _BESIDE_NAMES, 1)
    lines = [-(-len(entry.trial.name) // name_width) for entry in entries]
    room = max(height - 6, max(lines, default=1))  # but for head, frame and the line below
    order = range(len(entries))
    if sum(lines) > room:
        urgency = {"running": 0, "crashed": 1, "diverged": 1, "stopped": 1, "waiting": 2}
        order = sorted(order, key=lambda place: urgency.get(entries[place].state, 3))
        taken = itertools.accumulate(lines[place] for place in order)
        order = sorted(place for place, sum_ in zip(order, taken, strict=True) if sum_ <= room)
    for entry in (entries[place] for place in order):
        cells = _cells(entry)
        table.add_row(*cells, style=_COLOURS.get(entry.state))
    counts = {state: [e.state for e in entries].count(state) for state in ("done", "running")}
    table.caption = f"{len(entries)} trials, {counts['done']} done, {counts['running']} running"
    return table


def _cells(entry: Entry) -> tuple[str, ...]:
    progress = entry.progress
    figures = progress.figures or {}
    return (
        entry.trial.name,
        entry.state,
        f"{progress.epochs}/{entry.epochs}",
        _number(progress.last("loss"), ".4g"),
        _number(progress.last("val_loss"), ".4g"),
        "–" if entry.seconds is None else _duration(entry.seconds),
        _number(figures.get("AP50"), ".3f"),
    )


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def summary(entries: Sequence[Entry]) -> list[str]:
    """Returns the lines that a sweep ends with: what failed, and means over seeds."""
    lines = [line(entry) for entry in entries if entry.state in ("crashed", "diverged")]
    counts: dict[str, int] = {}
    for entry in entries:
        counts[entry.state] = counts.get(entry.state, 0) + 1
    lines.append(", ".join(f"{count} {state}" for state, count in counts.items()))
    alike: dict[str, list[Entry]] = {}
    for entry in entries:
        if "seed" in entry.trial.changes and entry.state == "done":
            others = {k: v for k, v in entry.trial.changes.items() if k != "seed"}
            alike.setdefault(repr(sorted(others.items())), []).append(entry)
    for group in alike.values():
        if len(group) > 1:
            lines.append(_means(group))
    return lines


def _means(group: Sequence[Entry]) -> str:
    """Returns mean ± sample standard deviation over the trials that differ in their seed alone."""
    first = group[0].trial
    name = ",".join(
        part for part in first.name.split(",") if part != f"seed={first.changes['seed']}"
    )
    ap50 = [(entry.progress.figures or {}).get("AP50") for entry in group]
    losses = [entry.progress.last("val_loss") for entry in group]
    parts = []
    for key, values, form in (("AP50", ap50, ".3f"), ("val_loss", losses, ".4g")):
        known = [value for value in values if value is not None]
        if len(known) == len(group):
            mean, deviation = statistics.mean(known), statistics.stdev(known)
            parts.append(f"{key} {mean:{form}} ± {deviation:{form}}")
    return f"{name or 'base'}: mean of {len(group)} seeds  " + "  ".join(parts)
