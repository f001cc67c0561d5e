"""YOLOv3-tiny on COCO at 416², by darknet's recipe.

Command: yolo-jax train experiments/configs/coco_yolov3_tiny_416.py
Data: COCO as for coco_yolov3_608; ImageNet's yolov3-tiny.conv.15 in data.
Hardware: one GPU, or a TPU slice of four chips.
Expected: AP50 33.1 on test-dev (the darknet site's table). Not run here.
"""

import dataclasses
from pathlib import Path

from yolo_jax.config import ExperimentConfig, NetworkConfig, load_config

BASE = Path(__file__).with_name("coco_yolov3_608.py")


def get_config() -> ExperimentConfig:
    """Returns the experiment."""
    return dataclasses.replace(
        load_config(BASE),
        name="coco_yolov3_tiny_416",
        network=NetworkConfig("tiny", 416, weights="data/yolov3-tiny.conv.15"),
    )
