import os
import subprocess
import sys

import pytest

from yolo_jax.core.allocator import keep_freed_memory

# In a thread, as XLA calls: 100 MB taken, written and freed, and the pages that the kernel gave.
TAKING = """
import resource, sys, threading
import numpy as np

if sys.argv[1] == "with":
    import yolo_jax.keras_yolo3

def take():
    np.ones(100_000_000, np.uint8)

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

for _ in range(2):
    before = faults()
    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
print(faults() - before)
"""


def pages(how: str) -> int:
    command = [sys.executable, "-c", TAKING, how]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(
    "CS_GNU_LIBC_VERSION" not in os.confstr_names or (os.cpu_count() or 1) > 16,
    reason="another C library than glibc, or a machine of many cores",
)
def test_memory_that_was_freed_is_taken_again_without_asking_the_kernel():
    assert pages("with") < pages("without") / 10


def test_machines_of_many_cores_are_left_alone(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert not keep_freed_memory()


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(os, "confstr_names", {})
    assert not keep_freed_memory()
