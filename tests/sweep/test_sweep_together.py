"""`yolo-jax sweep --together auto`: trials in one program are the runs that they would be alone."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sweeps import finish

from yolo_jax import cli
from yolo_jax.config import load_config
from yolo_jax.config.files import load_module
from yolo_jax.experiment.together import group_folder
from yolo_jax.networks.darknet import read_floats
from yolo_jax.sweep.folder import SweepFolder
from yolo_jax.sweep.together import told, units_together
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
    subprocess.run(command, env=os.environ | {"XLA_FLAGS": ""}, check=True)
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

    # Killed while it scored: the group is one state, and only what has no figures is scored.
    kept = (folder / "usual" / "metrics.json").stat().st_mtime_ns
    (folder / "other" / "metrics.json").unlink()
    status, said = finish(log, *words, config=CONFIG)
    assert status == 1 and "2 done, 1 diverged" in said
    assert (folder / "usual" / "metrics.json").stat().st_mtime_ns == kept
    again = np.genfromtxt(folder / "other" / "history.csv", delimiter=",", names=True)
    np.testing.assert_array_equal(again["loss"], mine["loss"])


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
    folder.resolve(trials)
    return folder, trials


def test_trials_are_grouped_by_what_is_static_and_that_is_said(grid):
    folder, trials = grid
    units = units_together(folder, trials, trials)
    assert [[trial.name for trial in unit] for unit in units] == [
        ["yolov30.1", "yolov30.2"],
        ["ciou0.1", "ciou0.2"],
    ]
    assert list(told(folder, units)) == [
        "together: 4 trials in 2 programs",
        "  yolov30.1 yolov30.2",
        "  ciou0.1 ciou0.2",
        "  apart by loss.box",
    ]


def test_a_group_that_was_begun_goes_on_as_a_whole_and_others_by_what_is_left(grid):
    folder, trials = grid
    left = [trials[1], trials[3]]
    begun = group_folder([folder.config(trial) for trial in trials[:2]])
    begun.mkdir(parents=True)
    assert units_together(folder, trials, left) == [tuple(trials[:2]), (trials[3],)]
    shutil.rmtree(begun)
    assert units_together(folder, trials, left) == [(trials[1],), (trials[3],)]


def test_a_search_trains_nothing_together(tmp_path, capsys):
    words = ["--search", "optuna", "--trials", "2", "--together", "auto", "--runs", str(tmp_path)]
    assert cli.main(["sweep", str(CONFIG), *words]) == 2
    assert "--together is of sweep()" in capsys.readouterr().err
