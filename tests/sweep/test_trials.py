"""What `sweep()` of a config file may yield, what it is named, and what is refused."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from yolo_jax.config import load_config
from yolo_jax.sweep import grid, with_seeds, zipped
from yolo_jax.sweep.trials import read_trials

FILE = Path(__file__).parents[1] / "configs" / "short.py"
BASE = load_config(FILE)


def trials(yielded: Any) -> list:
    module: Any = SimpleNamespace(sweep=lambda: yielded)
    return read_trials(module, FILE, BASE)


def test_a_grid_is_named_by_its_values():
    values = {"optimizer.learning_rate": (1e-3, 1e-5), "loss.box": ("yolov3", "ciou")}
    assert [(trial.name, trial.changes["loss.box"]) for trial in trials(grid(values))] == [
        ("learning_rate=0.001,box=yolov3", "yolov3"),
        ("learning_rate=0.001,box=ciou", "ciou"),
        ("learning_rate=1e-05,box=yolov3", "yolov3"),
        ("learning_rate=1e-05,box=ciou", "ciou"),
    ]


def test_zips_seeds_and_names_of_ones_own():
    zips = zipped({"epochs": [1, 2], "augment.crop": [(100, 200), None]})
    yielded = with_seeds([*zips, ("mine", {"epochs": 9})], 2)
    found = trials([*yielded, {}])
    assert [trial.name for trial in found] == [
        "epochs=1,crop=100+200,seed=0", "epochs=1,crop=100+200,seed=1",
        "epochs=2,crop=None,seed=0", "epochs=2,crop=None,seed=1",
        "mine,seed=0", "mine,seed=1", "base",
    ]  # fmt: skip
    assert found[1].changes == {"epochs": 1, "augment.crop": [100, 200], "seed": 1}
    with pytest.raises(ValueError, match=r"as many values of each field; found \{'a': 1, 'b': 2"):
        zipped({"a": [1], "b": [1, 2]})


def test_names_are_told_apart_and_stay_when_trials_are_added():
    kinds = grid({"optimizer.kind": ("sgd", "lion")})
    alone = [trial.name for trial in trials(kinds)]
    assert alone == ["optimizer.kind=sgd", "optimizer.kind=lion"]  # network.kind is one too
    assert [trial.name for trial in trials([*kinds, {"epochs": 3}])][:2] == alone
    many = {"data.train": "x" * 300}
    names = {trial.name for trial in trials([many, {"data.train": "x" * 301}])}
    assert len(names) == 2 and all(len(name) == 120 for name in names)
    (name,) = (trial.name for trial in trials([{"data.train": "a@" + "é" * 300}]))
    assert name.startswith("train=a_é") and 118 <= len(name.encode()) <= 120
    (path,) = (trial.name for trial in trials([{"data.train": "trees/north.json"}]))
    assert path == "train=trees_north_json"  # .json is for the sweep's own files


@pytest.mark.parametrize(
    ("yielded", "said"),
    [
        ([], "yields no trial"),
        ([3], r"trial 0 of sweep\(\) of .*short\.py is 3; expected fields"),
        ([{"epochs": 3}, ("epochs=3", {"seed": 2})], r"two trials named 'epochs=3', .*: "
         r"\{'epochs': 3\} and \{'seed': 2\}"),
        ([{"optimizer.learning_rat": 3}], "rat=3: .*'optimizer.learning_rate'"),
        ([{"epochs": 1.5}], "trial epochs=1.5: epochs is 1.5; expected a whole number"),
        ([{"optimizer.kind": "adm"}], "optimizer.kind is 'adm'; expected one of 'adam'"),
        ([{"augment.crop": (500, 600)}], r"augment.crop is \(500, 600\), px of a canvas"),
        ([{"name": "mine"}], "changes name, by which the sweep knows it"),
        ([("a/b", {})], "a trial is named 'a/b'; expected"),
        ([("..", {})], r"a trial is named '\.\.'"),
        ([("x.log", {})], "a trial is named 'x.log'"),
        ([("Lock", {})], "a trial is named 'Lock'"),
        ([("a@b", {})], "a trial is named 'a@b'"),
        ([("é" * 61, {})], "a trial is named 'é.*; expected up to 120 bytes"),
        ([("lean", {}), ("Lean", {"seed": 1})], "two trials named 'Lean', whatever the case: "),
    ],
)  # fmt: skip
def test_what_cannot_be_a_trial(yielded: Any, said: str):
    with pytest.raises(ValueError, match=said):
        trials(yielded)


def test_a_file_without_sweep():
    with pytest.raises(ValueError, match=r"short\.py has no sweep\(\)"):
        read_trials(SimpleNamespace(), FILE, BASE)  # pyright: ignore
