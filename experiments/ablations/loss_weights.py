"""What the weight of the box terms is worth on tree crowns, three seeds each, in one program.

Command: yolo-jax sweep experiments/ablations/loss_weights.py --together auto
Hardware: 2 CPU cores.
Expected: held-out AP50, seen here (means; the README has their spread, results/ the runs):
    0.356 at a weight of 0.25, 0.365 at 1, 0.371 at 4; three seeds do not tell them apart.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from yolo_jax.config import ExperimentConfig, load_config
from yolo_jax.sweep import grid, with_seeds

TREE_CROWNS = Path(__file__).with_name("tree_crowns.py")


def get_config() -> ExperimentConfig:
    """Returns the base of the other ablation, with one order of the data for all trials."""
    base = load_config(TREE_CROWNS)
    data = dataclasses.replace(base.data, order_seed=0)
    return dataclasses.replace(base, name="ablation_loss_weights", data=data)


def sweep() -> Iterator[dict[str, Any] | tuple[str, dict[str, Any]]]:
    """Yields the trials."""
    yield from with_seeds(grid({"loss.box_weight": (0.25, 1.0, 4.0)}), 3)
