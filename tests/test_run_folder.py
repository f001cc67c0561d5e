"""What a run's folder keeps, and what it says of files that are damaged or of another run."""

import dataclasses
import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from child_processes import ended

from yolo_jax.config import DataConfig, ExperimentConfig, LossConfig, OptimizerConfig
from yolo_jax.core import locks
from yolo_jax.core.anchors import TINY, TINY_DARKNET, YOLOV3
from yolo_jax.data.augment import Augment
from yolo_jax.run_folder import MAY_DIFFER, RunFolder

DATA = DataConfig(Path("a.json"), Path("b.json"), Path("c.json"))
CONFIG = ExperimentConfig("one", DATA, augment=Augment(crop=(100, 200)), epochs=7)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "runs" / "one")
    folder.begin(folder.resolve(CONFIG, 1), ("ash", "oak"), TINY)
    return folder


def test_config_and_classes_are_read_back(run: RunFolder):
    resolved = dataclasses.replace(CONFIG, optimizer=OptimizerConfig(horizon=7), batch_size=8)
    assert run.config() == resolved
    assert run.class_names() == ("ash", "oak")
    assert run.figures() is None


def test_the_horizon_is_that_of_the_first_run(run: RunFolder):
    longer = dataclasses.replace(CONFIG, epochs=20)
    assert run.resolve(longer, 1).optimizer.horizon == 7
    assert run.config().epochs == 7  # nothing is written until there is something to say
    moved = dataclasses.replace(longer, optimizer=OptimizerConfig(horizon=20))
    with pytest.raises(ValueError, match=r"optimizer\.horizon \(there 7, here 20\)"):
        run.resolve(moved, 1)


def test_only_what_may_differ_may(run: RunFolder):
    data = dataclasses.replace(DATA, threads=5)
    run.resolve(dataclasses.replace(CONFIG, data=data, epochs=9, keep_checkpoints=4), 1)
    speed = {f"data.{name}" for name in ("threads", "workers", "cache", "cache_folder")}
    told = {"track", "track_project", "validation_ap_every"}
    told |= {"train.on_nonfinite"}  # whether it goes on from where it was stopped
    assert {"epochs", "runs", "keep_checkpoints", "parallel.strategy"} | speed | told == MAY_DIFFER
    with pytest.raises(ValueError, match=r"these differ: batch_size \(there 8, here 4\); seed"):
        run.resolve(dataclasses.replace(CONFIG, batch_size=4, seed=1), 1)


def test_other_classes_are_refused(run: RunFolder):
    run.begin(CONFIG, ("ash", "oak"), TINY)
    with pytest.raises(ValueError, match=r"of the classes \['ash', 'oak'\]; a\.json now has"):
        run.begin(CONFIG, ("oak", "ash"), TINY)


def test_anchors_are_those_of_the_first_start(run: RunFolder):
    own = dataclasses.replace(TINY_DARKNET, sizes=tuple((10.5 + i, 20.1) for i in range(6)))
    run.begin(CONFIG, ("ash", "oak"), own)
    assert run.anchors("tiny") == TINY
    other = RunFolder(run.path.with_name("other"))
    other.begin(CONFIG, ("ash",), own)
    assert other.anchors("tiny") == own
    for content in ('{"sizes": [[1, 2]], "masks": [[3]]}', '{"sizes": [null]}', "{}", "[[1, 2]]"):
        (other.path / "anchors.json").write_text(content)
        with pytest.raises(ValueError, match=r"anchors\.json is damaged"):
            other.anchors("tiny")


def test_a_run_of_before_is_read_under_the_names_of_now(run: RunFolder):
    (run.path / "anchors.json").unlink()
    assert run.anchors("tiny") == TINY and run.anchors("yolov3") == YOLOV3
    file = run.path / "config.json"
    flat = json.loads(file.read_text())
    younger = ("train.batch_norm", "loss.box", "optimizer.step_at", "network.anchors")
    old = {name: value for name, value in flat.items() if name not in younger}
    for synced, decay, kind in ((True, 0.1, "adamw"), (False, 0.0, "adam")):
        changes = {"train.sync_batch_norm": synced, "optimizer.weight_decay": decay}
        file.write_text(json.dumps(old | changes | {"optimizer.kind": "adam"}))
        config = run.config()
        assert config.train.batch_norm == ("sync" if synced else "local")
        assert (config.optimizer.kind, config.optimizer.weight_decay) == (kind, decay)
        assert config.loss == LossConfig()


