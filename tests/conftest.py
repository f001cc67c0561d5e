"""Puts the tests on eight CPU devices; this must be settled before anything imports JAX."""

import os
import tempfile
from pathlib import Path

import pytest

# A worker of pytest-xdist has its environment from the process that started it, which read this
# file first: all of them share one folder of compiled programs.
if "PYTEST_XDIST_WORKER" not in os.environ:
    # Programs compiled twice in a session are compiled once. The folder goes with the session.
    _CACHE = tempfile.TemporaryDirectory(prefix="yolo_jax_tests_", ignore_cleanup_errors=True)
    os.environ |= {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": (
            os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
        ).strip(),
        "JAX_COMPILATION_CACHE_DIR": _CACHE.name,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
    }


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with the files that take minutes, lest one worker ends long after the others."""
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture(scope="session")
def golden() -> Path:
    """Returns the folder of arrays that the reference implementation computed."""
    return Path(__file__).parent / "golden"
