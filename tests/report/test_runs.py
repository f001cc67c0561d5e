"""Run folders as a report reads them: one damaged file makes one broken run, and no more."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from made_runs import made_run, write_json

from yolo_jax import cli
from yolo_jax.report.page import render
from yolo_jax.report.plots import confusion
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


def test_a_trial_named_alone_says_how_it_failed(tmp_path: Path):
    run = made_run(tmp_path / "rate=9", rows=2)
    (run / "metrics.json").unlink()
    failure = {"kind": "diverged", "message": "not finite", "status": 3}
    write_json(tmp_path / "rate=9.failure.json", failure)
    (tmp_path / "rate=9.log").write_text("Epoch 1/3\n")
    found = read_sets([run])[0].runs[0]
    assert (found.state, found.log) == ("diverged", "Epoch 1/3")
    write_json(tmp_path / "rate=9.failure.json", failure | {"kind": "complete"})
    (fault,) = read_run(run, "rate=9").faults
    assert "kind is 'complete'; expected one of 'crashed', 'diverged', 'pruned'" in fault


def test_checkpoints_of_trials_trained_together_are_no_run(tmp_path: Path):
    made_run(tmp_path / "usual")
    shared = tmp_path / "together_12345678"
    (shared / "checkpoints").mkdir(parents=True)
    write_json(shared / "trials.json", ["usual"])
    (tmp_path / "sweep.json").write_text("{")
    assert [run.name for run in read_sets([tmp_path])[0].runs] == ["usual"]
    with pytest.raises(ValueError, match="is no run's folder"):
        read_sets([shared])


def test_a_link_out_of_the_folder_is_not_shown_nor_what_cannot_be_read(tmp_path: Path):
    run = made_run(tmp_path / "run")
    picture = run / "examples" / "worst_1.jpg"
    (tmp_path / "secret").write_bytes(picture.read_bytes())
    picture.unlink()
    picture.symlink_to(tmp_path / "secret")
    (fault,) = read_run(run, "run").faults
    assert "names 'examples/worst_1.jpg', which is not there in examples/" in fault
    picture.unlink()
    picture.write_bytes(b"")
    (found,) = read_sets([run])
    picture.unlink()  # between reading and rendering, as on a disk that fails
    page = render([found])
    assert "a.png: its picture cannot be read" in page
    assert page.partition("</main>")[0].count("<img") == 1


def test_an_unknown_wait_is_not_said_to_be_none(tmp_path: Path):
    run = made_run(tmp_path / "run")
    assert "1.0 % of the time spent waiting" in render(read_sets([run]))
    speed = (run / "speed.csv").read_text()
    (run / "speed.csv").write_text(speed.replace("0.01", "NA"))
    page = render(read_sets([run])).partition("</main>")[0]
    assert "images a second (median" in page
    assert "spent waiting" not in page


def test_pictures_are_in_the_page_for_the_first_groups_alone(tmp_path: Path):
    runs = [made_run(tmp_path / f"run{i}", {"seed": i}) for i in range(26)]
    page = render(read_sets(runs)).partition("</main>")[0]
    assert page.count("<img") == 24 * 2
    assert page.count("are not in this page") == 2


def test_confusions_have_a_form_in_words_and_few_ticks(tmp_path: Path):
    run = made_run(tmp_path / "run")
    page = render(read_sets([run])).partition("</main>")[0]
    words = " ".join(re.sub("<[^>]+>", " ", page).split())
    assert "background ash 3 100.0 % ash background 2 25.0 % ash oak 1 12.5 %" in words
    held_out = json.loads((run / "held_out.json").read_text())
    many = [[int(i == j) for i in range(81)] for j in range(81)]
    write_json(run / "held_out.json", held_out | {"confusion": many})
    write_json(run / "classes.json", [f"class {i}" for i in range(80)])
    plot = confusion(read_run(run, "run"))
    assert plot is not None
    ticks = plot["layout"]["xaxis"]
    assert len(ticks["tickvals"]) == len(ticks["ticktext"]) <= 12
    assert ticks["ticktext"][-1] == "background"
    assert plot["data"][0]["meta"][79] == "class 79"
