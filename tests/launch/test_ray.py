"""`--launch ray` on a real Ray cluster of one node, which the test starts."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest
from child_processes import PATIENCE, ended, wait_for
from sweeps import CONFIG as SWEEP
from sweeps import finish

from yolo_jax import cli
from yolo_jax.launch.job import free_port

CONFIG = Path(__file__).parents[1] / "configs" / "short.py"


@pytest.fixture
def address() -> Iterator[str]:
    """Starts a cluster of two cores, and returns where it is."""
    port = free_port()
    ray = str(Path(sys.executable).with_name("ray"))
    start = [ray, "start", "--head", "--block", "--num-cpus=2", f"--port={port}"]
    start += ["--node-ip-address=127.0.0.1", "--include-dashboard=false", "--disable-usage-stats"]
    # The names of its sockets have to be short, as those of pytest's folders are not.
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True))
        log = Path(folder, "log")
        start.append(f"--temp-dir={folder}")
        with log.open("w") as file:
            # Ray's processes are nice to all others, and the other tests would have the cores.
            process = subprocess.Popen(
                start, env=os.environ | {"RAY_worker_niceness": "0"},
                stdout=file, stderr=subprocess.STDOUT,
            )  # fmt: skip
        stack.enter_context(ended(process))
        wait_for("Ray runtime started", process, log)
        yield f"127.0.0.1:{port}"


@pytest.mark.slow
def test_a_stopped_run_is_started_again_and_goes_on(address: str, tmp_path: Path):
    runs, log = tmp_path / "runs", tmp_path / "log"
    command = [sys.executable, "-m", "yolo_jax", "train", str(CONFIG), "--runs", str(runs)]
    command += ["--epochs", "2"]
    where = ["--launch", "ray", "--ray-address", address, "--processes", "2", "--restarts", "1"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with log.open("w") as file:
        process = subprocess.Popen(
            [*command, *where, "--env", "JAX_PLATFORMS=cpu"],
            env=environment, stdout=file, stderr=subprocess.STDOUT,
        )  # fmt: skip
    with ended(process):
        wait_for("Epoch 1/2", process, log)
        # As if the machine of the first were to be given back.
        first = next(
            each
            for each in psutil.process_iter(["cmdline"])
            if str(runs) in (words := each.info["cmdline"] or [])
            and words[-2:] == ["--process-id", "0"]
        )
        first.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0, log.read_text()
    assert "preempted; restart 1 of 1" in log.read_text()
    rows = (runs / "short" / "history.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["epoch", "0", "1"]
    assert (runs / "short" / "final.weights").exists()


@pytest.mark.slow
def test_a_sweep_runs_each_trial_in_an_actor(address: str, tmp_path: Path):
    log, where = tmp_path / "log", ["--runs", str(tmp_path), "--parallel", "2"]
    where += ["--backend", "ray", "--ray-address", address]
    where += ["--env", "JAX_PLATFORMS=cpu"]
    status, said = finish(log, *where)
    assert status == 1
    assert "1 done, 1 crashed, 1 diverged" in said
    assert (tmp_path / "swept" / "box=ciou,flip=0.5" / "final.weights").exists()


def test_a_sweep_asks_for_no_more_than_the_cluster_has(address: str, tmp_path: Path, capsys):
    where = ["--backend", "ray", "--ray-address", address, "--resources", "TPU=4"]
    assert cli.main(["sweep", str(SWEEP), "--runs", str(tmp_path), *where]) == 2
    assert "each trial asks for {'TPU': 4.0} (--resources), and the Ray" in capsys.readouterr().err


@pytest.mark.slow
def test_what_the_cluster_has_not_is_named(address: str, capsys):
    where = ["--launch", "ray", "--ray-address", address, "--resources", "TPU=4"]
    assert cli.main(["train", str(CONFIG), *where, "--wait-seconds", "2"]) == 2
    assert "has not had 1 times {'TPU': 4.0} free for 2 s" in capsys.readouterr().err


def test_a_cluster_that_is_not_there(capsys):
    where = ["--launch", "ray", "--ray-address", "127.0.0.1:1"]
    assert cli.main(["train", str(CONFIG), *where]) == 2
    assert "found no Ray cluster at --ray-address 127.0.0.1:1" in capsys.readouterr().err
