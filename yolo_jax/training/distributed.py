"""Several processes as one run: their start, what they have to agree on, and their end.

JAX's coordination service keeps them together: a process that is gone is missed by its heartbeats,
and the others end then with the cause in their logs.
"""

import ctypes
import itertools
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from orbax.checkpoint.multihost import get_barrier_sync_fn

from yolo_jax.core.types import Detections

_log = logging.getLogger(__name__)
START_SECONDS = 300  # for the machines of a pod to come up
_HEARTBEAT_SECONDS = 20  # without which a process is taken for dead
_SHUTDOWN_SECONDS = 120  # in which all have to be through, once one is
_WAIT_SECONDS = 600  # for all to be where one is
_FLUSH_SECONDS = 2  # for what is printed, at an end at once
_DOUBLED_SECONDS = 0.3  # between two SIGTERMs that are one
EXIT_DIVERGED = 3  # a loss, a gradient or an update was not finite
EXIT_NOT_TOGETHER = 75  # EX_TEMPFAIL: another time they may
EXIT_PREEMPTED = 128 + signal.SIGTERM  # as a shell says of SIGTERM


class Preempted(SystemExit):
    """The machine is to be given back: the run is saved, and ends here."""

    def __init__(self) -> None:
        super().__init__(EXIT_PREEMPTED)


def start(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    *,
    timeout: int = START_SECONDS,
) -> None:
    """Joins the other processes of a run; to be called before anything touches a device.

    Args:
        coordinator: HOST:PORT of process 0. None on Cloud TPU, SLURM and Kubernetes, whose
            environment tells all three.
        processes: how many there are.
        process: number of this one, from 0.
        timeout: seconds to wait for the others.

    Where the others do not come in time, it ends the process with status 75.

    Raises:
        ValueError: the three do not go together, or there is no cluster that tells them.
    """
    given = [coordinator is not None, processes is not None, process is not None]
    if any(given) and not all(given):
        raise ValueError(
            "a coordinator, the number of processes and this one's number are given together; "
            f"found --coordinator {coordinator}, --num-processes {processes}, "
            f"--process-id {process}"
        )
    if processes is not None and processes < 1:
        raise ValueError(f"--num-processes is {processes}; expected 1 or more")
    if processes is not None and process is not None and not 0 <= process < processes:
        raise ValueError(
            f"--process-id is {process} of --num-processes {processes}; they count from 0 to "
            f"{processes - 1}"
        )
    if coordinator is not None and not coordinator.rpartition(":")[2].isdecimal():
        raise ValueError(f"--coordinator is {coordinator!r}; expected HOST:PORT of process 0")
    address = coordinator or "the cluster's coordinator"
    _log.info(
        "joining %s as process %s of %s; should JAX abort here, two processes were given one "
        "--process-id, or not all the same --num-processes",
        address,
        process,
        processes,
    )
    # JAX would abort with a stack trace.
    alarm = threading.Timer(timeout, _give_up, (coordinator, processes, timeout))
    alarm.daemon = True
    alarm.start()
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process,
            initialization_timeout=timeout + 60,
            heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            "--distributed finds no cluster here (Cloud TPU, SLURM or Kubernetes), so it has to be "
            "told by --coordinator HOST:PORT --num-processes N --process-id I "
            f"({error})"
        ) from error
    finally:
        alarm.cancel()
    if threading.current_thread() is threading.main_thread():  # others hear no signals
        _sigterm.take_over()
    _log.info("process %d of %d is in", jax.process_index(), jax.process_count())


def _give_up(coordinator: str | None, processes: int | None, timeout: int) -> None:
    print(
        f"yolo-jax: the {f'{processes} ' if processes else ''}processes did not come together at "
        f"{coordinator or 'the address that the cluster tells'} within "
        f"{timeout} s: see that process 0 runs there and can be reached, that every process is "
        "given the same --coordinator and --num-processes, and each its own --process-id from 0",
        file=sys.stderr,
    )
    end_at_once(EXIT_NOT_TOGETHER)


def is_first() -> bool:
    """Tells whether this process is the one that writes logs, pictures and reports."""
    return jax.process_index() == 0


def wait_for_all(name: str, seconds: int = _WAIT_SECONDS) -> None:
    """Waits for all processes; one that died meanwhile ends the others within its heartbeats.

    Args:
        name: of what they wait for.
        seconds: after which it raises JAX's error, with the name.
    """
    if jax.process_count() == 1:
        return
    pool = ThreadPoolExecutor(1)
    waiting = pool.submit(get_barrier_sync_fn(), key=name, timeout_ms=1000 * seconds)
    pool.shutdown(wait=False)
    while not waiting.done():
        time.sleep(0.02)  # in short turns: one that waits for a lock hears no signal
    waiting.result()


def check_agreement(what: str, values: Mapping[str, Any]) -> None:
    """Checks that all processes have the same values.

    Args:
        what: the values are of, for the error.
        values: JSON's, by name.

    Raises:
        ValueError: they differ; names the values, of which process.
    """
    found = gather_objects(values)
    differences = [
        f"{name}: {there.get(name)!r} in process {number}, {found[0].get(name)!r} in process 0"
        for number, there in enumerate(found)
        for name in sorted(found[0].keys() | there.keys())
        if there.get(name) != found[0].get(name)
    ]
    if differences:
        raise ValueError(
            f"the processes differ in their {what}, which has to be one: {'; '.join(differences)}"
        )


