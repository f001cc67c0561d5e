"""Quickstart's held-out figures over seeds, from the COCO weights and from scratch.

Command: yolo-jax bench quickstart
Hardware: 2 CPU cores, about 75 minutes for three seeds; finished runs are not run again.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np

from yolo_jax import experiment
from yolo_jax.cli import use_compilation_cache
from yolo_jax.config import load_config

CONFIG = Path(__file__).parents[1] / "configs" / "quickstart.py"


def main() -> None:
    """Trains what is missing and prints a table."""
    parser = argparse.ArgumentParser(prog="yolo-jax bench quickstart", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/bench"))
    options = parser.parse_args()
    use_compilation_cache()
    config = load_config(CONFIG)
    found: dict[str, list[dict]] = {}
    for weights in (config.network.weights, "scratch"):
        for seed in options.seeds:
            run = dataclasses.replace(
                config,
                name=f"{weights}_seed_{seed}",
                seed=seed,
                runs=options.runs,
                network=dataclasses.replace(config.network, weights=weights),
            )
            experiment.train(run)
            figures = json.loads((options.runs / run.name / "metrics.json").read_text())
            found.setdefault(weights, []).append(figures)
    print_table(found, options.seeds)


def print_table(found: dict[str, list[dict]], seeds: list[int]) -> None:
    """Prints the held-out AP50 and AP of every run, with the means."""
    print(f"{'start':12s} {'seed':>5s}   {'AP50':>5s}   {'AP':>5s}   AP50 by source")
    for weights, runs in found.items():
        for seed, figures in zip(seeds, runs, strict=True):
            sources = "  ".join(
                f"{name} {part['AP50']:.3f}" for name, part in figures["sources"].items()
            )
            numbers = f"{figures['AP50']:.3f}   {figures['AP']:.3f}"
            print(f"{weights:12s} {seed:5d}   {numbers}   {sources}")
        means = [np.mean([figures[key] for figures in runs]) for key in ("AP50", "AP")]
        print(f"{weights:12s} {'mean':>5s}   {means[0]:.3f}   {means[1]:.3f}")


if __name__ == "__main__":
    main()
