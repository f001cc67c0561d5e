"""Run folders of real, tiny runs: a sweep, and broken ones beside it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_runs import TRIALS, WILD, tiny_config

from yolo_jax.run_folder import flatten


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content))


@pytest.fixture(scope="session")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four runs of two learning rates and two seeds, one that diverged, one that was not begun.

    They are trained in a process of their own, on one device: eight would do eight times the work.
    """
    folder = tmp_path_factory.mktemp("report") / "rates"
    script = Path(__file__).with_name("tiny_runs.py")
    subprocess.run([sys.executable, str(script), str(folder)], check=True)
    base = tiny_config(folder)
    trials = [
        {"name": name, "changes": {"optimizer.learning_rate": rate, "seed": seed}}
        for name, rate, seed in TRIALS
    ]
    for name in ("learning_rate=9", "learning_rate=10"):
        trials.append({"name": name, "changes": {"optimizer.learning_rate": float(name[14:])}})
    failure = {"kind": "diverged", "message": "the loss of step 3 was not finite", "status": 3}
    write_json(folder / "learning_rate=9.failure.json", failure)
    (folder / "learning_rate=9.log").write_text("Epoch 1/3\nyolo-jax: the loss of step 3\n")
    content = {"format": 1, "config": "tiny.py", "base": flatten(base), "trials": trials}
    write_json(folder / "sweep.json", content)
    return folder


@pytest.fixture(scope="session")
def damaged(sweep: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Copies of a run to each of which something happened, by what it was."""
    whole, place = sweep / "learning_rate=0.001,seed=0", tmp_path_factory.mktemp("damaged")

    def copy(name: str, without: tuple[str, ...] = ()) -> Path:
        ignored = shutil.ignore_patterns("checkpoints", "tensorboard", *without)
        return shutil.copytree(whole, place / name, ignore=ignored)

    found = {
        "cut": copy("cut"),
        "garbled": copy("garbled"),
        "unfinished": copy("unfinished", ("metrics.json", "held_out.json", "examples")),
        "old": copy("old", ("held_out.json", "examples", "speed.csv", "warnings.json")),
        "half": copy("half", ("config.json", "metrics.json", "*.csv", "held_out*", "warn*")),
        "bare": copy("bare", ("worst_1.jpg",)),
        "wild": copy(WILD),
    }
    history = found["cut"] / "history.csv"
    history.write_text(history.read_text()[:-40])
    config = (found["garbled"] / "config.json").read_text()
    (found["garbled"] / "config.json").write_text(config[: len(config) // 2])
    return found
