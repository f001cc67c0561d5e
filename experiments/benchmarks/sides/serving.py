"""The child's end: it does its work once for every line that it is sent, and says how long it took.

Standard library alone, since every side's environment has to have it.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_WARM_UP = 2


def serve(
    work: Callable[[], Any],
    *,
    before: Callable[[], Any] | None = None,
    device_memory: Callable[[], int] | None = None,
    **facts: Any,
) -> None:
    """Warms up, then works at each line of standard input, until there are no more.

    Each answer is a line of JSON: first `facts`, then of each turn the seconds, the CPU seconds of
    this process and its children, and the largest memory (bytes) that the process has had since its
    warm-up, or its device where that has its own.

    Args:
        work: done when it returns; nothing of it may still be under way.
        before: each turn, and not timed, such as using up what was made ahead.
        device_memory: returns the most bytes that the device has held.
        facts: told to the parent.
    """
    # What libraries print would spoil the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for _ in range(_WARM_UP):
        work()
    Path("/proc/self/clear_refs").write_text("5")  # the largest memory is counted from here on
    print(json.dumps(facts), file=answers, flush=True)
    for _ in sys.stdin:
        if before is not None:
            before()
        start, used = time.perf_counter(), _cpu_seconds()
        work()
        answer = {
            "seconds": time.perf_counter() - start,
            "cpu_seconds": _cpu_seconds() - used,
            "memory": _peak() if device_memory is None else device_memory(),
        }
        print(json.dumps(answer), file=answers, flush=True)


def _cpu_seconds() -> float:
    """Returns the CPU time that this process and its living children have had."""
    total, ticks = time.process_time(), os.sysconf("SC_CLK_TCK")
    for task in Path("/proc/self/task").iterdir():
        try:
            children = (task / "children").read_text().split()
        except FileNotFoundError:  # a thread that has ended meanwhile has none
            continue
        for child in children:
            # After the name in parentheses: state first, user and system ticks 12th and 13th.
            fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / ticks
    return total


def _peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
