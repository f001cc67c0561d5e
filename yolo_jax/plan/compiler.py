"""XLA's compiler for TPUs, in a process of its own."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

# Without these libtpu asks the network which TPU this is, and JAX tries to start one; a lock file
# would keep two compilations apart, though none of them has a chip.
_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


def in_own_process(module: str, arguments: Sequence[str]) -> int | None:
    """Runs a module so that it can compile for TPUs; returns its exit status, None within that.

    libtpu takes hold of the process that loads it.

    Raises:
        ValueError: libtpu is not there.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise ValueError(
            "found no libtpu, which holds XLA's compiler for TPUs; install the one that belongs to "
            "this jaxlib: pip install -e '.[plan]'"
        )
    if _ENVIRONMENT.items() <= os.environ.items():
        return None
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, env=os.environ | _ENVIRONMENT, check=False).returncode


def bytes_held(memory: Any) -> int:
    """Returns the most bytes of arrays that a program holds, by its `memory_analysis()`."""
    held = memory.temp_size_in_bytes + memory.argument_size_in_bytes
    return held + memory.output_size_in_bytes - memory.alias_size_in_bytes
