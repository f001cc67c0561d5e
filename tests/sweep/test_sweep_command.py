"""`yolo-jax sweep` as a user runs it: crashes survived, kills resumed, the rest refused."""

import dataclasses
import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from child_processes import PATIENCE, wait_for
from sweeps import (
    CONFIG,
    Scripted,
    another_process_has,
    finish,
    leave_figures,
    run_scripted,
    started,
)

from yolo_jax import cli
from yolo_jax.config import load_config
from yolo_jax.run_folder import RunFolder
from yolo_jax.sweep import run
from yolo_jax.sweep.folder import Progress, SweepFolder
from yolo_jax.sweep.local import Place, places
from yolo_jax.sweep.run import Entry, Listed, NotStarted
from yolo_jax.sweep.table import summary
from yolo_jax.sweep.trials import Trial

GOOD = "box=ciou,flip=0.5"


def failure(folder: Path, trial: str) -> dict:
    return json.loads((folder / f"{trial}.failure.json").read_text())


@pytest.mark.slow
def test_killed_and_stopped_a_sweep_goes_on_and_survives_its_trials_crashes(tmp_path: Path):
    folder, log, where = tmp_path / "swept", tmp_path / "log", ("--runs", str(tmp_path))
    with started(log, *where) as sweep:
        wait_for("running  epoch 1/4", sweep, log)
        trials = psutil.Process(sweep.pid).children()
        sweep.kill()
        assert not psutil.wait_procs(trials, timeout=PATIENCE)[1]  # they saved and ended too
    rows = (folder / GOOD / "history.csv").read_text()
    assert not (folder / GOOD / "metrics.json").exists()
    with started(log, *where) as sweep:
        wait_for("resumed from", sweep, folder / f"{GOOD}.log")
        sweep.terminate()
        assert sweep.wait(PATIENCE) == 143
    assert "the same command goes on from there" in log.read_text()
    assert not (folder / f"{GOOD}.failure.json").exists()

    status, said = finish(log, *where)
    assert status == 1
    assert "1 done, 1 crashed, 1 diverged" in said
    assert (folder / GOOD / "history.csv").read_text().startswith(rows)
    assert RunFolder(folder / GOOD).config().loss.box == "ciou"
    assert failure(folder, "damaged")["kind"] == "crashed"
    assert "does not start as a Darknet weights file" in failure(folder, "damaged")["message"]
    assert failure(folder, "diverging")["status"] == 3
    assert [trial["name"] for trial in json.loads((folder / "sweep.json").read_text())["trials"]]

    # What is done and what diverged stays; what crashed is tried again.
    status, said = finish(log, *where)
    assert (status, said.count(": running")) == (1, 1)
    assert "damaged: running" in said and "diverging: diverged" in said


@pytest.fixture
def begun(tmp_path: Path) -> SweepFolder:
    """Returns the folder of a sweep of which no trial was ever started."""
    folder = SweepFolder(dataclasses.replace(load_config(CONFIG), runs=tmp_path))
    with folder.in_use():
        folder.resolve([Trial("mine", {"seed": 1}), Trial("long", {"epochs": 9})])
        folder.save(CONFIG)
    return folder


def test_a_sweep_of_another_config_is_refused(begun: SweepFolder, capsys):
    before = (begun.path / "sweep.json").read_text()
    command = ["sweep", str(CONFIG), "--runs", str(begun.path.parent)]
    assert cli.main([*command, "--optimizer.momentum", "0.5"]) == 2
    assert "another config; these differ: optimizer.momentum (there 0.9, here 0.5)" in (
        capsys.readouterr().err
    )
    assert (begun.path / "sweep.json").read_text() == before
    assert cli.main([*command, "--dry-run", "--epochs", "7"]) == 0
    assert "damaged: waiting  epoch 0/7" in capsys.readouterr().out


