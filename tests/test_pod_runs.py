"""Runs of several processes: stopped, killed and gone on with, as if they had never stopped.

By pmap; with YOLO_JAX_POD_STRATEGY=jit, or fsdp, by that one.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from child_processes import PATIENCE, ended, wait_for

from yolo_jax import cli
from yolo_jax.launch.job import free_port
from yolo_jax.networks import darknet
from yolo_jax.networks.yolov3 import create_network
from yolo_jax.provenance import read_starts

CONFIG = Path(__file__).parent / "configs" / "short.py"
OPTIONS = (
    *("--epochs", "3", "--steps-per-epoch", "8", "--optimizer.ema-decay", "0.9"),
    *("--parallel.strategy", os.environ.get("YOLO_JAX_POD_STRATEGY", "pmap")),
)
POD = ("--launch", "local", "--processes", "2", "--devices", "1")
OTHER_OPTAX, WEIGHTS = "", "--network.weights own.weights"


@contextmanager
def started(runs: Path, *options: str) -> Iterator[tuple[subprocess.Popen, Path]]:
    """Starts a pod run, of which nothing is left behind; its output goes to a file."""
    log = runs.with_suffix(".log")
    command = [sys.executable, "-m", "yolo_jax", "train", str(CONFIG), "--runs", str(runs)]
    with log.open("w") as file:
        process = subprocess.Popen(
            [*command, *OPTIONS, *POD, *options],
            stdout=file, stderr=subprocess.STDOUT,
        )  # fmt: skip
    with ended(process):
        yield process, log


def finish(runs: Path, *options: str) -> str:
    """Runs to the end and returns what was printed."""
    with started(runs, *options) as (process, log):
        assert process.wait(PATIENCE) == 0, log.read_text()
    return log.read_text()


def check_same(one: Path, other: Path) -> None:
    """Checks that two runs ended with the same bytes."""
    for name in ("final.weights", "history.csv"):
        assert (one / "short" / name).read_bytes() == (other / "short" / name).read_bytes(), name


@pytest.mark.slow
def test_told_to_stop_then_killed_one_and_then_all_they_lose_nothing(tmp_path: Path):
    whole, runs = tmp_path / "whole", tmp_path / "cut"
    output = finish(whole)
    # The first process alone says what it does.
    assert "[0] held-out" in output
    assert "[1] held-out" not in output and "[1] Epoch" not in output

    with started(runs) as (process, log):
        wait_for("Epoch 1/3", process, log)
        process.send_signal(signal.SIGTERM)
        asked = time.monotonic()
        assert process.wait(PATIENCE) == 143, log.read_text()
    assert time.monotonic() - asked < 30
    saved = max(int(path.name) for path in (runs / "short" / "checkpoints").glob("[0-9]*"))

    with started(runs) as (process, log):
        wait_for("Epoch 2/3", process, log)
        second = next(w for w in psutil.Process(process.pid).children() if w.cmdline()[-1] == "1")
        second.send_signal(signal.SIGKILL)
        killed = time.monotonic()
        assert process.wait(PATIENCE) != 0
    assert time.monotonic() - killed < 60
    assert f"resumed from {runs / 'short' / 'checkpoints' / str(saved)}" in log.read_text()
    # Whichever the other notices first: the broken connection, or that no heartbeats come.
    assert "Gloo" in log.read_text() or "stopped sending heartbeats" in log.read_text()

    with started(runs) as (process, log):
        wait_for("Epoch 3/3", process, log)
        for worker in psutil.Process(process.pid).children():
            worker.send_signal(signal.SIGKILL)
        assert process.wait(PATIENCE) == 128 + signal.SIGKILL
    finish(runs)
    check_same(runs, whole)
    # By the first process alone: an entry a start.
    starts = read_starts(runs / "short")
    assert [start["goes_on"] for start in starts] == [False, True, True, True]
    assert {start["devices"]["processes"] for start in starts} == {2}


def process_of(
    number: int, runs: Path, *options: str, count: int = 2, folder: Path | None = None
) -> subprocess.Popen:
    """Starts one of several processes by hand, in a folder whose packages come first."""
    command = [sys.executable, "-m", "yolo_jax", "train", str(CONFIG), "--runs", str(runs)]
    pod = ["--distributed", "--num-processes", str(count), "--process-id", str(number)]
    return subprocess.Popen(
        [*command, *pod, *options], env=os.environ | {"PYTHONPATH": folder or ""},
        cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def test_a_coordinator_that_is_not_there(tmp_path: Path):
    where = ("--coordinator", "127.0.0.1:1", "--start-timeout", "3")
    output, _ = (process := process_of(1, tmp_path, *where)).communicate(timeout=PATIENCE)
    assert process.returncode == 75  # another time they may
    assert "the 2 processes did not come together at 127.0.0.1:1 within 3 s" in output
    assert not list(tmp_path.iterdir())


def test_processes_that_are_told_different_numbers_of_them(tmp_path: Path):
    address = f"127.0.0.1:{free_port()}"
    where = ("--coordinator", address, "--start-timeout", "10")
    processes = [process_of(number, tmp_path, *where, count=3 - number) for number in range(2)]
    for number, process in enumerate(processes):
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 75, output
        assert f"the {3 - number} processes did not come together at {address}" in output
        assert "is given the same --coordinator and --num-processes" in output
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ("--optimizer.learning-rate 0.1", "--optimizer.learning-rate 0.2",
         "optimizer.learning_rate: 0.2 in process 1, 0.1 in process 0"),
        (OTHER_OPTAX, OTHER_OPTAX, "optax: '0.0.1' in process 1, '"),
        (WEIGHTS, WEIGHTS, "first weights, which has to be one: weights' checksum: "),
        ("--batch-size 5", "--batch-size 5", "a batch of 5 rows does not divide among 2 devices"),
    ],
)  # fmt: skip
def test_processes_that_cannot_be_one_run_are_refused(
    first: str, second: str, said: str, tmp_path: Path
):
    machines, runs = [tmp_path / "0", tmp_path / "1"], tmp_path / "runs"
    for number, machine in enumerate(machines):
        machine.mkdir()
        if first == WEIGHTS:
            darknet.save_weights(machine / "own.weights", create_network("tiny", 80, seed=number))
    if first == OTHER_OPTAX:
        found = machines[1] / "optax.dist-info"
        found.mkdir()
        (found / "METADATA").write_text("Name: optax\nVersion: 0.0.1\n")
    where = ("--coordinator", f"127.0.0.1:{free_port()}")
    processes = [
        process_of(number, runs, *where, *options.split(), folder=machines[number])
        for number, options in enumerate((first, second))
    ]
    for process in processes:
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 2, output
        assert said in output
    assert not runs.exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--process-id", "0"), "need --distributed"),
        (("--distributed", "--process-id", "0"), "are given together"),
        (
            ("--distributed", "--coordinator", "a:1", "--num-processes", "2", "--process-id", "2"),
            "--process-id is 2 of --num-processes 2; they count from 0 to 1",
        ),
    ],
)
def test_flags_that_do_not_go_together(options, said, capsys):
    assert cli.main(["train", str(CONFIG), *options]) == 2
    assert said in capsys.readouterr().err
