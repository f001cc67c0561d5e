"""Ctrl-C and its like, heard wherever they come."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_SOON = 0.05  # s


def hear_every_interrupt() -> None:
    """Has a KeyboardInterrupt raised again that came where Python cannot let it out.

    One that comes while a finaliser or a callback of the garbage collector runs (JAX has such a
    callback) is printed as an "Exception ignored", and the program goes on. To call this twice is
    to call it once.
    """
    if not isinstance(sys.unraisablehook, _RaiseAgain):
        sys.unraisablehook = _RaiseAgain(sys.unraisablehook)


class Terminated(KeyboardInterrupt):
    """SIGTERM, where no fit is to save."""


def raise_terminated(number: int, frame: object) -> None:
    """Handles SIGTERM as Ctrl-C is, so that worker processes end and the terminal is in order."""
    raise Terminated


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Has Ctrl-C and SIGTERM heard behind what must not be cut in two.

    Of Python's handlers; what a signal does by itself it does at once. Python runs handlers in the
    main thread alone, so that elsewhere nothing has to wait.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    usual = {number: handler for number, handler in usual.items() if callable(handler)}
    came: list[int] = []
    try:
        for number in usual:
            signal.signal(number, lambda number, _: came.append(number))
        yield
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
        for number in came:
            signal.raise_signal(number)


class _RaiseAgain:
    """An unraisable hook that leaves all but interrupts to the one before it."""

    def __init__(self, usual: Any) -> None:
        self._usual = usual

    def __call__(self, ignored: Any) -> None:
        if not isinstance(ignored.exc_value, KeyboardInterrupt):
            self._usual(ignored)
            return
        # Of SIGINT, unless it is ignored, as by what a shell runs in the background.
        numbers = [signal.SIGINT, signal.SIGTERM]
        if isinstance(ignored.exc_value, Terminated):
            numbers.reverse()
        handled = [number for number in numbers if callable(signal.getsignal(number))]
        main = threading.main_thread().ident
        if handled and main is not None:
            # To the thread itself, which may wait for a lock.
            threading.Timer(_SOON, signal.pthread_kill, (main, handled[0])).start()
