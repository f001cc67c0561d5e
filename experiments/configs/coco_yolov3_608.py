"""YOLOv3 on COCO at 608², by darknet's recipe: 500,200 batches of 64, sides drawn from 320 to 608.

Command: yolo-jax train experiments/configs/coco_yolov3_608.py
Data: COCO's train2017, val2017 and annotations in data/coco; ImageNet's darknet53.conv.74 in data.
Hardware: a node of 8 GPUs or a TPU slice; `yolo-jax plan` says how long it takes there.
Expected: AP 33.0, AP50 57.9 on test-dev (arXiv:1804.02767, table 3). Not run here.
"""

from pathlib import Path

from yolo_jax.config import DataConfig, ExperimentConfig, LossConfig, NetworkConfig, OptimizerConfig
from yolo_jax.data.augment import Augment

COCO = Path("data/coco/annotations")


def get_config() -> ExperimentConfig:
    """Returns the experiment."""
    return ExperimentConfig(
        name="coco_yolov3_608",
        data=DataConfig(
            train=COCO / "instances_train2017.json",
            held_out=COCO / "instances_val2017.json",
            validation_share=0.01,
            canvas_size=608,
            workers=8,
        ),
        network=NetworkConfig("yolov3", 608, weights="data/darknet53.conv.74"),
        loss=LossConfig(ignore_thresh=0.7, ignore_scope="all"),
        augment=Augment(
            scale=(0.25, 2.0),
            aspect_jitter=0.3,
            hsv=(0.1, 1.5, 1.5),
            multi_scale=tuple(range(320, 609, 32)),
        ),
        optimizer=OptimizerConfig("sgd", weight_decay=5e-4, schedule="step", warmup_steps=1000),
        epochs=273,
        batch_size=64,
    )