@pytest.mark.parametrize("content", ["", "{", "[1]", "\xff"], ids=repr)
def test_damaged_files_are_named(run: RunFolder, content: str):
    for name, read in (
        ("config.json", run.config),
        ("classes.json", run.class_names),
        ("metrics.json", run.figures),
    ):
        kind = '{"a": 1}' if (name, content) == ("classes.json", "[1]") else content
        (run.path / name).write_text(kind, encoding="latin-1")
        with pytest.raises(ValueError, match=rf"{name} is damaged"):
            read()


def test_missing_and_unknown_fields_are_named(run: RunFolder):
    file = run.path / "config.json"
    flat = json.loads(file.read_text())
    file.write_text(json.dumps(flat | {"optimizer.beta": 1}))
    with pytest.raises(ValueError, match=r"config\.json has the fields \['optimizer\.beta'\]"):
        run.config()
    del flat["data.train"]
    file.write_text(json.dumps(flat))
    with pytest.raises(ValueError, match=r"config\.json lacks the field data\.train"):
        run.config()
    (run.path / "metrics.json").write_text('{"AP": 0.5}')
    with pytest.raises(ValueError, match=r"lacks \['AP50', 'epochs', 'sources'\]; delete it"):
        run.figures()


def test_a_run_of_an_older_version_goes_on_by_the_defaults_of_what_it_lacks(run: RunFolder):
    file = run.path / "config.json"
    flat = json.loads(file.read_text())
    older = {name: value for name, value in flat.items() if not name.startswith("parallel.")}
    del older["loss.ignore_thresh"]
    file.write_text(json.dumps(older))
    assert run.config() == run.resolve(CONFIG, 1)
    other = dataclasses.replace(CONFIG, loss=LossConfig(ignore_thresh=0.7))
    with pytest.raises(ValueError, match=r"ignore_thresh \(there 0\.5, here 0\.7\)"):
        run.resolve(other, 1)


def test_a_folder_of_somebodys_own_files_is_refused(tmp_path: Path):
    folder = tmp_path / "runs" / "one"
    folder.mkdir(parents=True)
    for start in (
        lambda run: run.resolve(CONFIG, 1),
        lambda run: run.begin(CONFIG, ("ash",), TINY),
    ):
        (folder / "history.csv").write_text("mine")
        with pytest.raises(ValueError, match=r"one holds no run .*but history\.csv, which a run"):
            start(RunFolder(folder))
        assert [file.name for file in folder.iterdir()] == ["history.csv"]
    (folder / "history.csv").unlink()
    # What a first start leaves that was stopped before the config was there.
    for name in ("classes.json", "classes.partial", "config.partial"):
        (folder / name).write_text("[]")
    run = RunFolder(folder)
    run.begin(run.resolve(CONFIG, 1), ("ash",), TINY)
    assert run.class_names() == ("ash",)


def test_rows_by_device_are_those_of_the_first_run(tmp_path: Path):
    by_device = dataclasses.replace(CONFIG, batch_size=None, batch_size_per_device=4)
    run = RunFolder(tmp_path / "run")
    first = run.resolve(by_device, 8)
    assert first.batch_size == 32
    run.begin(first, ("ash",), TINY)
    assert run.resolve(by_device, 2).batch_size == 32
    with pytest.raises(ValueError, match=r"batch_size \(there 32, here 16\)"):
        run.resolve(dataclasses.replace(CONFIG, batch_size=16), 2)


def test_rows_are_given_once():
    with pytest.raises(ValueError, match="batch_size is 8 and batch_size_per_device 4; expected"):
        dataclasses.replace(CONFIG, batch_size=8, batch_size_per_device=4).check()


_HOLDER = """
import sys, time
from pathlib import Path
from yolo_jax.run_folder import RunFolder
with RunFolder(Path(sys.argv[1])).in_use():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_folder_that_a_living_process_uses_is_refused_with_its_name(tmp_path: Path, monkeypatch):
    folder = tmp_path / "runs" / "one"
    command = [sys.executable, "-c", _HOLDER, str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with ended(process):
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        said = rf"one is in use by process {process.pid} on {socket.gethostname()}, which still"
        with pytest.raises(ValueError, match=said), RunFolder(folder).in_use():
            pass
        # Another machine's may be that of a dead one: it is waited for.
        monkeypatch.setattr(locks, "_LEASE_SECONDS", 2)
        (folder / "lock").write_text("process 1 on elsewhere")
        started = time.monotonic()
        said = "by process 1 on elsewhere"
        with pytest.raises(ValueError, match=said), RunFolder(folder).in_use():
            pass
        assert time.monotonic() - started > 2
        monkeypatch.setattr(locks, "_LEASE_SECONDS", 60)
        threading.Timer(2, process.kill).start()
        with RunFolder(folder).in_use():
            RunFolder(folder).begin(CONFIG, ("ash",), TINY)
    assert RunFolder(folder).class_names() == ("ash",)
