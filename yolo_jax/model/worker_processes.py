"""Processes that build a Sequence's items: spawned, never forked after JAX has started threads.

A worker is given the index alone. The Sequence itself lies pickled in a file, which a worker
reads when it has changed; so it is sent once, not with every item.
"""

import hashlib
import os
import pickle
import signal
import sys
import tempfile
import threading
import traceback
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax


class WorkerProcesses:
    """Builds items in other processes; to be used by `with`.

    Leaving the block ends the processes at once, whatever they are at. They end as well when this
    process is killed. Ctrl-C reaches this process alone. JAX in a worker sees the CPU only: an
    accelerator belongs to this process.

    Args:
        workers: processes at most; they start as items are asked for.
    """

    def __init__(self, workers: int) -> None:
        context = get_context("spawn")
        self._folder = tempfile.TemporaryDirectory(prefix="yolo_jax_sequence_")
        self._path, self._sent, self._version = Path(self._folder.name), b"", 0
        # Nobody writes into it: a worker that finds its other end closed knows that it shall end.
        workers_end, self._lifeline = context.Pipe(duplex=False)
        self._workers_end = workers_end
        self._pool = ProcessPoolExecutor(
            workers, mp_context=context, initializer=_start, initargs=(workers_end,)
        )

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Ends the processes.

        Raises:
            RuntimeError: a process ended by itself.
        """
        self._lifeline.close()
        self._pool.shutdown(cancel_futures=True)
        self._workers_end.close()
        self._folder.cleanup()
        if isinstance(error, BrokenProcessPool):
            raise RuntimeError(
                "a worker process ended unexpectedly (see above for what it printed). Processes "
                "are spawned, so a script must start its work under `if __name__ == '__main__':`; "
                "a worker may also have been killed for want of memory."
            ) from error

    def send(self, sequence: Any) -> None:
        """Gives the workers the Sequence as it is now; not while items of it are under way.

        Raises:
            TypeError: it cannot be pickled.
        """
        try:
            pickled = pickle.dumps(sequence)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise TypeError(
                f"the Sequence {type(sequence).__name__} cannot be sent to another process "
                f"({error}). Define its class at the top of a module and keep open files, locks "
                "and local functions out of it; or use threads (use_multiprocessing=False)."
            ) from error
        digest = hashlib.sha256(pickled).digest()
        if digest != self._sent:
            self._version, self._sent = self._version + 1, digest
            self._file().write_bytes(pickled)
            # Every item of the version before has been built.
            self._file(self._version - 1).unlink(missing_ok=True)

    def submit(self, index: int) -> Future:
        """Starts to build an item."""
        return self._pool.submit(_build, str(self._file()), index)

    def _file(self, version: int | None = None) -> Path:
        return self._path / f"{self._version if version is None else version}.pickle"


class WorkerError(RuntimeError):
    """An item could not be built, and the exception itself could not be sent over."""


class _Worker:
    """What a worker process knows."""

    lock = threading.Lock()
    building = False
    closing = False
    path = ""
    sequence: Any = None


def _start(lifeline: Connection) -> None:
    """Prepares a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    jax.config.update("jax_platforms", "cpu")
    threading.Thread(target=_end_with_parent, args=(lifeline,), daemon=True).start()


def _end_with_parent(lifeline: Connection) -> None:
    """Waits until the other end is closed or its process is gone, and ends this one."""
    lifeline.poll(None)
    with _Worker.lock:
        _Worker.closing = True
        if _Worker.building:
            os._exit(1)
    # An item that is being sent is sent to its end: half a message would block its reader. Then
    # the pool ends this process, unless the parent was killed.
    parent = parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def _build(path: str, index: int) -> Any:
    """Builds an item in a worker process."""
    with _Worker.lock:
        if _Worker.closing:
            return None
        _Worker.building = True
    try:
        if path != _Worker.path:
            _Worker.sequence = pickle.loads(Path(path).read_bytes())
            _Worker.path = path
        return _Worker.sequence[index]
    except Exception as error:
        if _can_be_sent(error):
            raise
        raise WorkerError("".join(traceback.format_exception(error))) from None
    finally:
        with _Worker.lock:
            _Worker.building = False


def _can_be_sent(error: Exception) -> bool:
    """Tells whether an exception survives pickling; one that does not would break the pool."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        print(f"{type(error).__name__} cannot be pickled", file=sys.stderr)
        return False
    return True
