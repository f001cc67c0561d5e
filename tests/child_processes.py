"""Processes that a test starts, of which it leaves none behind."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

PATIENCE = 300  # s; more than a busy machine takes


@contextmanager
def ended(process: subprocess.Popen) -> Iterator[subprocess.Popen]:
    """Ends a process, and those that it started, when a test is over or breaks off."""
    try:
        yield process
    finally:
        if process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
            process.communicate()


def wait_for(text: str, process: subprocess.Popen, log: Path) -> None:
    """Waits until a process has written something to its log."""
    deadline = time.monotonic() + PATIENCE
    while text not in log.read_text():
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
