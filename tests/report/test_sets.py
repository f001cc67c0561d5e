"""What a report reads of run folders and sweeps, whole and broken ones."""

import json
import math
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from made_runs import CONFIG, made_run, write_json

from yolo_jax import cli
from yolo_jax.report.page import MARK, render
from yolo_jax.report.runs import read_run
from yolo_jax.report.sets import RunSet, Spread, read_sets
from yolo_jax.run_folder import flatten


@pytest.mark.slow
def test_a_run_leaves_its_speed_its_warnings_and_its_curves(sweep: Path):
    run = read_run(sweep / "learning_rate=0.001,seed=0", "first")
    assert (run.state, run.epochs, run.faults, run.lacks) == ("complete", 3, [], [])
    assert run.speed["epoch"] == [0, 1, 2]
    for seconds, rate in zip(run.speed["seconds"], run.speed["images_per_second"], strict=True):
        assert seconds is not None
        assert rate == pytest.approx(8 / seconds, rel=0.01)
    assert all(0 <= (share or 0) < 1 for share in run.speed["input_wait"])
    assert len([value for value in run.history["val_AP50"] if value is not None]) == 3
    assert run.warnings[0] == {
        "kind": "warning",
        "text": "close_mosaic has no effect without augment.mosaic, mixup or copy",
        "count": 1,
    }
    assert run.details is not None
    assert len(run.details["worst"]) == len(run.details["best"]) == 3  # of six images


@pytest.mark.slow
def test_a_sweep_has_groups_over_seeds(sweep: Path):
    (found,) = read_sets([sweep])
    states = [run.state for run in found.runs]
    assert states == ["complete"] * 4 + ["diverged", "not started"]
    assert "the loss of step 3" in found.runs[4].log
    assert found.changes(found.runs[5]) == {"optimizer.learning_rate": 10}
    assert found.varied() == ["optimizer.learning_rate", "seed"]
    groups = {group.changes.get("optimizer.learning_rate"): group for group in found.groups()}
    assert set(groups) == {None, 0.01}  # 0.001 is the base's
    for group in groups.values():
        a, b = (run.last("val_loss") for run in group.runs)
        assert a is not None
        assert b is not None
        spread = group.spread("val_loss")
        assert spread is not None
        assert spread.count == 2
        assert spread.mean == pytest.approx((a + b) / 2)
        assert spread.deviation == pytest.approx(abs(a - b) / math.sqrt(2))  # n − 1
    losses = [group.spread("val_loss") for group in found.groups()]
    assert losses == sorted(losses, key=lambda spread: spread[0])


@pytest.mark.slow
def test_a_run_alone_has_no_deviation_and_no_difference(sweep: Path):
    (found,) = read_sets([sweep / "learning_rate=0.01,seed=1"])
    (group,) = found.groups()
    spread = group.spread("AP50")
    assert spread is not None
    assert (spread.deviation, spread.count) == (None, 1)
    assert found.varied() == []


@pytest.mark.slow
def test_runs_outside_a_sweep_are_held_against_what_they_have_alike(sweep: Path):
    names = ("learning_rate=0.001,seed=1", "learning_rate=0.01,seed=1")
    (found,) = read_sets([sweep / name for name in (*names, names[0])])  # one of them twice
    assert [found.changes(run) for run in found.runs] == [
        {"optimizer.learning_rate": 0.001},
        {"optimizer.learning_rate": 0.01},
    ]
    assert found.base["seed"] == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "state", "told"),
    [
        ("cut", "broken", r"history\.csv is cut or damaged from line 4 on; shown are those before"),
        ("garbled", "broken", r"config\.json is damaged"),
        ("half", "broken", r"config\.json is not there: the folder is half written"),
        ("bare", "broken", r"held_out\.json names .examples/worst_1\.jpg., which is not there in"),
        ("unfinished", "unfinished", None),
        ("old", "complete", None),
    ],
)
def test_broken_runs_say_what_is_wrong(damaged: dict[str, Path], what, state, told):
    run = read_run(damaged[what], what)
    assert run.state == state
    assert run.is_complete == (state == "complete")
    if told is None:
        assert run.faults == []
    else:
        (fault,) = run.faults
        assert re.search(told, fault)
    assert len(run.lacks) == (3 if what == "old" else 0)


