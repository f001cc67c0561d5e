"""`--search optuna`: a stored study that goes on, is its config's alone, and prunes."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
from child_processes import PATIENCE, wait_for
from optuna.trial import TrialState
from sweeps import CONFIGS, finish, started

from yolo_jax import cli
from yolo_jax.config import ExperimentConfig, load_config
from yolo_jax.config.files import load_module
from yolo_jax.sweep.folder import Progress, SweepFolder
from yolo_jax.sweep.run import Entry
from yolo_jax.sweep.search import Search
from yolo_jax.sweep.trials import Trial

CONFIG = CONFIGS / "short_search.py"
EPOCHS = 40


def base(runs: Path) -> ExperimentConfig:
    return dataclasses.replace(load_config(CONFIG), runs=runs, epochs=EPOCHS)


def opened(config: ExperimentConfig, count: int, **options: Any) -> Search:
    """Returns the search as a sweep that was just started has it."""
    folder = SweepFolder(config)
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.resolve([])
    folder.save(CONFIG)
    options = {"module": load_module(CONFIG), "metric": "val_loss", "url": None} | options
    return Search(config_file=CONFIG, folder=folder, count=count, **options)


def progress(value: float, epochs: int = EPOCHS) -> Progress:
    return Progress([{"epoch": float(epoch), "val_loss": value} for epoch in range(epochs)], None)


def run_through(search: Search, value: float) -> Trial:
    """Takes a trial to its end, as if it had been trained."""
    trial = asked(search)
    search.ended(Entry(trial, EPOCHS, "done", progress(value)))
    return trial


def asked(search: Search) -> Trial:
    unit = search.next()
    assert unit is not None
    return unit[0]


def study(runs: Path) -> optuna.Study:
    name = runs / "swept" / "study.db"
    return optuna.load_study(study_name="swept", storage=f"sqlite:///{name}")


def test_a_study_goes_on_to_so_many_trials(tmp_path: Path):
    first = opened(base(tmp_path), 3)
    run_through(first, 3.0)
    left, crashed = asked(first), asked(first)
    assert first.next() is None
    assert [left.name, crashed.name] == ["trial_0001", "trial_0002"]
    first.ended(Entry(crashed, EPOCHS, "crashed", Progress([], None)))

    second = opened(base(tmp_path), 3)
    assert asked(second) == left  # what a killed sweep left goes on
    second.ended(Entry(left, EPOCHS, "diverged", progress(9.0, 1)))
    assert run_through(second, 2.0).name == "trial_0003"  # in the place of what crashed
    assert second.next() is None
    assert second.best().startswith("best by val_loss: trial_0003 2  {'rate': ")
    states = [trial.state for trial in study(tmp_path).trials]
    assert states == [
        TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.COMPLETE,
    ]  # fmt: skip
    record = json.loads((tmp_path / "swept" / "sweep.json").read_text())
    assert [trial["name"] for trial in record["trials"]] == [f"trial_000{i}" for i in range(4)]


def test_a_trial_of_another_study_is_not_taken_for_ones_own(tmp_path: Path):
    run_through(opened(base(tmp_path), 1), 3.0)
    shared = {"url": f"sqlite:///{tmp_path / 'shared.db'}"}
    here = r"has a trial_0000 of another study, with \{'optimizer\.learning_rate': .*; this one"
    with pytest.raises(ValueError, match=here):
        opened(base(tmp_path), 1, **shared).next()
    assert optuna.load_study(study_name="swept", storage=shared["url"]).trials[0].state == (
        TrialState.FAIL
    )
    record = json.loads((tmp_path / "swept" / "sweep.json").read_text())
    assert [trial["name"] for trial in record["trials"]] == ["trial_0000"]


def test_a_study_of_something_else_is_refused(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    opened(base(tmp_path / "one"), 3, url=url)
    opened(dataclasses.replace(base(tmp_path / "two"), epochs=9), 3, url=url)
    other = dataclasses.replace(base(tmp_path / "three"), seed=5)
    with pytest.raises(ValueError, match=r"another config; these differ: seed \(there 0, here 5\)"):
        opened(other, 3, url=url)
    with pytest.raises(ValueError, match="is of --metric val_loss; found val_xy_loss"):
        opened(base(tmp_path / "four"), 3, url=url, metric="val_xy_loss")
    file = tmp_path / "other.py"
    file.write_text("def search(trial):\n    return {'epochs': 3}\n")
    with pytest.raises(ValueError, match=r"(?s)another search\(\) than .* was:\ndef search\(trial"):
        opened(base(tmp_path / "five"), 3, url=url, module=load_module(file))


def test_what_cannot_be_searched_by(tmp_path: Path, capsys: pytest.CaptureFixture):
    command = ["sweep", str(CONFIG), "--runs", str(tmp_path), "--search", "optuna"]
    for options, said in {
        "": "--search optuna needs --trials",
        "--trials 3 --retry": "--retry is of sweep()",
        "--trials 3 --metric AP50": "--metric is 'AP50'; expected a figure of the validation",
        "--trials 3 --metric loss": "--metric is 'loss'; expected a figure of the validation",
        "--trials 3 --metric val_AP": "--metric is 'val_AP', and validation_ap_every is 0",
        "--trials 3 --study nowhere://": "--study nowhere:// cannot be opened",
    }.items():
        assert cli.main([*command, *options.split()]) == 2
        assert said in capsys.readouterr().err
    assert cli.main(["sweep", str(CONFIG), "--trials", "3"]) == 2
    assert "--trials is of --search optuna; found no --search" in capsys.readouterr().err

    search = opened(base(tmp_path / "column"), 3, metric="val_xy_los")
    trial = asked(search)
    with pytest.raises(ValueError, match=r"does not have; .* one of val_loss"):
        search.is_hopeless(trial, progress(3.0))
    file = tmp_path / "other.py"
    file.write_text("def search(trial):\n    return {'epoch': 3}\n")
    search = opened(base(tmp_path / "field"), 3, module=load_module(file))
    with pytest.raises(ValueError, match="trial_0000: there is no field 'epoch'; .* 'epochs'"):
        search.next()
    file.write_text("def search(trial):\n    return {'loss.box': 'ciou'}\n")
    opened(base(tmp_path / "loss"), 3, module=load_module(file)).next()
    assert "search() changes loss.box, and val_loss is not comparable" in (capsys.readouterr().err)


def test_a_dry_run_says_how_the_trials_so_far_stand(tmp_path: Path, capsys):
    where = ["--runs", str(tmp_path), "--epochs", str(EPOCHS)]
    command = ["sweep", str(CONFIG), *where, "--search", "optuna", "--trials", "3", "--dry-run"]
    assert cli.main(command) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'swept'} has no trial yet\n"
    run_through(opened(base(tmp_path), 1), 3.0)
    assert cli.main(command) == 0
    assert capsys.readouterr().out == "trial_0000: waiting  epoch 0/40\n"


SPACE = """
import optuna

