"""The parent's end: starts the sides, gives them turns, and writes down what they took.

Every side is a child process: its memory is its own, and no library's threads meet another's. They
take turns, so what slows the machine down slows all of them; of each turn the ratio is taken.
"""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[3]
# In which a side whose turn it was lets go of the cores: thread pools spin for a while.
_SETTLE_SECONDS = 0.3


def peers_python() -> Path:
    """Returns the Python of `.venv-bench`, which is made from requirements-bench.txt if need be."""
    folder, wanted = ROOT / ".venv-bench", ROOT / "requirements-bench.txt"
    python, made_from = folder / "bin" / "python", folder / "requirements-bench.txt"
    if not made_from.exists() or made_from.read_text() != wanted.read_text():
        print(f"Setting up {folder.name} (once, some minutes)", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        install = [python, "-m", "pip", "install", "--quiet", "--progress-bar", "off"]
        subprocess.run([*install, "-r", wanted], check=True)
        made_from.write_text(wanted.read_text())
    return python


class Side:
    """A child process that works when it is told to.

    Args:
        module: in `experiments.benchmarks.sides`; it ends in `serving.serve`.
        arguments: of its command line.
        peer: it runs in `.venv-bench`.
        environment: variables that are set for it.

    Attributes:
        facts: that it told of itself, such as versions.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[object],
        *,
        peer: bool,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        python = peers_python() if peer else sys.executable
        name = f"experiments.benchmarks.sides.{module}"
        command = [str(python), "-m", name, *map(str, arguments)]
        pipe = subprocess.PIPE
        variables = os.environ | dict(environment or {})
        self._child = subprocess.Popen(
            command, cwd=ROOT, env=variables, stdin=pipe, stdout=pipe, text=True
        )
        self.facts: dict[str, Any] = self._answer()

    def turn(self) -> dict[str, Any]:
        """Lets it work once; returns `seconds`, `cpu_seconds`, and bytes of `memory` at most."""
        assert self._child.stdin is not None
        time.sleep(_SETTLE_SECONDS)
        self._child.stdin.write("\n")
        self._child.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """Ends the child."""
        assert self._child.stdin is not None
        self._child.stdin.close()
        self._child.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._child.args} ended with exit status {self._child.wait()}")
        return json.loads(line)


@dataclass
class Case:
    """One thing that is measured, and what every side took for it.

    Attributes:
        name: key of its ratios.
        seconds: of each side, turn by turn; ours comes first.
        cpu_seconds: the same of CPU time, which a loaded machine spoils less.
        memory: of each side, bytes at most.
        facts: of each side.
    """

    name: str
    seconds: dict[str, list[float]] = field(default_factory=dict)
    cpu_seconds: dict[str, list[float]] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)

    def ratios(self) -> dict[str, float]:
        """Returns time and memory of ours by the best peer's: median of the turns' ratios."""
        ours, *others = self.seconds.values()
        memory, *peers = self.memory.values()
        time_ratio = max(float(np.median(np.divide(ours, other))) for other in others)
        return {self.name: time_ratio, f"{self.name}_memory": memory / min(peers)}


def measure(name: str, sides: Mapping[str, Side], turns: int) -> Case:
    """Lets the sides take turns, prints what they took, and ends them.

    Args:
        name: of the case.
        sides: ours first.
        turns: of each.
    """
    case = Case(name, {side: [] for side in sides}, {side: [] for side in sides})
    for _ in range(turns):
        for label, side in sides.items():
            turn = side.turn()
            case.seconds[label].append(turn["seconds"])
            case.cpu_seconds[label].append(turn["cpu_seconds"])
            case.memory[label] = turn["memory"]
    for label, side in sides.items():
        case.facts[label] = side.facts
        side.close()
    ours, ours_cpu = (next(iter(each.values())) for each in (case.seconds, case.cpu_seconds))
    head = "median s   least s   ours/this   CPU s, ours/this   peak GB"
    print(f"\n{name}{'':{max(1, 28 - len(name))}}{head}")
    for label, seconds in case.seconds.items():
        cpu = case.cpu_seconds[label]
        ratios = [np.median(np.divide(*pair)) for pair in ((ours, seconds), (ours_cpu, cpu))]
        shown = f"{np.median(seconds):8.4f}  {min(seconds):8.4f}  {ratios[0]:10.2f}"
        shown += f"  {min(cpu):8.4f} {ratios[1]:8.2f}  {case.memory[label] / 1e9:8.2f}"
        print(f"  {label:26s}{shown}", flush=True)
    return case


def save(path: Path | None, cases: Iterable[Case]) -> None:
    """Writes the machine, the figures and the ratios to a JSON file, where one is asked for."""
    if path is None:
        return
    cases = list(cases)
    described = {
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "system": platform.platform(),
            "python": platform.python_version(),
        },
        "ratios": {key: value for case in cases for key, value in case.ratios().items()},
        "cases": {
            case.name: {
                label: {
                    "median_seconds": float(np.median(seconds)),
                    "seconds": seconds,
                    "cpu_seconds": case.cpu_seconds[label],
                    "memory_bytes": case.memory[label],
                    "versions": case.facts[label],
                }
                for label, seconds in case.seconds.items()
            }
            for case in cases
        },
    }
    path.write_text(json.dumps(described, indent=2) + "\n")


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()
