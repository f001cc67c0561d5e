"""A job: what every launcher starts, in its own way, and starts again where that helps."""

import re
import shlex
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from yolo_jax.training.distributed import EXIT_PREEMPTED

# What a label of Kubernetes and a folder's name take both, and leaves room for numbers after it.
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")


@dataclass(frozen=True)
class Job:
    """One run.

    Attributes:
        arguments: of `yolo-jax`, such as ("train", CONFIG, "--epochs", "30").
        environment: variables that are set for it, beside those that are there.
        folder: that it works in; on other machines, where they have it.
        processes: that share every batch.
        name: that queues show.

    Raises:
        ValueError: no queue takes the name.
    """

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path = field(default_factory=Path.cwd)
    processes: int = 1
    name: str = "yolo-jax"

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"the job's name is {self.name!r}; expected up to 40 of a-z, 0-9 and -, the first "
                "a letter and the last no -; give another --job-name"
            )

    def joining(self, address: str, number: int) -> list[str]:
        """Returns the arguments by which a process finds the others; none where it is alone.

        Args:
            address: HOST:PORT of the first.
            number: of the process.
        """
        if self.processes == 1:
            return []
        count = ["--num-processes", str(self.processes), "--process-id", str(number)]
        return ["--distributed", "--coordinator", address, *count]

    def command(self, extra: Sequence[str] = ()) -> list[str]:
        """Returns the command of a process, by this Python."""
        return [sys.executable, "-m", "yolo_jax", *self.arguments, *extra]

    def typed(self, extra: Sequence[str] = ()) -> list[str]:
        """Returns the command of a process as one types it, in words."""
        return ["yolo-jax", *self.arguments, *extra]

    def shown(self, extra: Sequence[str] = ()) -> str:
        """Returns the command of a process as one types it, with the variables before it."""
        variables = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        return " ".join([*variables, shlex.join(self.typed(extra))])


def free_port(host: str = "127.0.0.1") -> int:
    """Returns a port of this machine that nobody has yet.

    Args:
        host: the address that it is of; "" for all of them.
    """
    with socket.socket() as taken:
        taken.bind((host, 0))
        return taken.getsockname()[1]


def run_again_if_preempted(run: Callable[[], tuple[int, bool]], restarts: int) -> int:
    """Runs a job, and again for as long as it was preempted; returns the last exit status.

    Args:
        run: runs it to its end; returns the exit status, and whether a user ended it for good.
        restarts: times that it is started again at most.
    """
    for attempt in range(restarts):
        status, stopped = run()
        if status != EXIT_PREEMPTED or stopped:
            return status
        print(f"preempted; restart {attempt + 1} of {restarts}", file=sys.stderr, flush=True)
    return run()[0]


def as_shell_says(status: int) -> int:
    """Returns the exit status of a child process, for one that a signal ended as a shell does."""
    return 128 - status if status < 0 else status