def search(trial):
    share = trial.suggest_float("share", 0, 1)
    if trial.number == 1:
        raise optuna.TrialPruned("too dear")
    return {"augment.mosaic": share, "augment.mixup": MIXUP if trial.number == 0 else 0.0}
"""


def test_what_cannot_be_trained_is_told_and_another_is_asked_for(tmp_path: Path, caplog):
    file = tmp_path / "space.py"
    file.write_text(SPACE.replace("MIXUP", "1.0"))
    search = opened(base(tmp_path), 3, module=load_module(file))
    assert [asked(search).name, asked(search).name] == ["trial_0002", "trial_0003"]
    assert search.next() is None
    states = [trial.state for trial in study(tmp_path).trials]
    assert states[:2] == [TrialState.FAIL, TrialState.PRUNED]
    assert "trial trial_0000: augment.mosaic" in caplog.text

    file.write_text(SPACE.replace("MIXUP if trial.number == 0 else 0.0", "7.0"))
    search = opened(base(tmp_path / "never"), 3, module=load_module(file))
    with pytest.raises(ValueError, match=r"gave 50 trials one after the other that cannot be, the"):
        search.next()
    trials = study(tmp_path / "never").trials
    assert len(trials) == 50 and trials[-1].state == TrialState.FAIL


def test_a_study_that_was_not_yet_said_what_it_is_of(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    made = optuna.create_study(study_name="swept", storage=url)
    opened(base(tmp_path / "one"), 3, url=url)  # as where it was killed there and then
    assert list(optuna.load_study(study_name="swept", storage=url).user_attrs) == ["yolo_jax"]
    optuna.delete_study(study_name="swept", storage=url)
    made = optuna.create_study(study_name="swept", storage=url)
    made.tell(made.ask(), 3.0)
    with pytest.raises(ValueError, match="swept has trials of no sweep; choose another"):
        opened(base(tmp_path / "two"), 3, url=url)


def test_average_precision_is_waited_for_to_its_first_score(tmp_path: Path):
    config = dataclasses.replace(base(tmp_path), validation_ap_every=2)
    search = opened(config, 2, metric="val_AP50")
    trial = asked(search)
    rows = [{"epoch": float(epoch), "val_loss": 3.0} for epoch in range(EPOCHS)]
    assert not search.is_hopeless(trial, Progress(rows[:1], None))
    with_columns = [row | {"val_AP": math.nan, "val_AP50": math.nan} for row in rows[:2]]
    with_columns[1]["val_AP50"] = 0.25
    assert not search.is_hopeless(trial, Progress(with_columns, None))
    assert study(tmp_path).trials[0].intermediate_values == {1: 0.25}
    search.ended(Entry(trial, EPOCHS, "done", Progress(with_columns, None)))
    assert study(tmp_path).best_value == 0.25

    lacking = asked(search)
    with pytest.raises(ValueError, match=r"is val_AP50, which trial_0001 does not have"):
        search.ended(Entry(lacking, EPOCHS, "done", Progress(rows, None)))


@pytest.mark.slow
def test_a_hopeless_trial_is_pruned_even_after_a_kill(tmp_path: Path):
    earlier = opened(base(tmp_path), 5)
    for _ in range(5):
        run_through(earlier, 0.001)
    log = tmp_path / "log"
    where = ["--runs", str(tmp_path), "--epochs", str(EPOCHS), "--search", "optuna"]
    where += ["--trials", "6"]
    with started(log, *where, config=CONFIG) as sweep:
        wait_for("running  epoch 1/40", sweep, log)
        trials = psutil.Process(sweep.pid).children()
        sweep.kill()
        assert not psutil.wait_procs(trials, timeout=PATIENCE)[1]
    status, said = finish(log, *where, config=CONFIG)
    assert status == 0, said
    assert "trial_0005: pruned" in said
    assert "resumed from" in (tmp_path / "swept" / "trial_0005.log").read_text()
    last = study(tmp_path).trials[-1]
    assert last.state == TrialState.PRUNED and 8 <= len(last.intermediate_values) < EPOCHS
    failure = json.loads((tmp_path / "swept" / "trial_0005.failure.json").read_text())
    assert failure == {"kind": "pruned", "message": "", "status": 143}
