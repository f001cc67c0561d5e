"""Trackers log to their real libraries, offline; those that are not there are named."""

import importlib.util
import json
import logging
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from child_processes import PATIENCE
from driven_callbacks import Tiny, drive

from yolo_jax.model.callbacks import Aim, MLflow, WandB

CONFIG = {"epochs": 3, "optimizer.kind": "adam", "augment.crop": [100, 200], "data.classes": None}


def needs(name: str) -> pytest.MarkDecorator:
    is_there = importlib.util.find_spec(name) is not None
    return pytest.mark.skipif(not is_there, reason=f"the package {name} is not installed")


def stopped_and_gone_on_with(make: Any, pause: float = 0) -> Any:
    """Logs epochs 0 and 1, is closed, goes on from the checkpoint of epoch 0, and adds a figure."""
    first = make()
    epochs = drive(first, [0.5, 0.25], end=False)
    next(epochs)
    state = json.loads(json.dumps(first.state_dict()))
    next(epochs)
    first.close()  # as after Ctrl-C, without on_train_end
    time.sleep(pause)
    second = make()
    second.load_state_dict(state)
    list(drive(second, [0.25, 0.125], first=1))
    time.sleep(pause)
    second.log_after_fit(3, {"held_out_AP50": 0.75})
    assert second.state_dict() == state
    return state["id"]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        monkeypatch.setenv(name, "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_MODE", "offline")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture
def store(database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    return database


@needs("mlflow")
def test_mlflow_goes_on_with_the_same_run(store: str):
    mlflow: Any = importlib.import_module("mlflow")
    found = stopped_and_gone_on_with(lambda: MLflow("trees", "one", CONFIG))
    client = mlflow.MlflowClient(tracking_uri=store)
    (run,) = client.search_runs([client.get_experiment_by_name("trees").experiment_id])
    assert (run.info.run_id, run.info.run_name, run.info.status) == (found, "one", "FINISHED")
    assert run.data.params == {name: str(value) for name, value in CONFIG.items()}
    logged = {(one.step, one.value) for one in client.get_metric_history(found, "val_loss")}
    assert logged == {(0, 0.5), (1, 0.25), (2, 0.125)}
    (last,) = client.get_metric_history(found, "held_out_AP50")
    assert (last.step, last.value) == (3, 0.75)


@needs("mlflow")
def test_a_fit_that_breaks_off_is_no_finished_run(store: str):
    mlflow: Any = importlib.import_module("mlflow")
    tracker = MLflow("others", config={f"field{number}": number for number in range(150)})
    list(drive(tracker, [math.nan], end=False))
    tracker.close()
    client = mlflow.MlflowClient(tracking_uri=store)
    run = client.get_run(tracker.state_dict()["id"])
    assert run.info.status == "FAILED"
    assert len(run.data.params) == 150
    assert math.isnan(run.data.metrics["val_loss"])


@needs("wandb")
def test_wandb_goes_on_with_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    # Its folders are named by the second.
    found = stopped_and_gone_on_with(lambda: WandB("trees", "one", CONFIG), pause=1)
    wanted, written = {b"val_loss", b"optimizer.kind", b"trees", b"0.5", b"0.25", b"0.125"}, b""
    wanted |= {b"held_out_AP50", b"0.75"}
    deadline = time.monotonic() + PATIENCE  # its process writes on when `finish` has returned
    while any(text not in written for text in wanted):
        assert time.monotonic() < deadline, written
        files = list((tmp_path / "wandb").glob(f"offline-run-*-{found}/*.wandb"))
        written = b"".join(file.read_bytes() for file in files)
        time.sleep(0.1)
    assert len(files) == 3


@needs("aim")
def test_aim_goes_on_with_the_same_run(tmp_path: Path):
    aim: Any = importlib.import_module("aim")
    found = stopped_and_gone_on_with(lambda: Aim("trees", "one", CONFIG, repo=tmp_path))
    run = aim.Run(run_hash=found, repo=str(tmp_path))
    assert (run.experiment, run.name) == ("trees", "one")
    assert run["config"]["optimizer.kind"] == "adam"
    assert run["finished"]
    metrics = {one.name: one for one in run.metrics()}
    metric, last = metrics["val_loss"], metrics["held_out_AP50"]
    assert [part.tolist() for part in (last.data.numpy()[0], last.data.numpy()[1][0])] == [
        [3],
        [0.75],
    ]
    steps, (values, _, _) = metric.data.numpy()
    assert dict(zip(steps.tolist(), values.tolist(), strict=True)) == {0: 0.5, 1: 0.25, 2: 0.125}
    run.close()


@needs("mlflow")
def test_a_tracker_that_fails_is_told_of_once_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "file").touch()  # where a store's folder would have to be
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'file' / 'mlflow.db'}")
    with caplog.at_level(logging.WARNING, "yolo_jax"):
        tracker = MLflow("trees")
        logs = [logs for logs, _ in drive(tracker, [3, 2, 1])]
        tracker.log_after_fit(3, {"held_out_AP50": 0.75})
    assert len(logs) == 3
    (said,) = [one.getMessage() for one in caplog.records if one.name.startswith("yolo_jax")]
    assert said.startswith("MLflow failed and is left out from here on: ")
    assert said.endswith("; the training goes on")
    assert "\n" not in said


@needs("mlflow")
def test_what_is_no_number_is_left_out(store: str):
    tracker = MLflow()
    tracker.set_model(Tiny())
    tracker.on_train_begin()
    tracker.on_epoch_end(
        0, {"lr": np.float32(0.5), "count": np.int32(3), "of": "text", "map": np.ones(2)}
    )
    tracker.close()
    client = importlib.import_module("mlflow").MlflowClient(tracking_uri=store)
    run = client.get_run(tracker.state_dict()["id"])
    assert run.data.metrics == {"lr": 0.5, "count": 3.0}


@pytest.mark.parametrize(
    ("kind", "package", "extra"),
    [(WandB, "wandb", "track"), (MLflow, "mlflow", "track"), (Aim, "aim", "aim")],
)
def test_a_library_that_is_missing_is_named_with_its_extra(
    kind: Any, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=rf"logging to {package} needs {package}: pip .*\[{extra}"):
        kind()
