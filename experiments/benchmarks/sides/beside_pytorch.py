"""A network beside PyTorch, eager and compiled: what `bench step` and `bench infer` share."""

import argparse
from collections.abc import Mapping
from pathlib import Path

from experiments.benchmarks.sides.turns import Side, measure, save


def main(
    name: str,
    description: str | None,
    work: str,
    cases: Mapping[str, tuple[str, int]],
    turns: int,
    gpu_cases: Mapping[str, tuple[str, int]] | None = None,
) -> None:
    """Reads a benchmark's arguments, and prints a table for each case.

    Args:
        name: of the benchmark.
        description: of it.
        work: that both sides know: train or infer.
        cases: network and batch of each.
        turns: of a side, where no others are asked for.
        gpu_cases: more of them, which only a GPU is asked for.
    """
    every = {**cases, **(gpu_cases or {})}
    parser = argparse.ArgumentParser(prog=f"yolo-jax bench {name}", description=description)
    parser.add_argument("--cases", nargs="+", choices=list(every), default=list(cases))
    parser.add_argument("--side", type=int, default=416)
    parser.add_argument("--turns", type=int, default=turns)
    parser.add_argument("--json", type=Path, help="write machine, medians and ratios")
    options = parser.parse_args()
    measured = []
    for case in options.cases:
        network, batch = every[case]
        arguments = [work, "--network", network, "--batch", batch, "--side", options.side]
        sides = {
            "yolo_jax": Side("yolo_jax", arguments, peer=False),
            "PyTorch": Side("pytorch", arguments, peer=True),
            "PyTorch, torch.compile": Side("pytorch", [*arguments, "--compile"], peer=True),
        }
        measured.append(measure(case, sides, options.turns))
    save(options.json, measured)
