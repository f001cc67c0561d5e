import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from yolo_jax.core.interrupts import Terminated, raise_terminated, uncut

SCRIPT = """
import gc, os, signal, time
from yolo_jax.core.interrupts import hear_every_interrupt

def stop(*when):
    if when[:1] == ("start",):  # of the collection; once is enough
        return
    os.kill(os.getpid(), signal.NUMBER)
    time.sleep(0.01)

class Finalised:
    __del__ = stop

def collect():
    gc.callbacks.append(stop)
    gc.collect()

def raise_interrupt(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGTERM, raise_interrupt)
hear_every_interrupt()
hear_every_interrupt()
try:
    PLACE()
    gc.callbacks.clear()
    time.sleep(60)
except KeyboardInterrupt:
    print("stopped")
"""


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("place", ["Finalised", "collect"])
def test_an_interrupt_is_raised_again_where_python_would_print_it(place, number):
    script = SCRIPT.replace("PLACE", place).replace("NUMBER", number)
    ignored = "" if number == "SIGTERM" else "--default-signal=INT"
    command = ["env", *filter(None, [ignored]), sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "stopped", "")


def test_other_exceptions_are_printed_as_ever():
    script = SCRIPT.replace("PLACE()", "Finalised()").replace("os.kill", "bad")
    script = script.replace("time.sleep(60)", "")
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0
    assert "Exception ignored in: <function stop" in done.stderr
    assert "NameError: name 'bad' is not defined" in done.stderr


@contextmanager
def handled_by(handler) -> Iterator[None]:
    usual = signal.signal(signal.SIGTERM, handler)
    try:
        yield
        assert signal.getsignal(signal.SIGTERM) == handler
    finally:
        signal.signal(signal.SIGTERM, usual)


def test_signals_wait_until_a_block_is_over_and_are_heard_at_once_elsewhere():
    seen = []
    with handled_by(raise_terminated), uncut() as block:
        with pytest.raises(Terminated), block:
            signal.raise_signal(signal.SIGTERM)
            seen.append("the rest of the block")
        with pytest.raises(Terminated):
            signal.raise_signal(signal.SIGTERM)
            seen.append("never")
    assert seen == ["the rest of the block"]


def test_a_block_within_a_block_hands_on_what_it_heard():
    heard = []
    with handled_by(lambda *_: heard.append("outer")), uncut() as outer:
        with outer:
            with uncut() as inner, inner:
                signal.raise_signal(signal.SIGTERM)
            assert heard == []
        assert heard == ["outer"]


def test_a_handler_that_somebody_set_meanwhile_stays():
    with handled_by(raise_terminated):
        with uncut():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
        signal.signal(signal.SIGTERM, raise_terminated)
