"""Every ablation that ships: its trials can be trained, and together where it says so."""

from pathlib import Path

import pytest

from yolo_jax.config import load_config
from yolo_jax.config.files import load_module
from yolo_jax.core.fields import check_fields
from yolo_jax.experiment.trial_numbers import group_trials
from yolo_jax.sweep.trials import check_trial, read_trials

FOLDER = Path(__file__).parents[2] / "experiments" / "ablations"
ABLATIONS = sorted(path for path in FOLDER.glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("path", ABLATIONS, ids=lambda path: path.stem)
def test_its_trials_can_be_trained(path: Path):
    text = path.read_text()
    for word in ("Command: yolo-jax sweep experiments/ablations/", "Hardware: ", "Expected: "):
        assert f"\n{word}" in text, word
    base = load_config(path)
    assert base.name == f"ablation_{path.stem}"
    configs = [check_trial(trial, base) for trial in read_trials(load_module(path), path, base)]
    for config in configs:
        check_fields(config)
        assert not config.idle_settings()
    if "--together auto" in text:
        assert len(group_trials(configs)) == 1
