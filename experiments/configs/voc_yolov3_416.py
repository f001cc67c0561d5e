"""YOLOv3 on Pascal VOC at 416²: trained on 2007 and 2012 trainval, scored on 2007 test.

The recipe is that of coco_yolov3_608 for 200 epochs, as in GluonCV's train_yolo3.py.

Command: yolo-jax train experiments/configs/voc_yolov3_416.py
Data: VOC2007 (trainval and test) and VOC2012 in data/VOCdevkit; darknet53.conv.74 in data.
Hardware: a node of 8 GPUs or a TPU slice.
Expected: GluonCV's model zoo has mAP 81.5 for yolo3_darknet53_voc at 416² on these images, by VOC
    2007's 11 points of recall; a run's AP50 is by COCO's 101 points. Not run here.
"""

import dataclasses
from pathlib import Path

from yolo_jax.config import DataConfig, ExperimentConfig, load_config

BASE = Path(__file__).with_name("coco_yolov3_608.py")
DEVKIT = Path("data/VOCdevkit")


def get_config() -> ExperimentConfig:
    """Returns the experiment."""
    base = load_config(BASE)
    return dataclasses.replace(
        base,
        name="voc_yolov3_416",
        data=DataConfig(
            train=DEVKIT,
            train_split="2007_trainval+2012_trainval",
            held_out=DEVKIT,
            held_out_split="2007_test",
            validation_share=0.01,
            canvas_size=608,
            workers=8,
        ),
        network=dataclasses.replace(base.network, input_size=416),
        epochs=200,
    )
