"""Processes that a test starts, of which it leaves none behind."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import psutil


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
