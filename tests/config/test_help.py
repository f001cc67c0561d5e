"""What the command line tells of a config's fields, and how it refuses what is none."""

import re
from pathlib import Path

import pytest

from yolo_jax import cli, experiment
from yolo_jax.config import load_config
from yolo_jax.run_folder import flatten

CONFIG = Path(__file__).parents[2] / "experiments" / "configs" / "quickstart.py"


@pytest.fixture
def help_of(capsys: pytest.CaptureFixture):
    def told(*arguments: str) -> str:
        with pytest.raises(SystemExit) as stopped:
            cli.main(["train", *arguments])
        assert stopped.value.code == 0
        return capsys.readouterr().out

    return told


def test_help_lists_every_field_with_its_meaning_and_default(help_of):
    said = help_of(str(CONFIG), "--help")
    assert said == help_of("--help", str(CONFIG))
    assert "--launch starts a run elsewhere" in said
    told = {}
    for option in re.split(r"\n[│ ] (?=--)", said)[1:]:
        first, *rest = option.splitlines()
        names = re.findall(r"--([\w.-]+)", first)
        told |= {name: " ".join(" ".join(rest).replace("│", " ").split()) for name in names}
    for name, value in flatten(load_config(CONFIG)).items():
        meaning, _, default = told[name.replace("_", "-")].partition(" (default: ")
        assert len(meaning.split()) >= 2, name
        assert default, name
        if isinstance(value, int | float) and not isinstance(value, bool):
            assert default.startswith(f"{value})"), name


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--optimizer.learning-rat 3", "did you mean --optimizer.learning-rate? (`yolo-jax train"),
        (
            "--learning_rate 3",
            "there is no field or option --learning_rate; did you mean "
            "--optimizer.learning-rate or --freeze-body.learning-rate?",
        ),
        ("--mosiac=1", "no field or option --mosiac=1; did you mean --augment.mosaic?"),
        ("--determinstic", "did you mean --deterministic?"),  # of the command, and no field
        ("--epochs 2 3", "found '3'; expected fields, as in --epochs 30"),
        (
            "--epochs 2 --optimizer.warmup-steps 61",
            "warmup_steps is 61; expected no more than the 60 steps that are trained "
            "(2 epochs of 30)",
        ),
        ("--epochs many", "Error parsing --epochs: invalid literal for int()"),
        ("--optimizer.kind adm", "invalid choice 'adm' for argument '--optimizer.kind'"),
        ("--epochs 0", "epochs is 0; expected a whole number of 1 or more"),
        (
            "--network.input-size 70",
            "network.input_size is 70; expected a whole number of 32 to 16384, a multiple of 32",
        ),
        (
            "--augment.multi-scale 64 70",
            "augment.multi_scale is (64, 70); expected (any number of a whole number of 32 to",
        ),
    ],
)
def test_what_is_no_field_or_no_value_of_one_is_refused(
    options: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    def loaded(config):
        raise AssertionError("something was loaded")

    monkeypatch.setattr(experiment.run, "open_data", loaded)
    try:
        status = cli.main(["train", str(CONFIG), *options.split()])
    except SystemExit as stopped:
        status = stopped.code
    assert status == 2
    error = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert said in re.sub("─+ ", "", error)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("DataConfig(trian='x')", "unexpected keyword argument 'trian'; the nearest is 'train'"),
        ("replace(ExperimentConfig('a', DataConfig('x')), epoch=3)", "the nearest is 'epochs'"),
        ("LossConfig(zebra=1)", "argument 'zebra'; there are ignore_thresh, exact_centres, box"),
        ("dict(zebra=1).zebra", "AttributeError: 'dict' object has no attribute 'zebra'"),
    ],
)
def test_an_unknown_field_in_a_config_file_is_told_with_the_nearest(
    code: str, said: str, tmp_path: Path
):
    file = tmp_path / "own.py"
    file.write_text(
        "from dataclasses import replace\nfrom yolo_jax.config import *\n"
        f"def get_config():\n    return {code}\n"
    )
    with pytest.raises(ValueError, match=r"own\.py, line 4: ") as refused:
        load_config(file)
    assert said in str(refused.value)
