"""Configs as flat fields, and other values of some of them."""

from pathlib import Path

import pytest

from yolo_jax import cli
from yolo_jax.config import config_of, load_config
from yolo_jax.config.flat import flatten, unflatten, with_changes

CONFIG = Path(__file__).parents[1] / "configs" / "short.py"


def test_a_config_comes_back_from_its_fields():
    config = load_config(CONFIG)
    assert unflatten(flatten(config)) == config


def test_changes_go_before_the_file_and_the_command_line():
    changes = {"runs": "elsewhere", "augment.crop": [100, 200], "optimizer.learning_rate": 1}
    config = config_of(CONFIG, ["--epochs", "3", "--runs", "there"], changes=changes)
    assert (config.runs, config.epochs, config.augment.crop) == (Path("elsewhere"), 3, (100, 200))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"optimizer.learning_rat": 1}, "'optimizer.learning_rat'; did you mean 'optimizer.learn"),
        ({"learning_rate": 1}, "did you mean 'optimizer.learning_rate'"),
        ({"optimizer": "adam"}, "there is no field 'optimizer'"),
        ({"epochs": "3"}, "epochs is '3'; expected a whole number of 1 or more"),
        ({"epochs": 0}, "epochs is 0; expected"),
        ({"data.train": 3}, "data.train is 3; expected a path"),
    ],
)
def test_changes_that_cannot_be(changes: dict, said: str):
    with pytest.raises(ValueError, match=said):
        with_changes(load_config(CONFIG), changes)


def test_changes_of_the_command_line_are_json_of_fields_and_names_of_their_own(capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", str(CONFIG), "--changes", "epochs=3"])
    assert "found 'epochs=3'; expected JSON" in capsys.readouterr().err
    twice = ["--changes", "{}", "--changes", "{}"]
    assert cli.main(["train", str(CONFIG), *twice]) == 2
    assert "trials have a name each; found short, short" in capsys.readouterr().err
    wrong = ["--changes", '{"optimizer.kinds": "sgd"}']
    assert cli.main(["train", str(CONFIG), *wrong]) == 2
    assert "did you mean 'optimizer.kind'" in capsys.readouterr().err
