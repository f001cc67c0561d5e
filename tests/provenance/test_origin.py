"""`origin.json`: what each start of a run had around it."""

import json
from pathlib import Path
from typing import Any

import jax
import pytest
from test_experiment import config

from yolo_jax import experiment
from yolo_jax.networks.yolov3 import Network, create_network
from yolo_jax.provenance import differences, note_start, read_starts
from yolo_jax.run_folder import RunFolder


@pytest.fixture(scope="module")
def network() -> Network:
    return create_network("tiny", 2)


def note(folder: Path, network: Network, **changes: Any) -> dict[str, Any]:
    wanted = config(folder)
    run = RunFolder(wanted.runs / wanted.name)
    run.path.mkdir(parents=True, exist_ok=True)
    datasets = [loader.dataset for loader in experiment.open_data(wanted)]
    return note_start(run, wanted, network, datasets, **({"goes_on": False} | changes))


def test_each_start_is_added_and_none_written_over(tmp_path: Path, network: Network, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "a secret")
    monkeypatch.setenv("JAX_ENABLE_CHECKS", "0")
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    monkeypatch.setenv("LIBTPU_INIT_ARGS", "--xla_tpu_option=1")
    (tmp_path / "packages" / "broken-1.0.dist-info").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    first = note(tmp_path, network)
    second = note(tmp_path, network, goes_on=True, source=tmp_path / "mine.py")
    folder = tmp_path / "runs" / "tiny"
    assert read_starts(folder) == json.loads(json.dumps([first, second]))
    assert "a secret" not in (folder / "origin.json").read_text()
    wanted = {"JAX_ENABLE_CHECKS": "0", "NVIDIA_TF32_OVERRIDE": "0"}
    wanted["LIBTPU_INIT_ARGS"] = "--xla_tpu_option=1"
    assert first["environment"].items() >= wanted.items()
    assert first["devices"] == {"kind": "cpu", "count": 8, "processes": 1}
    assert first["packages"]["jax"] == jax.__version__
    assert {"numpy", "python", "yolo_jax", "pillow"} <= first["packages"].keys()
    assert first["data"]["train"]["images"] == 2
    assert [first["goes_on"], second["goes_on"]] == [False, True]
    assert differences(first, second) == []


def test_a_damaged_package_is_passed_over_whoever_looks(
    tmp_path: Path, network: Network, monkeypatch: pytest.MonkeyPatch
):
    """MLflow brings a backport that takes the place of Python's own, and raises."""
    pytest.importorskip("importlib_metadata", reason="needs importlib_metadata, of the extra track")
    (tmp_path / "packages" / "broken-1.0.dist-info").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    assert "jaxlib" in note(tmp_path, network)["packages"]


def test_what_differs_is_told_a_line_each(tmp_path: Path, network: Network):
    then = note(tmp_path, network)
    now = json.loads(json.dumps(then))
    now["packages"]["numpy"] = "1.0"
    now["devices"]["count"] = 4
    now["environment"]["XLA_FLAGS"] = "--new"
    now["data"]["train"]["content"]["sha256"] = "0" * 64
    now["data"]["train"]["read_from"] = "elsewhere"
    now["checkout"] = None
    now["time"] = "another"
    then["checkout"] = {"commit": "1" * 40, "patch": {"file": "origin.patch"}}
    then["environment"].pop("XLA_FLAGS", None)
    old = then["data"]["train"]["content"]["sha256"]
    assert differences(then, now) == [
        "checkout.commit: 111111111111 then, none now",
        f"data.train.content.sha256: {old[:12]} then, 000000000000 now",
        "devices.count: 8 then, 4 now",
        "XLA_FLAGS: none then, --new now",
        f"numpy: {then['packages']['numpy']} then, 1.0 now",
    ]


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"starts": [1]}', '{"starts": [{}]}'])
def test_a_damaged_file_is_named(tmp_path: Path, content: str):
    assert read_starts(tmp_path) == []
    (tmp_path / "origin.json").write_text(content)
    with pytest.raises(ValueError, match=r"origin\.json is damaged"):
        read_starts(tmp_path)
