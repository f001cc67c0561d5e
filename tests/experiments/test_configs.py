"""Every config that ships: read, checked, and trained by for two steps at the least size."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

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
    """By the command, on one device: each of eight would hold a network of its own."""
    config = load_config(path)
    stages = 2 if config.freeze_body.epochs else 1
    changes: dict[str, Any] = {
        "data.train": str(TREES / "train.json"),
        "data.validation": None,
        "data.held_out": str(TREES / "validation.json"),
        "data.canvas_size": None,
        "data.workers": 0,
        "data.train_split": None,
        "data.held_out_split": None,
        "network.kind": "tiny",
        "network.input_size": 64,
        "network.weights": "scratch",
        "augment.crop": None,
        "augment.multi_scale": [64] if config.augment.multi_scale else [],
        "optimizer.warmup_steps": 1,
        "freeze_body.epochs": stages - 1,
        "epochs": stages,
        "steps_per_epoch": 2,
        "batch_size": 8,
        "batch_size_per_device": None,
        "runs": str(tmp_path),
    }
    command = [sys.executable, "-m", "yolo_jax", "train", str(path)]
    subprocess.run([*command, "--changes", json.dumps(changes)], check=True)
    assert (tmp_path / config.name / "metrics.json").is_file()
