"""An update that a run refused is noted with its images, and taken again by `train --replay`."""

import json
from pathlib import Path

import pytest
from test_experiment import config

from yolo_jax import cli, experiment
from yolo_jax.config import FreezeBodyConfig, OptimizerConfig

pytestmark = pytest.mark.usefixtures("one_device")


@pytest.mark.slow
def test_a_refused_update_is_taken_again_to_the_bit(tmp_path: Path, capsys):
    """The second stage's first update is too large, and the loss of its second infinite."""
    wanted = config(
        tmp_path,
        epochs=3,
        steps_per_epoch=3,
        freeze_body=FreezeBodyConfig(epochs=1),
        optimizer=OptimizerConfig(kind="sgd", learning_rate=1e14, warmup_steps=0),
    )
    with pytest.raises(FloatingPointError, match="the loss of step 4 "):
        experiment.train(wanted)
    folder = wanted.runs / wanted.name
    (record,) = json.loads((folder / "refused.json").read_text())
    expected = {"stage": 1, "epoch": 1, "batch": 1, "step": 4, "position": 4, "term": "loss"}
    assert {name: record[name] for name in expected} == expected
    assert sorted(Path(name).name for name in record["images"]) == ["train_0.png", "train_1.png"]
    files = sorted(path for path in folder.rglob("*"))
    capsys.readouterr()
    assert cli.main(["train", "--replay", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "taken again: the loss was not finite" in said
    assert "first not finite: invalid value" in said and "networks" in said
    assert all(name in said for name in record["images"])
    assert sorted(path for path in folder.rglob("*")) == sorted([*files, folder / "refused_4.jpg"])
    assert cli.main(["train", "--replay", str(folder), "--step", "3"]) == 2
    assert "there is no step 3 on record; expected one of 4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--replay", "FOLDER"], "holds no run; there is nothing to replay"),
        (["--replay", "FOLDER", "--epochs", "3"], "takes a run's folder and nothing but --step N"),
        (["--replay", "FOLDER", "--reproduce"], "takes a run's folder and nothing but --step N"),
        (["FOLDER", "--step", "3"], "or --step without it"),
        (["--replay"], "takes a run's folder and nothing but --step N"),
    ],
)
def test_there_has_to_be_something_to_replay(given: list[str], message: str, tmp_path, capsys):
    assert cli.main(["train", *(str(tmp_path) if one == "FOLDER" else one for one in given)]) == 2
    assert message in capsys.readouterr().err
