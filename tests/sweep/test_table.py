"""The live table of a sweep, as a terminal shows it."""

from io import StringIO

import pytest
from rich.console import Console

from yolo_jax.sweep.folder import Progress
from yolo_jax.sweep.run import Entry
from yolo_jax.sweep.table import shown
from yolo_jax.sweep.trials import Trial

LONG = "weights=yolov3-tiny,box=ciou,mosaic=0.0,seed={}"


def entries(count: int, running: int) -> list[Entry]:
    progress = Progress([{"epoch": 19, "loss": 12.345, "val_loss": 123.456}], {"AP50": 0.3})
    found = [Entry(Trial(LONG.format(i), {}), 20, "done", progress, 4000) for i in range(count)]
    found[running].state = "running"
    return found


def last_table(width: int, height: int, monkeypatch: pytest.MonkeyPatch, of: list[Entry]) -> str:
    told = StringIO()
    console = Console(file=told, width=width, height=height, force_terminal=True, color_system=None)
    monkeypatch.setattr("yolo_jax.sweep.table.Console", lambda: console)
    with shown() as show:
        show(of)
    return told.getvalue()[told.getvalue().rindex("┏") :]


def first_column(table: str) -> str:
    rows = [line.split("│")[1].strip() for line in table.splitlines() if line.startswith("│")]
    return "".join(rows)


def test_long_names_are_whole_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch):
    table = last_table(80, 24, monkeypatch, entries(4, running=1))
    assert first_column(table) == "".join(LONG.format(i) for i in range(4))
    assert "4 trials, 3 done, 1 running" in table


@pytest.mark.parametrize("height", [6, 12, 24])
def test_of_too_many_the_running_are_shown_in_the_lines_there_are(
    height: int, monkeypatch: pytest.MonkeyPatch
):
    table = last_table(80, height, monkeypatch, entries(40, running=33))
    assert LONG.format(33) in first_column(table)
    assert len(table.splitlines()) <= max(height, 9)  # a row of three lines is there in any case
