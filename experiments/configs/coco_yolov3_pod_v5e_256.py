r"""YOLOv3 on COCO at 416² over 256 TPU v5e chips, 16 images each: the rate grows with the batch.

Command: yolo-jax train experiments/configs/coco_yolov3_pod_v5e_256.py \
    --launch gke --target v5e:16x16 --image IMAGE --mount CLAIM=/data --runs /data/runs
Data: as for coco_yolov3_608; packed by `yolo-jax convert --to array_record` it is read faster.
Hardware: v5e:16x16, 64 hosts.
Expected: the 31.0 AP of coco_yolov3_416, less what so large a batch costs. Not run here.
"""

import dataclasses
from pathlib import Path

from yolo_jax.config import ExperimentConfig, load_config

BASE = Path(__file__).with_name("coco_yolov3_416.py")


def get_config() -> ExperimentConfig:
    """Returns the experiment: linear scaling (Goyal et al.) with five epochs of warm-up."""
    base = load_config(BASE)
    return dataclasses.replace(
        base,
        name="coco_yolov3_pod_v5e_256",
        optimizer=dataclasses.replace(base.optimizer, scale_rate_from=64, warmup_steps=140),
        batch_size=None,
        batch_size_per_device=16,
    )