@pytest.mark.slow
def test_a_sweep_whose_file_is_damaged_shows_its_runs(sweep: Path, tmp_path: Path):
    copy = shutil.copytree(
        sweep, tmp_path / "copy", ignore=shutil.ignore_patterns("checkpoints", "tensorboard")
    )
    (copy / "sweep.json").write_text("{")
    (found,) = read_sets([copy])
    assert "sweep.json is damaged" in found.faults[0]
    assert [run.state for run in found.runs] == ["complete"] * 4
    trials = [{"name": "../elsewhere", "changes": {}}]
    content = {"format": 1, "base": {}, "trials": trials}
    (copy / "sweep.json").write_text(json.dumps(content))
    assert "names a trial '../elsewhere'" in read_sets([copy])[0].faults[0]
    (copy / "sweep.json").write_text('{"format": 2}')
    assert "has the format 2; expected 1" in read_sets([copy])[0].faults[0]


@pytest.mark.slow
def test_the_command_writes_over_its_own_pages_alone(sweep: Path, tmp_path: Path, capsys):
    out, run = tmp_path / "new" / "page.html", str(sweep / "learning_rate=0.001,seed=0")
    for _ in range(2):
        assert cli.main(["report", run, "--out", str(out)]) == 0
        assert "MB), runs: 1 complete" in capsys.readouterr().out
    assert MARK in out.read_text(encoding="utf-8")
    assert [path.name for path in out.parent.iterdir()] == ["page.html"]
    other = tmp_path / "mine.html"
    other.write_text("<html>my own</html>")
    for wrong, complaint in (
        ([run, "--out", str(other)], "is there and is no report; name another file"),
        ([run, "--out", str(tmp_path)], "is a folder; name a file"),
        ([str(tmp_path), "--out", str(out)], "is no run's folder"),
        ([str(tmp_path / "none"), "--out", str(out)], "there is no run folder"),
    ):
        assert cli.main(["report", *wrong]) == 2
        said = capsys.readouterr().err
        assert complaint in said
        assert said.count("\n") == 1
    assert other.read_text() == "<html>my own</html>"


def text_of(chosen: RunSet) -> str:
    main = render([chosen]).partition("<main>")[2].partition("</main>")[0]
    return " ".join(re.sub("<[^>]+>", " ", main).split())


def test_a_seed_counts_once_and_what_is_of_no_number_parts_no_group(tmp_path: Path):
    paths = [
        made_run(tmp_path / "one", {"seed": 1}, loss=0.5),
        made_run(tmp_path / "one_again", {"seed": 1}, loss=0.5),
        made_run(tmp_path / "two", {"seed": 2, "data.threads": 7, "track": []}, loss=0.7),
        made_run(tmp_path / "order", {"seed": 2, "data.order_seed": 5}, loss=0.9),
        made_run(tmp_path / "longer", {"epochs": 4}, rows=4, loss=0.4),
    ]
    (found,) = read_sets(paths)
    longer, group = found.groups()
    assert [run.name for run in longer.runs] == ["longer"]
    assert [run.name for run in group.runs] == ["one", "two", "order"]
    assert [run.name for run in group.repeats] == ["one_again"]
    assert "data.threads" in found.varied() and "data.threads" not in group.changes
    spread = group.spread("val_loss")
    assert spread is not None
    assert (spread.mean, spread.count) == (pytest.approx(0.7), 3)
    told = "for a run of the same config and seed is there already: one_again."
    assert told in text_of(found)
    # The one that is complete counts, whichever comes first.
    (paths[0] / "metrics.json").unlink()
    assert [run.name for run in read_sets(paths)[0].groups()[1].repeats] == ["one"]
    for path in (paths[1], paths[2]):
        (path / "metrics.json").unlink()
    said = text_of(read_sets(paths)[0])
    assert "0.900 (n = 1 of 3)" in said
    made_run(tmp_path / "more", {"seed": 9}, loss=0.7)
    assert "0.800 ± 0.141 (n = 2 of 4)" in text_of(read_sets([*paths, tmp_path / "more"])[0])


def test_losses_of_different_kinds_rank_nothing(tmp_path: Path):
    def section(scores: list[float | None], form: str) -> RunSet:
        place = tmp_path / f"{scores}{form}"
        runs = [
            made_run(place / f"run{i}", {"loss.box": box}, loss=1 + i, validation_ap=score)
            for i, (box, score) in enumerate(zip(["yolov3", form, form], scores, strict=True))
        ]
        failure = {"kind": "diverged", "message": "not finite", "status": 3}
        write_json(runs[2].with_name("run2.failure.json"), failure)
        return read_sets(runs)[0]

    for scores, form, order, said in (
        ([None, None, None], "yolov3", ["run0", "run1"], "n − 1; least validation loss first)"),
        ([0.1, 0.3, None], "ciou", ["run1", "run0"], "greatest validation AP50 first, for"),
        (
            [None, 0.3, 0.3],
            "ciou",
            ["run0", "run1"],
            "not ranked, for runs of another loss.box",
        ),
    ):
        found = section(scores, form)
        assert [run.state for run in found.runs] == ["complete", "complete", "diverged"]
        names = [run.name for group in found.groups() for run in (*group.runs, *group.repeats)]
        assert [name for name in names if name != "run2"] == order
        assert said in text_of(found)