def test_trials_may_be_added_and_not_changed(begun: SweepFolder):
    longer = SweepFolder(dataclasses.replace(begun.base, epochs=7))
    with pytest.raises(ValueError, match=r"trial mine with other values: seed \(there 1, here 2\)"):
        longer.resolve([Trial("mine", {"seed": 2})])
    with pytest.raises(ValueError, match=r"loss\.box \(there left as it is, here None\)"):
        longer.resolve([Trial("mine", {"seed": 1, "loss.box": None})])
    with pytest.raises(ValueError, match=r"has a trial mine, and now one Mine: some disks"):
        longer.resolve([Trial("Mine", {"seed": 1})])
    new = Trial("new", {"seed": 3})
    longer.resolve([new, Trial("long", {"epochs": 10})])
    longer.save(CONFIG)
    record = json.loads((begun.path / "sweep.json").read_text())
    assert [trial["name"] for trial in record["trials"]] == ["new", "long", "mine"]
    # What is added ends its schedule where the others do.
    config = longer.config(new)
    assert (config.epochs, config.optimizer.horizon, record["base"]["epochs"]) == (7, 4, 4)
    assert (config.name, config.runs) == ("new", begun.path)
    assert longer.config(Trial("long", {"epochs": 10})).optimizer.horizon is None


def test_figures_that_lay_there_are_not_those_of_a_process_that_refuses_them(begun: SweepFolder):
    trial = begun.trials[0]
    leave_figures(begun.run(trial), epochs=4)
    assert run_scripted(begun, Listed([(trial,)]), Scripted(2))["mine"].state == "crashed"
    assert run_scripted(begun, Listed([(trial,)]), Scripted(0))["mine"].state == "done"


def test_a_history_is_read_where_it_changed(begun: SweepFolder, monkeypatch: pytest.MonkeyPatch):
    trial, reads = begun.trials[0], []
    file = begun.run(trial).history_file
    file.parent.mkdir()
    history = RunFolder.history
    monkeypatch.setattr(RunFolder, "history", lambda run: reads.append(run) or history(run))
    for rows in ("epoch,loss\n0,3\n", "epoch,loss\n0,3\n1,2\n"):
        partial = file.with_suffix(".partial")
        partial.write_text(rows)
        partial.replace(file)
        found = [begun.progress(trial) for _ in range(3)]
    assert found[-1].epochs == 2 and len(reads) == 2
    leave_figures(begun.run(trial), epochs=4)
    figures = begun.progress(trial).figures
    assert figures is not None and figures["epochs"] == 4


def test_signals_that_come_again_and_again_are_a_second_one(monkeypatch: pytest.MonkeyPatch):
    times = iter([0.0, 0.6, 1.2, 1.3])
    monkeypatch.setattr(run, "time", SimpleNamespace(monotonic=lambda: next(times)))
    counts = []
    with run._signals() as came:
        for _ in range(4):
            signal.raise_signal(signal.SIGTERM)
            counts.append(len(came))
    assert counts == [1, 1, 2, 2]


def test_a_trial_that_a_queue_refuses_has_crashed_and_the_others_go_on(begun: SweepFolder):
    def refuse(runs: list[RunFolder]) -> int:
        raise NotStarted("SLURM did not take the job: the partition is down")

    def end_well(runs: list[RunFolder]) -> int:
        leave_figures(*runs, epochs=9)
        return 0

    units = Listed([(trial,) for trial in begun.trials])
    entries = run_scripted(begun, units, Scripted(refuse, end_well))
    assert [entry.state for entry in entries.values()] == ["crashed", "done"]
    assert "the partition is down" in failure(begun.path, "mine")["message"]


def test_a_folder_of_a_run_is_no_sweeps(tmp_path: Path, capsys):
    (tmp_path / "swept").mkdir()
    (tmp_path / "swept" / "config.json").write_text("{}")
    assert cli.main(["sweep", str(CONFIG), "--runs", str(tmp_path)]) == 2
    assert "swept holds no sweep (there is no sweep.json) but" in capsys.readouterr().err


