"""Puts the tests on eight CPU devices, and has little optimised: they wait for the compiler."""

import ctypes
import gc
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

# A worker of pytest-xdist has its environment from the process that started it, which read this
# file first: all of them share one folder of compiled programs.
if "PYTEST_XDIST_WORKER" not in os.environ:
    # Programs compiled twice in a session are compiled once. The folder goes with the session.
    _CACHE = tempfile.TemporaryDirectory(prefix="yolo_jax_tests_", ignore_cleanup_errors=True)
    os.environ |= {
        "JAX_PLATFORMS": "cpu",
        # Of a network's step XLA's newer way to write fusions takes 2.5 times as long to compile.
        # Whole runs, which are compiled once for many processes, need code that is fast as well.
        "XLA_FLAGS": (
            os.environ.get("XLA_FLAGS", "")
            + " --xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=1"
        ).strip(),
        "JAX_COMPILATION_CACHE_DIR": _CACHE.name,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }

import jax  # noqa: E402  (behind what it reads when it is imported)

# Processes that tests start have one, unless they ask for more.
jax.config.update("jax_num_cpu_devices", 8)
# In this one they wait for the compiler far longer than for what it compiles: a small network's
# step takes 0.4 of the time so. JAX's own tests are run like this.
jax.config.update("jax_disable_most_optimizations", True)

# Else a worker comes to hold ten GB, and two of them more than some machines have.
_MUCH_MEMORY = 2 << 30


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with the files that take minutes, lest one worker ends long after the others."""
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)


class _FailuresAtOnce:
    """Prints each failure when it happens, for a run that is cut short prints no summary."""

    def __init__(self, terminal: pytest.TerminalReporter):
        self.terminal = terminal

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.terminal.write_line(f"\n{report.when} of {report.nodeid} failed")
            self.terminal.write_line(report.longreprtext)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Has failures told at once, by the process that has the terminal, once it has it."""
    terminal = config.pluginmanager.get_plugin("terminalreporter")  # a worker has none
    if isinstance(terminal, pytest.TerminalReporter):
        config.pluginmanager.register(_FailuresAtOnce(terminal))


@pytest.fixture(autouse=True)
def _memory_is_given_back() -> Iterator[None]:
    """Gives memory back to the system: compiled programs, and what malloc kept of compiling."""
    yield
    if psutil.Process().memory_info().rss > _MUCH_MEMORY:
        jax.clear_caches()
        gc.collect()
        if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # of glibc alone
            trim(0)


@pytest.fixture
def one_device() -> Iterator[None]:
    """Has whole experiments train as they do in a process of their own.

    On one device: eight would each hold a network, and compile for longer. And by faster code: they
    take more steps than other tests.
    """
    with jax.default_device(jax.devices()[0]):
        jax.config.update("jax_disable_most_optimizations", False)
        yield
        jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture(scope="session")
def golden() -> Path:
    """Returns the folder of arrays that the reference implementation computed."""
    return Path(__file__).parent / "golden"
