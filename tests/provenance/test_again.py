"""`yolo-jax train --reproduce`: the same run again, and what differs."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image
from test_experiment import config

from yolo_jax import cli, experiment
from yolo_jax.core.anchors import TINY
from yolo_jax.provenance import compare_runs, config_again, tell_differences
from yolo_jax.run_folder import RunFolder

HISTORY = "epoch,loss,val_loss\n0,1.5,2.5\n1,1.25,2.25\n"


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """Returns the folder of a run that has ended, of numbers that were made up."""
    wanted = config(tmp_path)
    run = RunFolder(wanted.runs / wanted.name)
    run.begin(run.resolve(wanted, 1), ("ash", "oak"), TINY)
    run.weights.write_bytes(b"weights")
    run.save_figures(
        {"AP": 0.5, "AP50": 0.75, "epochs": 2, "sources": {"all": {"AP": None, "AP50": 1.0}}}
    )
    (run.path / "history.csv").write_text(HISTORY)
    return run.path


def test_the_config_is_the_runs_own_beside_it(begun: Path, monkeypatch: pytest.MonkeyPatch):
    stored, again = RunFolder(begun).config(), config_again(begun, [])
    assert again == dataclasses.replace(stored, name="tiny_again", runs=begun.parent)
    other = config_again(begun, ["--name", "new", "--data.threads", "3", "--track", "mlflow"])
    assert (other.name, other.data.threads, other.track) == ("new", 3, ("mlflow",))
    monkeypatch.chdir(begun)
    assert config_again(Path(), []) == again
    # Where it was moved to counts.
    moved = begun.parents[1] / "kept" / "best"
    moved.parent.mkdir()
    shutil.move(begun, moved)
    assert config_again(moved, []).runs == moved.parent
    assert config_again(moved, []).name == "best_again"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ("--name tiny", "would write into that folder itself; give another --name"),
        ("--epochs 9", r"takes that run's own config; found epochs \(there 1, here 9\)"),
        ("--seed 3 --loss.box ciou", r"loss\.box .*; seed \(there 0, here 3\)"),
    ],
)
def test_what_would_be_another_run_is_refused(begun: Path, overrides: str, said: str, capsys):
    assert cli.main(["train", "--reproduce", str(begun), *overrides.split()]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert re.search(said, message)


def test_what_is_complete_already_is_not_said_to_be_reproduced(begun: Path, capsys):
    again = shutil.copytree(begun, begun.with_name("tiny_again"))
    assert cli.main(["train", "--reproduce", str(begun)]) == 2
    said = capsys.readouterr()
    assert f"would train nothing, for {again} is there and complete; give another" in said.err
    assert said.out == ""
    # One that was interrupted goes on.
    (again / "metrics.json").unlink()
    assert config_again(begun, []).name == "tiny_again"


def test_what_is_no_run_or_has_lost_its_data_is_named(begun: Path, tmp_path: Path):
    with pytest.raises(ValueError, match=r"nowhere: there is no run, for it has no config\.json"):
        config_again(tmp_path / "nowhere", [])
    (tmp_path / "validation.json").unlink()
    with pytest.raises(
        ValueError, match=r"tiny is of the data .*validation\.json, and there is no"
    ):
        config_again(begun, [])


def test_a_launcher_gives_it_to_every_process(begun: Path, capsys):
    options = ["--name", "new", "--launch", "local", "--processes", "2", "--dry-run"]
    assert cli.main(["train", "--reproduce", str(begun), *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all(f"train {begun} --name new --reproduce" in line for line in lines)


def test_the_first_figure_that_differs_is_named(begun: Path):
    other = begun.with_name("other")
    shutil.copytree(begun, other)
    assert compare_runs(begun, other) is None
    figures = json.loads((other / "metrics.json").read_text())
    figures["sources"]["all"]["AP"] = 0.25
    (other / "metrics.json").write_text(json.dumps(figures))
    assert compare_runs(begun, other) == "metrics.json: sources.all.AP None then, 0.25 now"
    (other / "final.weights").write_bytes(b"others")
    assert str(compare_runs(begun, other)).startswith("final.weights: sha256 ")
    (other / "history.csv").write_text(HISTORY + "2,1.0,2.0\n")
    assert compare_runs(begun, other) == "history.csv: 2 epochs then, 3 now"
    (other / "history.csv").write_text(HISTORY.replace("1.25,2.25", "1.26,2.24"))
    assert compare_runs(begun, other) == "epoch 2: loss 1.25 then, 1.26 now"


def test_a_run_from_before_origins_is_said_to_be_one(begun: Path, capsys):
    tell_differences(begun, {})
    assert "has no origin.json, for it is older than these" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.usefixtures("one_device")
def test_a_run_is_reproduced_to_the_bit_until_an_image_is_another(tmp_path: Path, capsys):
    wanted = config(tmp_path)
    experiment.train(wanted, source=tmp_path / "mine.py")
    run = str(wanted.runs / "tiny")
    before = {path: path.read_bytes() for path in Path(run).rglob("*") if path.is_file()}
    assert cli.main(["train", "--reproduce", run]) == 0
    said = capsys.readouterr().out
    assert f"surroundings of {run}: " in said
    # Of the tests' own checkout somebody may change files meanwhile.
    told = [line for line in said.splitlines() if line.startswith("  ")]
    assert all(line.startswith("  checkout.") for line in told), told
    assert f"reproduced: all epochs, weights and figures of {run}, to the bit" in said
    (start,) = json.loads((wanted.runs / "tiny_again" / "origin.json").read_text())["starts"]
    assert start["reproduces"] == run

    Image.new("RGB", (50, 40), "red").save(tmp_path / "train_0.png")
    assert cli.main(["train", "--reproduce", run, "--name", "changed"]) == 1
    said = capsys.readouterr().out
    assert "  data.train.content.sha256: " in said
    assert "  data.train.files.sha256: " in said
    assert (
        f"not reproduced: {wanted.runs / 'changed'} differs from {run} first in epoch 1: " in said
    )
    # The run itself is as it was.
    assert {path: path.read_bytes() for path in Path(run).rglob("*") if path.is_file()} == before
