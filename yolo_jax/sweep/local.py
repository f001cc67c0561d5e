"""A sweep's processes on this machine, each on devices or cores of its own."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from yolo_jax.launch.job import Job, as_shell_says

_PAUSE_SECONDS = 0.5
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1  # of Linux's prctl
# Of a process with so many of a machine's chips, how they lie; see libtpu's TPU_VISIBLE_CHIPS.
_CHIP_BOUNDS = {1: "1,1,1", 2: "1,2,1", 4: "2,2,1", 8: "2,4,1"}
_ASK_DEVICES = "import jax; print(jax.default_backend(), jax.local_device_count())"


@dataclass(frozen=True)
class Place:
    """What a process has for itself.

    Attributes:
        cores: that it runs on; none: all.
        variables: that let it see its devices alone.
    """

    cores: tuple[int, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)


class LocalProcess:
    """A process of this machine.

    Args:
        job: to run.
        log: file that what it prints is added to.
        place: that it has.
        free: places, to which its own goes back.
    """

    def __init__(self, job: Job, log: Path, place: Place, free: list[Place]) -> None:
        self._place, self._free, self._is_over = place, free, False
        with log.open("ab") as file:
            self._child = subprocess.Popen(
                job.command(),
                cwd=job.folder,
                env=os.environ | dict(job.environment) | dict(place.variables),
                stdout=file,
                stderr=subprocess.STDOUT,
                # The terminal's signals go to the sweep, which passes them on.
                start_new_session=True,
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )
        if place.cores:
            os.sched_setaffinity(self._child.pid, place.cores)

    def status(self) -> int | None:
        """Returns the exit status as a shell says it, or None while it runs."""
        status = self._child.poll()
        if status is None:
            return None
        if not self._is_over:
            self._is_over = True
            self._free.append(self._place)
        return as_shell_says(status)

    def stop(self) -> None:
        """Has it save and end."""
        self._child.terminate()

    def kill(self) -> None:
        """Ends it at once."""
        self._child.kill()


def _end_with_parent() -> None:
    """Has a process save and end too when the sweep is killed."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Local:
    """This machine.

    Args:
        places: one for each process at once.
    """

    def __init__(self, places: Sequence[Place]) -> None:
        self.parallel: int | None = len(places)
        self.pause = _PAUSE_SECONDS
        self._free = list(places)

    def start(self, job: Job, log: Path) -> LocalProcess:
        """Starts a process in a place that is free."""
        return LocalProcess(job, log, self._free.pop(0), self._free)


def places(parallel: int, devices: int | None) -> list[Place]:
    """Returns the places of this machine's processes.

    Accelerators are shared out, a process's cores are all; without accelerators cores are, as far
    as they go.

    Args:
        parallel: processes at once.
        devices: of each process; None: all for one, one for each of several.

    Raises:
        ValueError: there are not as many devices.
    """
    if parallel == 1 and devices is None:
        return [Place()]
    kind, count = _devices()
    if kind == "cpu":
        if devices is not None:
            raise ValueError(f"--devices-per-trial is {devices}, and JAX sees no accelerator here")
        return _cores(parallel)
    each = devices or 1
    if parallel * each > count:
        raise ValueError(
            f"--parallel {parallel} trials of {each} devices each (--devices-per-trial) take "
            f"{parallel * each}, and JAX sees {count} of {kind} here"
        )
    name = "TPU_VISIBLE_CHIPS" if kind == "tpu" else "CUDA_VISIBLE_DEVICES"
    seen = os.environ.get(name, "").split(",")
    if len(seen) != count:
        seen = [str(number) for number in range(count)]
    bounds: dict[str, str] = {}
    if kind == "tpu":
        if each not in _CHIP_BOUNDS:
            raise ValueError(
                f"--devices-per-trial is {each}; of TPUs expected one of {[*_CHIP_BOUNDS]}"
            )
        bounds["TPU_CHIPS_PER_PROCESS_BOUNDS"] = _CHIP_BOUNDS[each]
        bounds["TPU_PROCESS_BOUNDS"] = "1,1,1"
    return [
        Place(variables={name: ",".join(seen[i * each : (i + 1) * each])} | bounds)
        for i in range(parallel)
    ]


def _devices() -> tuple[str, int]:
    """Returns what devices JAX sees here, and how many."""
    # In a process of its own, for this one would keep them.
    asked = [sys.executable, "-c", _ASK_DEVICES]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        raise ValueError(f"JAX cannot tell what devices there are here: {last}")
    kind, count = done.stdout.split()[-2:]
    return kind, int(count)


def _cores(parallel: int) -> list[Place]:
    if sys.platform != "linux":
        return [Place()] * parallel
    cores = sorted(os.sched_getaffinity(0))
    each = len(cores) // parallel
    if not each:
        return [Place()] * parallel
    return [Place(tuple(cores[i * each : (i + 1) * each])) for i in range(parallel)]
