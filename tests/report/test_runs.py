"""Run folders as a report reads them: one damaged file makes one broken run, and no more."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from made_runs import made_run, write_json

from yolo_jax import cli
from yolo_jax.report.page import render
from yolo_jax.report.runs import read_run
from yolo_jax.report.sets import figure, read_sets

NESTED = "[" * 100_000
# Of each file: where in it, what stands there instead (`...`: nothing), and what is said of it.
DAMAGES: list[tuple[str, str, Any, str]] = [
    ("metrics.json", "sources", [], r"sources is \[\]; expected an object"),
    ("metrics.json", "sources.here", [1], r"sources\.here is \[1\]; expected an object"),
    ("metrics.json", "per_class", None, "per_class is None; expected an object"),
    ("metrics.json", "per_class.ash.AP50", ..., r"per_class\.ash lacks \['AP50'\]"),
    ("metrics.json", "AP", "0.1", "AP is '0.1'; expected a number or None"),
    ("metrics.json", "epochs", "2", "epochs is '2'; expected a whole number"),
    ("metrics.json", "skipped", [], r"skipped is \[\]; expected an object"),
    ("metrics.json", "AP", float("nan"), "it holds NaN; expected finite numbers"),
    ("metrics.json", "AP", 10**400, "it holds 10000000000000000000; expected finite"),
    ("held_out.json", "precision", {}, r"precision lacks \['all', 'classes', 'sources'\]"),
    ("held_out.json", "precision.all", [0.5, "x"], r"precision\.all\.1 is 'x'; expected a number"),
    ("held_out.json", "confusion", None, "confusion is None; expected a list"),
    ("held_out.json", "confusion", [["a"]], r"confusion\.0\.0 is 'a'; expected a whole number"),
    ("held_out.json", "confusion", [[1, 2]], "confusion has not as many columns as rows"),
    ("held_out.json", "worst", [1], r"worst\.0 is 1; expected an object"),
    ("held_out.json", "worst.0.picture", ..., r"worst\.0 lacks \['picture'\]"),
    ("held_out.json", "best.0.f1", ..., r"best\.0 lacks \['f1'\]"),
    ("held_out.json", "threshold", "x", "threshold is 'x'; expected a number"),
    ("held_out.json", "threshold", float("-inf"), "it holds -Infinity; expected finite numbers"),
    ("warnings.json", "", [1], "0 is 1; expected an object"),
    ("warnings.json", "0.count", "many", r"0\.count is 'many'; expected a whole number"),
    ("config.json", "epochs", "2", "epochs is '2'; expected a whole number"),
    ("config.json", "augment.crop", [[1], 2], r"augment\.crop is \(\[1\], 2\); expected \(a num"),
    ("classes.json", "", {}, r"it is \{\}; expected a list"),
]


def put(content: Any, place: str, value: Any) -> Any:
    """Returns content with something else at a dotted place; of a config that is one key."""
    if not place:
        return value
    *outer, last = [place] if place in content else place.split(".")
    inner = content
    for key in outer:
        inner = inner[int(key) if key.isdigit() else key]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return content


@pytest.mark.parametrize(("file", "place", "value", "told"), DAMAGES)
def test_a_damaged_file_makes_a_broken_run_that_is_shown_beside_others(
    tmp_path: Path, capsys, file: str, place: str, value: Any, told: str
):
    good, bad = made_run(tmp_path / "good"), made_run(tmp_path / "bad")
    write_json(bad / file, put(json.loads((bad / file).read_text()), place, value))
    assert cli.main(["report", str(bad), str(good), "--out", str(tmp_path / "page.html")]) == 0
    said = capsys.readouterr().out
    assert "runs: 1 broken, 1 complete" in said
    (fault,) = read_run(bad, "bad").faults
    assert f"bad: {fault}\n" in said
    assert re.search(rf"/bad/{re.escape(file)} .*{told}", fault)


@pytest.mark.parametrize(
    ("file", "tail", "told"),
    [
        ("metrics.json", NESTED, "is damaged: it is nested too deeply"),
        ("history.csv", "\0" * 200_000, "is cut or damaged from line 5 on"),
        ("history.csv", "NA,1,1,1\n", "is cut or damaged from line 5 on"),
        ("speed.csv", "\udcff", "is cut or damaged from line 5 on"),
    ],
    ids=["nested", "zeros", "no epoch", "bytes"],
)
def test_a_damaged_end_is_told(tmp_path: Path, file: str, tail: str, told: str):
    path = made_run(tmp_path / "bad") / file
    start = "" if tail == NESTED else path.read_text()
    path.write_text(start + tail, errors="surrogateescape")
    run = read_run(path.parent, "bad")
    assert run.state == "broken"
    assert told in run.faults[0]
    assert run.epochs == 3


def test_figures_of_other_epochs_than_the_history_s_complete_no_run(tmp_path: Path):
    """As of a run of three epochs that was to go on to more, and was killed after the fifth."""
    going_on = read_run(made_run(tmp_path / "extended", rows=5), "extended")
    assert (going_on.state, going_on.faults, going_on.progress) == ("unfinished", [], "5")
    assert (figure(going_on, "val_loss"), figure(going_on, "AP50")) == (0.5, None)
    page = render(read_sets([going_on.path]))
    assert "5 epochs are written down, and the held-out figures are of epoch 3." in page
    empty = read_run(made_run(tmp_path / "empty", rows=0), "empty")
    assert empty.state == "broken"
    assert "history.csv has 0 epochs, and metrics.json is of 3" in empty.faults[0]
    stopped = made_run(tmp_path / "stopped", {"epochs": 9, "early_stopping": 2})
    ended = json.loads((stopped / "metrics.json").read_text()) | {"epochs": 3}
    assert read_run(stopped, "stopped").state == "broken"
    for early, state in ((True, "complete"), (False, "unfinished")):
        write_json(stopped / "metrics.json", ended | {"stopped_early": early})
        assert (read_run(stopped, "stopped").state) == state
