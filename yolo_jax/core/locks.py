"""Locks that keep other processes out of a folder, on this machine and on a network's disk."""

import errno
import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

_log = logging.getLogger(__name__)
_LEASE_SECONDS = 180  # of locks on a network's disk, and some more


@contextmanager
def locked(lock: Path, otherwise: str) -> Iterator[None]:
    """Keeps other processes out of a lock's folder, as long as the block or this process lasts.

    For another machine's lock it waits some minutes: of a machine that died, a network's disk
    keeps it until its lease runs out.

    Args:
        lock: file, which need not be there yet; its folder has to be.
        otherwise: what a user can do but wait for the other, or stop it.

    Raises:
        ValueError: a living process has it, which is named.
    """
    with lock.open("a+", encoding="utf-8") as file:
        deadline = time.monotonic() + _LEASE_SECONDS
        while (other := _taken_by(file)) is not None:
            is_ours = other.endswith(f" on {socket.gethostname()}")
            if is_ours or time.monotonic() > deadline:
                raise ValueError(
                    f"{lock.parent} is in use by {other or 'another process'}, which still runs; "
                    f"wait for it, or stop it, or {otherwise}"
                )
            time.sleep(1)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield


def _taken_by(file: TextIO) -> str | None:
    """Takes the lock and returns None, or says whose it is."""
    try:
        # Of this process alone: one of `flock` would outlast it in the workers it forks.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            file.seek(0)
            return file.read().strip()
        _log.warning("%s cannot be locked (%s): let nothing else use it", file.name, error)
    return None
