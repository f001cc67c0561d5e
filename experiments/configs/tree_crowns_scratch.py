"""YOLOv3-tiny on tree crowns seen from the air, from scratch: quickstart without its weights.

Command: yolo-jax train experiments/configs/tree_crowns_scratch.py
Hardware: 2 CPU cores.
Expected: held-out AP50 0.159 (seed 0, the only one that was run; OSBS 0.112, YELL 0.180).
    The rate was chosen on the validation images: AP50 there 0.351 by 3e-3, 0.324 by 1e-3.
"""

import dataclasses
from pathlib import Path

from yolo_jax.config import ExperimentConfig, NetworkConfig, load_config

QUICKSTART = Path(__file__).with_name("quickstart.py")


def get_config() -> ExperimentConfig:
    """Returns the experiment."""
    base = load_config(QUICKSTART)
    return dataclasses.replace(
        base,
        name="tree_crowns_scratch",
        network=NetworkConfig("tiny", 256, weights="scratch", anchors="kmeans"),
        optimizer=dataclasses.replace(base.optimizer, learning_rate=3e-3),
    )
