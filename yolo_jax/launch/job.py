"""A job: what every launcher starts, in its own way."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Job:
    """One run.

    Attributes:
        arguments: of `yolo-jax`, such as ("train", CONFIG, "--epochs", "30").
        environment: variables that are set for it, beside those that are there.
        folder: that it works in.
        processes: that share every batch.
    """

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path = field(default_factory=Path.cwd)
    processes: int = 1

    def command(self, extra: Sequence[str] = ()) -> list[str]:
        """Returns the command of a process, by this Python."""
        return [sys.executable, "-m", "yolo_jax", *self.arguments, *extra]

    def shown(self, extra: Sequence[str] = ()) -> str:
        """Returns the command of a process as one types it."""
        variables = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        return " ".join([*variables, shlex.join(["yolo-jax", *self.arguments, *extra])])
