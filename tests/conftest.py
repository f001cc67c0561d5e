"""Puts the tests on eight CPU devices; this must be settled before anything imports JAX."""

import os
import tempfile
from pathlib import Path

import pytest

# Programs compiled twice in a session are compiled once. Its folder goes when the session ends.
_CACHE = tempfile.TemporaryDirectory(prefix="yolo_jax_tests_", ignore_cleanup_errors=True)
os.environ |= {
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": (
        os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    ).strip(),
    "JAX_COMPILATION_CACHE_DIR": _CACHE.name,
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
}


@pytest.fixture(scope="session")
def golden() -> Path:
    """Returns the folder of arrays that the reference implementation computed."""
    return Path(__file__).parent / "golden"
