"""Sweeps that tests start as a user does, and stop."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from child_processes import ended

CONFIGS = Path(__file__).parent / "configs"
PATIENCE = 900  # s; more than a busy machine takes for all trials
CONFIG = CONFIGS / "short_sweep.py"


@contextmanager
def started(log: Path, *options: str, config: Path = CONFIG) -> Iterator[subprocess.Popen]:
    """Starts a sweep that prints to a log."""
    command = [sys.executable, "-m", "yolo_jax", "sweep", str(config), *options]
    environment = os.environ | {"XLA_FLAGS": "", "PYTHONUNBUFFERED": "1"}
    with log.open("w") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)
    with ended(process):
        yield process


def finish(log: Path, *options: str, config: Path = CONFIG) -> tuple[int, str]:
    """Runs a sweep to its end; returns its exit status, and what it printed."""
    with started(log, *options, config=config) as process:
        return process.wait(PATIENCE), log.read_text()
