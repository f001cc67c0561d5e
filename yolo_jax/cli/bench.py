"""`yolo-jax bench`."""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def add_parsers(commands: Any) -> None:
    """Adds the subcommand."""
    bench = commands.add_parser(
        "bench", help="print the figures that the README quotes (from a checkout)", add_help=False
    )
    bench.add_argument("name", nargs="?", help="of a file in experiments/benchmarks")
    bench.set_defaults(command=_bench, takes_rest=True)


def _bench(options: argparse.Namespace, rest: list[str]) -> None:
    root = Path(__file__).parents[2]
    files = sorted((root / "experiments" / "benchmarks").glob("[!_]*.py"))
    if not files:
        raise FileNotFoundError(
            "bench runs from a checkout, whose experiments/benchmarks it needs: clone the "
            "repository and install it with `pip install -e .`"
        )
    names = [file.stem for file in files]
    if options.name not in names:
        found = "no name" if options.name is None else options.name
        raise ValueError(f"bench needs one of {', '.join(names)}; found {found}")
    module = f"experiments.benchmarks.{options.name}"
    # Where the user stands, whose paths these are.
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-m", module, *rest]
    done = subprocess.run(command, env=environment, check=False)
    if done.returncode:
        sys.exit(done.returncode)
