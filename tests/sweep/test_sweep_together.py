"""`yolo-jax sweep --together auto`: trials in one program are the runs that they would be alone."""

import argparse
import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sweeps import Scripted, another_process_has, finish, leave_figures, run_scripted

from yolo_jax import cli
from yolo_jax.config import load_config
from yolo_jax.config.files import load_module
from yolo_jax.config.flat import with_changes
from yolo_jax.core.anchors import TINY
from yolo_jax.experiment import train, train_together
from yolo_jax.experiment.groups import begun_groups, note_group
from yolo_jax.networks.darknet import read_floats
from yolo_jax.run_folder import Failure, RunFolder
from yolo_jax.sweep import command
from yolo_jax.sweep.folder import SweepFolder
from yolo_jax.sweep.run import Listed, Unit
from yolo_jax.sweep.together import told, units_of
from yolo_jax.sweep.trials import Trial, read_trials

CONFIG = Path(__file__).parents[1] / "configs" / "short_together.py"


@pytest.mark.slow
def test_trials_together_are_as_alone_and_the_sweep_ends_and_stays_ended(tmp_path: Path):
    log, folder = tmp_path / "log", tmp_path / "together"
    words = ("--runs", str(tmp_path), "--together", "auto")
    status, said = finish(log, *words, config=CONFIG)
    assert status == 1
    assert "together: 3 trials in 1 programs\n  usual other wild\n" in said
    assert "2 done, 1 diverged" in said
    assert json.loads((folder / "wild.failure.json").read_text())["kind"] == "diverged"
    assert not (folder / "wild" / "metrics.json").exists()

    # Alone, by the command that a sweep gives, on one device as each trial has it.
    trials = read_trials(load_module(CONFIG), CONFIG, load_config(CONFIG))
    changes = json.dumps(trials[1].changes | {"name": "alone", "runs": str(tmp_path)})
    command = [sys.executable, "-m", "yolo_jax", "train", str(CONFIG), "--changes", changes]
    subprocess.run(command, check=True)
    mine, own = (
        np.genfromtxt(path / "history.csv", delimiter=",", names=True)
        for path in (folder / "other", tmp_path / "alone")
    )
    for name in own.dtype.names:
        # A term is a part of the loss, of whose rounding it has the more the smaller it is.
        near = 1e-5 if name in ("epoch", "loss", "val_loss") else 5e-5
        np.testing.assert_allclose(mine[name], own[name], rtol=near, err_msg=name)
    weights, there = (
        np.asarray(read_floats(path / "final.weights")[1])
        for path in (folder / "other", tmp_path / "alone")
    )
    assert np.linalg.norm(weights - there) <= 1e-4 * np.linalg.norm(there)
    for name in ("held_out.json", "warnings.json"):
        assert (folder / "other" / name).is_file()
    events = [*(folder / "other" / "tensorboard").rglob("*tfevents*")]
    assert any(b"held_out_AP50" in file.read_bytes() for file in events)

    # Killed while it scored: the group is one state, and only what has no figures is scored.
    kept = (folder / "usual" / "metrics.json").stat().st_mtime_ns
    (folder / "other" / "metrics.json").unlink()
    status, said = finish(log, *words, config=CONFIG)
    assert status == 1 and "2 done, 1 diverged" in said
    assert (folder / "usual" / "metrics.json").stat().st_mtime_ns == kept
    again = np.genfromtxt(folder / "other" / "history.csv", delimiter=",", names=True)
    np.testing.assert_array_equal(again["loss"], mine["loss"])


@pytest.mark.slow
def test_where_all_diverge_each_has_its_own_reason(tmp_path: Path):
    base = dataclasses.replace(load_config(CONFIG), runs=tmp_path, epochs=1)
    rates = {"a": 1e30, "b": 1e31}
    configs = [
        with_changes(
            base, {"name": name, "optimizer.learning_rate": rate, "optimizer.warmup_steps": 0}
        )
        for name, rate in rates.items()
    ]
    with pytest.raises(FloatingPointError, match="trial a: the "):
        train_together(configs)
    for name in rates:
        found = json.loads((tmp_path / f"{name}.failure.json").read_text())
        assert (found["kind"], found["status"]) == ("diverged", 3)
        assert re.fullmatch(
            r"the \w+ of step \d \(counted from 0\) was not finite", found["message"]
        )
        assert not (tmp_path / name / "history.csv").exists()


@pytest.fixture
def grid(tmp_path: Path) -> tuple[SweepFolder, list[Trial]]:
    """Returns a sweep of two forms of the loss by two rates, of which nothing was started."""
    trials = [
        Trial(f"{box}{rate}", {"loss.box": box, "optimizer.learning_rate": rate})
        for box in ("yolov3", "ciou")
        for rate in (0.1, 0.2)
    ]
    base = load_config(CONFIG)
    folder = SweepFolder(type(base)(**{**vars(base), "runs": tmp_path}))
    folder.path.mkdir()
    folder.resolve(trials)
    folder.save(CONFIG)
    return folder, trials


def named(units: list[Unit]) -> list[list[str]]:
    return [[trial.name for trial in unit] for unit in units]


def test_trials_are_grouped_by_what_is_static_and_that_is_said(grid):
    folder, trials = grid
    units = units_of(folder, trials, together=True)
    assert named(units) == [["yolov30.1", "yolov30.2"], ["ciou0.1", "ciou0.2"]]
    assert list(told(folder, units)) == [
        "together: 4 trials in 2 programs",
        "  yolov30.1 yolov30.2",
        "  ciou0.1 ciou0.2",
        "  apart by loss.box",
    ]


