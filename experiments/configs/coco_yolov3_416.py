"""YOLOv3 on COCO, scored at 416²: darknet's recipe, as coco_yolov3_608.

Command: yolo-jax train experiments/configs/coco_yolov3_416.py
Data: as for coco_yolov3_608.
Hardware: the same.
Expected: AP 31.0, AP50 55.3 (arXiv:1804.02767, figures 1 and 3). Not run here.
Rehearsed: `yolo-jax bench rehearsal`, this recipe with a small network on 64 drawn images, reaches
    AP50 0.997 on those images.
"""

import dataclasses
from pathlib import Path

from yolo_jax.config import ExperimentConfig, load_config

BASE = Path(__file__).with_name("coco_yolov3_608.py")


def get_config() -> ExperimentConfig:
    """Returns the experiment."""
    base = load_config(BASE)
    network = dataclasses.replace(base.network, input_size=416)
    return dataclasses.replace(base, name="coco_yolov3_416", network=network)
