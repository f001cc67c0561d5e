"""How reading ends: exceptions, killed workers, closing, Ctrl-C."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from itertools import islice
from pathlib import Path

import pytest
from number_sequences import AwkwardError, Numbers, fewer, running, without_pid

from yolo_jax.model.enqueuer import Enqueuer


@fewer
def test_an_exception_is_raised_here_with_its_traceback(workers, processes):
    numbers = Numbers(error=(KeyError, "no such image"))
    items = Enqueuer(numbers, workers=workers, use_multiprocessing=processes)
    assert without_pid(islice(items, 3)) == [(0, 0), (0, 1), (0, 2)]
    with pytest.raises(KeyError, match="no such image") as caught:
        next(items)
    shown = "".join(traceback.format_exception(caught.value))
    assert "in __getitem__" in shown
    assert "raise kind" in shown
    assert not running()
    assert not multiprocessing.active_children()
    assert list(items) == []


def test_an_exception_that_cannot_be_pickled_comes_as_text():
    items = Enqueuer(Numbers(error=(AwkwardError, 1, 2)), use_multiprocessing=True)
    with pytest.raises(RuntimeError, match=r"(?s)in __getitem__.*AwkwardError: 1 and 2"):
        list(islice(items, 6))


def test_a_killed_worker_is_an_error_not_a_stall():
    with (
        pytest.raises(RuntimeError, match="a worker process ended unexpectedly"),
        Enqueuer(Numbers(delay=0.05), use_multiprocessing=True) as items,
    ):
        pid = next(items)[2]
        os.kill(pid, signal.SIGKILL)
        list(islice(items, 20))
    assert not multiprocessing.active_children()


def test_a_sequence_that_cannot_be_pickled_says_what_to_do():
    numbers = Numbers()
    numbers.lock = threading.Lock()
    with pytest.raises(TypeError, match="cannot be sent to another process.*use threads"):
        next(Enqueuer(numbers, use_multiprocessing=True))


@pytest.mark.parametrize("workers", [0, 4])
def test_stop_iteration_in_an_item_does_not_pass_for_the_end(workers):
    with pytest.raises(RuntimeError):
        list(Enqueuer(Numbers(error=(StopIteration,)), workers=workers))


class Stuck(Numbers):
    """Takes minutes for every item but the first."""

    def __getitem__(self, index):
        time.sleep(100 if index else 0)
        return index


def test_closing_ends_a_process_whatever_it_is_at():
    numbers = Stuck()
    items = Enqueuer(numbers, use_multiprocessing=True, max_queue_size=3)
    assert next(items) == 0
    started = time.monotonic()
    items.close()
    assert time.monotonic() - started < 20
    assert not multiprocessing.active_children()
    assert numbers.ended == 0
    assert list(items) == []


def test_closing_ends_threads_with_the_item_they_are_at():
    items = Enqueuer(Numbers(50, delay=0.001), workers=4)
    next(items)
    assert len(running()) == 4
    items.close()
    assert not running()


SCRIPT = """
import os, sys, time
from yolo_jax.model.enqueuer import Enqueuer
from yolo_jax.model.sequence import Sequence

class Slow(Sequence):
    def __len__(self):
        return 1000
    def __getitem__(self, index):
        time.sleep(0.05)
        return os.getpid()

if __name__ == "__main__":
    workers, processes = int(sys.argv[1]), sys.argv[2] == "True"
    seen = set()
    with Enqueuer(Slow(), workers=workers, use_multiprocessing=processes) as items:
        for pid in items:
            if pid not in seen:
                seen.add(pid)
                print(pid, flush=True)
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize(("workers", "processes"), [(0, False), (2, False), (2, True)])
def test_ctrl_c_and_kill_leave_nothing_behind(tmp_path: Path, workers, processes, sent):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    root = Path(__file__).parents[2]
    # Started in the background, a shell's children ignore Ctrl-C, and theirs would too.
    process = subprocess.Popen(
        ["env", "--default-signal=INT", sys.executable, str(script), str(workers), str(processes)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(root)},
        start_new_session=True,
    )
    assert process.stdout is not None
    # Until all workers are at work: one that is still starting would print where Ctrl-C found it.
    pids = [int(process.stdout.readline()) for _ in range(2 if processes else 1)]
    if sent == signal.SIGINT:
        # As a terminal does: to the whole group.
        os.killpg(process.pid, sent)
    else:
        process.kill()
    # The pipes close when the last of the workers is gone.
    _, errors = process.communicate(timeout=20)
    assert process.returncode == -sent
    assert (sent == signal.SIGKILL) or errors.count("KeyboardInterrupt") == 1
    assert not any(Path(f"/proc/{pid}/exe").exists() for pid in pids)


def test_a_script_without_a_guard_is_told_so(tmp_path: Path):
    script = tmp_path / "script.py"
    body = SCRIPT.replace('if __name__ == "__main__":', "if True:")
    script.write_text(body)
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, str(script), "2", "True"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(root)},
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "must start its work under `if __name__ == '__main__':`" in done.stderr
