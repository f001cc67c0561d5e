"""What first weights, the box loss and mosaic are worth on tree crowns, three seeds each.

Command: yolo-jax sweep experiments/ablations/tree_crowns.py --parallel 2
Hardware: 2 CPU cores.
Expected: held-out AP50, seen here (means; the README has their spread, results/ the runs):
    0.356, with CIoU 0.360, with mosaic 0.217, with both 0.239;
    from scratch 0.120, with CIoU 0.166, with mosaic 0.058, with both 0.073.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from yolo_jax.config import ExperimentConfig, load_config
from yolo_jax.sweep import grid, with_seeds

QUICKSTART = Path(__file__).parents[1] / "configs" / "quickstart.py"


def get_config() -> ExperimentConfig:
    """Returns quickstart at 256 px, which a laptop trains many times over."""
    base = load_config(QUICKSTART)
    network = dataclasses.replace(base.network, input_size=256)
    return dataclasses.replace(base, name="ablation_tree_crowns", network=network)


def sweep() -> Iterator[dict[str, Any] | tuple[str, dict[str, Any]]]:
    """Yields the trials."""
    for trial in grid(
        {
            "network.weights": ("yolov3-tiny", "scratch"),
            "loss.box": ("yolov3", "ciou"),
            "augment.mosaic": (0.0, 1.0),
        }
    ):
        if trial["network.weights"] == "scratch":
            trial["optimizer.learning_rate"] = 3e-3  # as in tree_crowns_scratch
        yield from with_seeds([trial], 3)
