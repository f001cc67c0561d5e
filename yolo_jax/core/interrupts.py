"""Ctrl-C and its like, heard wherever they come."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
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


class Uncut:
    """A block that Ctrl-C and SIGTERM do not cut in two: they are heard behind it.

    To enter it costs nothing that counts, once a step. Only `uncut` makes it, for a while.
    """

    def __init__(self) -> None:
        self.usual: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._is_within = False
        self._came: list[int] = []

    def hear(self, number: int, frame: FrameType | None) -> None:
        """Hands a signal to who had it before, at once or behind the block."""
        if self._is_within:
            self._came.append(number)
        else:
            self.usual[number](number, frame)

    def __enter__(self) -> None:
        """Has signals wait."""
        self._is_within = True

    def __exit__(self, *_: object) -> None:
        """Hands on those that came."""
        self._is_within = False
        while self._came:
            signal.raise_signal(self._came.pop(0))


@contextmanager
def uncut() -> Iterator[Uncut]:
    """Takes the signals for which Python has a handler, and gives the block in which they wait.

    Python runs handlers in the main thread alone, so that elsewhere nothing has to wait.
    """
    block = Uncut()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if callable(handler := signal.getsignal(number)):
                block.usual[number] = handler
                signal.signal(number, block.hear)
    try:
        yield block
    finally:
        for number, handler in block.usual.items():
            if signal.getsignal(number) == block.hear:  # and nobody else's
                signal.signal(number, handler)


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
