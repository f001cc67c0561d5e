"""How the process keeps the memory that it has freed, with the GNU C library."""

import ctypes
import os

# mallopt's parameters, from glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
# Threads share one arena then: with more cores than these they would wait for it.
_MOST_CORES = 16


def keep_freed_memory() -> bool:
    """Keeps freed memory for the next call, instead of giving it back to the kernel.

    On CPU, XLA takes the scratch of every call from malloc: a GB and more for a training step.
    glibc maps so much anew each time and unmaps it afterwards, and the kernel clears every page of
    it, which took a third of YOLOv3's step on 2 cores. Only the first arena can grow so large, so
    it serves all threads. Those that have another keep it: call this before JAX is used. Threads
    wait for each other then, 25 µs in a small step: the command and keras_yolo3 call it, since they
    train networks of YOLO's size, and importing yolo_jax alone does not.

    Returns:
        Whether it is kept. False without glibc, or on a machine of many cores, where nothing
        changes.
    """
    has_glibc = "CS_GNU_LIBC_VERSION" in getattr(os, "confstr_names", ())
    if not has_glibc or (os.cpu_count() or 1) > _MOST_CORES:
        return False
    mallopt = ctypes.CDLL(None).mallopt
    wanted = {_ARENA_MAX: 1, _MMAP_MAX: 0, _TRIM_THRESHOLD: -1}
    return all(mallopt(parameter, value) for parameter, value in wanted.items())