def gather_objects(value: Any) -> list[Any]:
    """Returns what each process gives, as JSON holds it, in the processes' order."""
    if jax.process_count() == 1:
        return [value]
    own = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(own.size))
    padded = np.zeros(int(sizes.max()), np.uint8)
    padded[: own.size] = own
    rows = multihost_utils.process_allgather(padded)
    return [json.loads(bytes(np.asarray(row)[:n])) for row, n in zip(rows, sizes, strict=True)]


def gather_detections(found: Mapping[int, Detections]) -> dict[int, Detections]:
    """Returns what all processes found, by image_id; JSON holds numbers to the last bit."""
    if jax.process_count() == 1:
        return dict(found)
    plain = {key: [np.asarray(part).tolist() for part in one] for key, one in found.items()}
    return {
        int(key): Detections(
            np.asarray(boxes, np.float32).reshape(-1, 4),
            np.asarray(scores, np.float32),
            np.asarray(classes, np.int32),
        )
        for part in gather_objects(plain)
        for key, (boxes, scores, classes) in part.items()
    }


def end_at_once(status: int) -> None:
    """Ends a process of several without waiting for the others, which then miss it."""
    # Whoever reads its output may take no more of it.
    late = threading.Timer(_FLUSH_SECONDS, os._exit, (status,))
    late.daemon = True
    late.start()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:  # a signal may come within a flush, which then refuses another one
        os._exit(status)


class _Watch:
    """Ends the process at a SIGTERM that is not the first, or at any.

    Python handles a signal between two instructions of the main thread, which may be held up in C
    code for ever; but it writes a byte at once, which a thread reads here. Somebody's event loop
    may take that byte, so the handlers count too.

    Attributes:
        bears: SIGTERMs before the one that ends the process. What comes within a moment of one is
            the same one: `timeout` and schedulers send it to a process and to its group.
    """

    def __init__(self) -> None:
        self.bears = 1
        self._handled: list[float] = []
        self._write, self._before = -1, -1

    def start(self) -> None:
        """Begins to count; on the main thread."""
        self._handled = []
        read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._before = signal.set_wakeup_fd(self._write)
        threading.Thread(target=self._read, args=(read,), daemon=True).start()

    def stop(self) -> None:
        """Ends counting, and gives the bytes back to whom they were for before."""
        now = signal.set_wakeup_fd(self._before)
        if now != self._write:  # somebody took them meanwhile
            signal.set_wakeup_fd(now)
        os.close(self._write)

    def handle(self) -> None:
        """Counts in a handler."""
        self._count(self._handled)

    def _count(self, heard: list[float]) -> None:
        now = time.monotonic()
        if not heard or now - heard[-1] > _DOUBLED_SECONDS:
            heard.append(now)
        if len(heard) > self.bears:
            end_at_once(EXIT_PREEMPTED)

    def _read(self, read: int) -> None:
        before, heard = self._before, []
        while byte := os.read(read, 1):
            if byte == bytes([signal.SIGTERM]):
                self._count(heard)
            if before >= 0:
                os.write(before, byte)
        os.close(read)


class _Sigterm:
    """SIGTERM in one process of several.

    The first is JAX's, whose service tells the other processes: a fit stops soon, or as soon as it
    begins. A second one of this process ends it.
    """

    def __init__(self) -> None:
        self._services: Any = None
        self._watch = _Watch()

    def take_over(self) -> None:
        """Takes SIGTERM from JAX's service, which has it since it was started."""
        # Python does not know of handlers in C++. A struct sigaction begins with the handler.
        before = ctypes.create_string_buffer(256)
        ctypes.CDLL(None).sigaction(int(signal.SIGTERM), None, before)
        address = ctypes.c_void_p.from_buffer(before).value
        if address in (None, int(signal.SIG_IGN)):
            return  # there is no service
        self._services = ctypes.CFUNCTYPE(None, ctypes.c_int)(address)
        self._watch.start()
        signal.signal(signal.SIGTERM, self._hear)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self._watch.handle()
        self._services(number)

    def end_when_told(self) -> None:
        """Has the first one end this process too: what there was to save is saved."""
        self._watch.bears = 0


_sigterm = _Sigterm()
end_when_told = _sigterm.end_when_told


# Times that JAX's service was asked whether to stop: it compares this number among the processes.
_asked = itertools.count(1)


class Preemption:
    """Hears SIGTERM, and JAX's notice of a preemption, and has all processes stop at one step."""

    def __init__(self) -> None:
        self._heard = self._obeyed = False
        self._usual: Any = None
        self._watch = _Watch()

    def listen(self) -> None:
        """Takes SIGTERM from now on; in several processes JAX's service tells of it."""
        self._heard = self._obeyed = False
        # Other threads than the main one hear no signals.
        is_main = threading.current_thread() is threading.main_thread()
        if jax.process_count() == 1 and is_main:
            self._watch.start()
            self._usual = signal.signal(signal.SIGTERM, self._hear)

    def ignore(self) -> bool:
        """Leaves SIGTERM to whom it was before; tells whether one came that nobody asked for."""
        if self._usual is not None:
            signal.signal(signal.SIGTERM, self._usual)
            self._watch.stop()
            self._usual = None
        return self._heard and not self._obeyed

    def reached(self) -> bool:
        """Tells whether this is where to stop; asked equally often by all processes."""
        if jax.process_count() == 1:
            self._obeyed = self._heard
            return self._heard
        return multihost_utils.reached_preemption_sync_point(next(_asked))

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self._watch.handle()  # whoever sends a second one does not want to wait
        self._heard = True
