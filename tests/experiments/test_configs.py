"""Every config that ships: read, checked, and trained by for two steps at the least size."""

import dataclasses
from pathlib import Path

import pytest

from yolo_jax import experiment
from yolo_jax.config import load_config
from yolo_jax.core.fields import check_fields

ROOT = Path(__file__).parents[2]
TREES = ROOT / "experiments" / "data" / "tree_crowns"
CONFIGS = sorted(
    path for path in (ROOT / "experiments" / "configs").glob("*.py") if path.stem != "__init__"
)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_it_says_what_it_is(path: Path):
    lines = path.read_text().splitlines()
    assert len(lines) <= 40
    for word in ("Command: yolo-jax train experiments/configs/", "Hardware: ", "Expected: "):
        assert any(line.startswith(word) for line in lines), word
    config = load_config(path)
    check_fields(config)
    assert config.name == path.stem
    assert not config.idle_settings()


@pytest.mark.slow
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_two_steps_of_it(path: Path, tmp_path: Path):
    config = load_config(path)
    small = dataclasses.replace(
        config,
        data=dataclasses.replace(
            config.data, train=TREES / "train.json", validation=None,
            held_out=TREES / "validation.json", canvas_size=None, workers=0,
            train_split=None, held_out_split=None,
        ),
        network=dataclasses.replace(config.network, kind="tiny", input_size=64, weights="scratch"),
        augment=dataclasses.replace(
            config.augment, crop=None, multi_scale=(64,) if config.augment.multi_scale else ()
        ),
        optimizer=dataclasses.replace(config.optimizer, warmup_steps=1),
        freeze_body=dataclasses.replace(
            config.freeze_body, epochs=min(config.freeze_body.epochs, 1)
        ),
        epochs=2 if config.freeze_body.epochs else 1,
        steps_per_epoch=2,
        batch_size=8,
        batch_size_per_device=None,
        runs=tmp_path,
    )  # fmt: skip
    experiment.train(small)
    assert (tmp_path / config.name / "metrics.json").is_file()