def test_what_a_run_fills_in_is_no_difference(tmp_path: Path):
    by_device = {"batch_size": None, "batch_size_per_device": 4}
    names = {"rate=0.1": {"optimizer.learning_rate": 0.1}, "rate=0.2": {}}
    for name, changes in names.items():
        made_run(tmp_path / name, {"optimizer.horizon": 3} | changes)
    trials = [{"name": name, "changes": changes} for name, changes in names.items()]
    content = {"format": 1, "base": flatten(CONFIG) | by_device, "trials": trials}
    write_json(tmp_path / "sweep.json", content)
    assert read_sets([tmp_path])[0].varied() == ["optimizer.learning_rate"]
    trials[0]["changes"] = {"batch_size_per_device": 8}
    write_json(tmp_path / "sweep.json", content)
    assert "batch_size_per_device" in read_sets([tmp_path])[0].varied()


def test_a_source_called_all_is_shown_beside_the_whole(tmp_path: Path):
    path = made_run(tmp_path / "run")
    figures = json.loads((path / "metrics.json").read_text())
    figures["sources"] = {"all": {"AP": 0.125, "AP50": 0.75}}
    write_json(path / "metrics.json", figures)
    said = text_of(read_sets([path])[0])
    assert "all 0.400 – 0.133" in said
    assert "all 0.750 – 0.125" in said


def swept(folder: Path, trials: Mapping[str, tuple[dict, float | None]]) -> RunSet:
    """Returns a sweep of made-up runs, of changes and held-out AP50; None: it is not begun."""
    for name, (changes, ap50) in trials.items():
        if ap50 is not None:
            made_run(folder / name, changes, ap50=ap50)
    listed = [{"name": name, "changes": changes} for name, (changes, _) in trials.items()]
    write_json(folder / "sweep.json", {"format": 1, "base": flatten(CONFIG), "trials": listed})
    return read_sets([folder])[0]


def test_groups_are_held_against_the_base_seed_by_seed(tmp_path: Path):
    trials = {
        f"{box},{seed}": ({"loss.box": box, "seed": seed}, ap50)
        for box, of_seeds in {"yolov3": (0.30, 0.34, 0.38), "ciou": (0.33, 0.36, 0.42)}.items()
        for seed, ap50 in enumerate(of_seeds)
    }
    trials |= {"giou,7": ({"loss.box": "giou", "seed": 7}, 0.5)}  # a seed that the base has not
    trials |= {"diou,1": ({"loss.box": "diou", "seed": 1}, 0.33)}
    found = swept(tmp_path, trials)
    base = found.base_group()
    assert base is not None
    groups = {group.changes.get("loss.box"): group for group in found.groups()}
    spread = groups["ciou"].against(base, "AP50")
    assert spread is not None
    assert spread == (pytest.approx(0.03), pytest.approx(0.01), 3)
    # Student's t of two degrees of freedom is 4.303, by any table.
    assert spread.interval() == pytest.approx((0.03 - 4.303 * 0.01 / 3**0.5, 0.0548), abs=1e-4)
    assert groups["giou"].against(base, "AP50") is None
    said = text_of(found)
    assert "+0.030 [+0.005, +0.055] (n = 3)" in said
    assert "−0.010 (n = 1)" in said
    assert said.count("Last column: mean of the differences") == 1
    assert "Last column" not in text_of(read_sets([tmp_path / "ciou,0", tmp_path / "yolov3,0"])[0])


@pytest.mark.parametrize(("freedom", "quantile"), [(1, 12.706), (10, 2.228), (30, 2.042)])
def test_intervals_are_students(freedom: int, quantile: float):
    low, high = Spread(1.0, math.sqrt(freedom + 1), freedom + 1).interval() or (0, 0)
    assert (high - low) / 2 == pytest.approx(quantile, rel=2e-3)
    assert Spread(1.0, None, 1).interval() is None


def test_what_is_not_begun_is_marked_where_it_differs_alone(tmp_path: Path):
    trials = {"a": ({"loss.box": "yolov3", "seed": 1}, None), "b": ({"loss.box": "ciou"}, 0.3)}
    found = swept(tmp_path, trials)
    assert found.changes(found.runs[0]) == {"seed": 1}  # the base's box is no difference
    assert found.runs[0].progress == "–"
    said = text_of(found)
    assert "0 of 0" not in said
    # State, figures, the two fields that differ among the runs: the base's box, its own seed.
    assert "a not started – – – yolov3 ≠ 1 – –" in said