@pytest.mark.parametrize("together", [True, False])
def test_a_group_that_was_begun_goes_on_as_it_was(grid, together: bool):
    """Whatever the sweep has beside it by now, and in which order."""
    folder, trials = grid
    folder.begin((trials[1], trials[0]))
    more = Trial("yolov30.3", {"optimizer.learning_rate": 0.3})
    folder.resolve([more, *trials])
    others = [[more.name], ["ciou0.2"]]
    assert named(units_of(folder, [more, trials[1], trials[3]], together=together)) == [
        others[0], ["yolov30.2", "yolov30.1"], others[1],
    ]  # fmt: skip
    assert named(units_of(folder, [more, trials[3]], together=together)) == others
    folder.trials = trials[1:]
    with pytest.raises(ValueError, match=r"begun with yolov30\.1, which the sweep does not have"):
        units_of(folder, trials[1:], together=together)


def test_a_trial_that_was_begun_alone_goes_on_alone(grid):
    folder, trials = grid
    run = folder.run(trials[0])
    run.begin(folder.config(trials[0]), ["crown"], TINY)
    folder.ticket(trials[2].name).write_text("7\n")  # of a job that waits
    units = units_of(folder, trials, together=True)
    assert named(units) == [[trial.name] for trial in trials]


def test_a_group_that_was_preempted_is_started_again_as_a_whole(grid):
    folder, trials = grid
    unit = tuple(trials[:2])

    def preempted(runs: list[RunFolder]) -> int:
        runs[0].save_failure(Failure("diverged", "the loss of step 3 was not finite", 3))
        return 143

    def at_its_end(runs: list[RunFolder]) -> int:
        leave_figures(runs[1], epochs=folder.base.epochs)
        return preempted(runs) - 143

    backend = Scripted(preempted, at_its_end)
    entries = run_scripted(folder, Listed([unit]), backend, restarts=1)
    assert backend.started == [["yolov30.1", "yolov30.2"]] * 2
    assert [entry.state for entry in entries.values()] == ["diverged", "done"]
    assert list(begun_groups(folder.path).values()) == [("yolov30.1", "yolov30.2")]


def test_a_job_that_waits_for_a_group_is_the_folders_own(grid):
    folder, trials = grid
    path = folder.run(trials[1]).path
    path.mkdir(parents=True)
    with another_process_has(path):
        with pytest.raises(ValueError, match=r"yolov30\.2 is in use by process"):
            folder.check_free(trials[:2])
        folder.ticket(trials[0].name).write_text("7\n")
        folder.check_free(trials[:2])


def test_what_was_begun_otherwise_is_not_trained_anew(grid):
    folder, trials = grid
    configs = [folder.config(trial) for trial in trials[:2]]
    begun = folder.run(trials[0])
    begun.begin(begun.resolve(configs[0], 1), ["crown"], TINY)
    with pytest.raises(ValueError, match=r"0\.1 was begun apart.* program with yolov30\.2 would"):
        train_together(configs)
    note_group(configs)
    for others in (configs[:1], configs[::-1]):
        with pytest.raises(
            ValueError, match=r"shares one state with .* yolov30\.1, yolov30\.2, in"
        ):
            train(*others) if len(others) == 1 else train_together(others)


def test_trials_that_differ_in_what_their_runs_keep_are_refused(grid):
    folder, trials = grid
    configs = [folder.config(trial) for trial in trials[:2]]
    note_group(configs)
    begun = with_changes(configs[0], {"optimizer.horizon": 9})
    folder.run(trials[0]).begin(begun, ["crown"], TINY)
    with pytest.raises(ValueError, match=r"differ in optimizer\.horizon, which one program"):
        train_together(configs)


def test_a_dry_run_says_who_would_train_together(tmp_path: Path, capsys):
    words = ["sweep", str(CONFIG), "--runs", str(tmp_path), "--dry-run"]
    assert cli.main(words) == 0
    alone = capsys.readouterr().out
    assert cli.main([*words, "--together", "auto"]) == 0
    said = "together: 3 trials in 1 programs\n  usual other wild\n"
    assert capsys.readouterr().out == alone + said
    assert not (tmp_path / "together").exists()


def test_no_retry_thaws_a_trial_of_a_group(tmp_path: Path, capsys):
    folder = SweepFolder(dataclasses.replace(load_config(CONFIG), runs=tmp_path))
    trials = read_trials(load_module(CONFIG), CONFIG, folder.base)
    folder.path.mkdir()
    folder.resolve(trials)
    folder.save(CONFIG)
    folder.begin(trials[:2])
    leave_figures(folder.run(trials[0]), epochs=folder.base.epochs)
    for trial in trials[1:]:
        folder.run(trial).save_failure(Failure("diverged", "it was not finite", 3))
    words = ["sweep", str(CONFIG), "--runs", str(tmp_path), "--dry-run", "--together", "auto"]
    assert cli.main([*words, "--retry"]) == 0
    assert "--retry leaves other out: the state that it shares" in capsys.readouterr().err
    options = argparse.Namespace(retry=True, together="auto")
    entries = {trial.name: command.entry_of(folder, trial) for trial in trials}
    assert named(command._units(options, folder, entries)) == [["wild"]]


def test_a_search_trains_nothing_together(tmp_path, capsys):
    words = ["--search", "optuna", "--trials", "2", "--together", "auto", "--runs", str(tmp_path)]
    assert cli.main(["sweep", str(CONFIG), *words]) == 2
    assert "--together is of sweep()" in capsys.readouterr().err