@pytest.mark.parametrize("of", [".", GOOD])
def test_a_folder_that_a_living_process_has_is_refused(of: str, tmp_path: Path, capsys):
    """The sweep's own, or a trial's run folder."""
    folder = tmp_path / "swept" / of
    folder.mkdir(parents=True)
    SweepFolder(dataclasses.replace(load_config(CONFIG), runs=tmp_path)).save(CONFIG)
    with another_process_has(folder) as number:
        assert cli.main(["sweep", str(CONFIG), "--runs", str(tmp_path)]) == 2
    assert f"{folder.name} is in use by process {number}" in capsys.readouterr().err
    assert not any(tmp_path.rglob("*.log"))


def test_options_that_do_not_go_together(tmp_path: Path, capsys):
    command = ["sweep", str(CONFIG), "--runs", str(tmp_path)]
    for options, said in {
        "--gpus 1": "--gpus is of --backend slurm; found --backend local",
        "--devices-per-trial 1": "--devices-per-trial is 1, and JAX sees no accelerator here",
        "--backend ray --devices-per-trial 1": "--devices-per-trial is of --backend local",
        "--env PLACE": "--env takes NAME=VALUE; found 'PLACE'",
        "--env PLACE --dry-run": "--env takes NAME=VALUE; found 'PLACE'",
        "--backend slurm --job-name A_b --dry-run": "the job's name is 'A_b'; expected up to 40",
    }.items():
        assert cli.main([*command, *options.split()]) == 2
        assert said in capsys.readouterr().err
    # Nothing was begun, and another base config may have the name.
    assert not any(tmp_path.rglob("sweep.json"))
    assert cli.main(["sweep", str(tmp_path)]) == 2
    assert "a sweep is of a config file with sweep()" in capsys.readouterr().err


def test_what_no_queue_takes_for_a_name_is_one_of_a_config_here(tmp_path: Path, capsys):
    file = tmp_path / "9 lives.py"
    file.write_text(CONFIG.read_text().replace("Path(__file__)", f"Path({str(CONFIG)!r})"))
    command = ["sweep", str(file), "--runs", str(tmp_path), "--dry-run"]
    assert cli.main(command) == 0
    assert "damaged: waiting  epoch 0/4" in capsys.readouterr().out
    assert cli.main([*command, "--backend", "slurm"]) == 2
    assert "the job's name is '9 lives'" in capsys.readouterr().err


def test_cores_are_shared_out():
    cores = sorted(os.sched_getaffinity(0))
    assert places(1, None) == [Place()]
    shared = [core for place in places(len(cores), None) for core in place.cores]
    assert shared == (cores if len(cores) > 1 else [])  # one that is alone has all
    assert places(len(cores) + 1, None) == [Place()] * (len(cores) + 1)


def test_the_end_says_means_over_seeds():
    def entry(name: str, changes: dict, ap50: float | None, state: Any = "done") -> Entry:
        history = [{"epoch": 0.0, "loss": 3.0, "val_loss": 2.0}]
        figures = None if ap50 is None else {"AP50": ap50}
        return Entry(Trial(name, changes), 1, state, Progress(history, figures), 75.0)

    entries = [
        entry("box=ciou,seed=0", {"loss.box": "ciou", "seed": 0}, 0.25),
        entry("box=ciou,seed=1", {"loss.box": "ciou", "seed": 1}, 0.75),
        entry("box=giou,seed=0", {"loss.box": "giou", "seed": 0}, 0.5),
        entry("box=giou,seed=1", {"loss.box": "giou", "seed": 1}, None, "crashed"),
    ]
    assert summary(entries) == [
        "box=giou,seed=1: crashed  epoch 1/1  loss 3  val_loss 2  time 1:15",
        "3 done, 1 crashed",
        "box=ciou: mean of 2 seeds  AP50 0.500 ± 0.354  val_loss 2 ± 0",
    ]
