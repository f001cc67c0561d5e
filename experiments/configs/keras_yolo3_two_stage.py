"""keras-yolo3's train.py: the heads for 50 epochs, then all layers, at a tenth of the rate, to 100.

Its numbers throughout: Adam, batches of 32, the rate × 0.1 after 3 epochs without a new least
validation loss, the end after 10, get_random_data's augmentation, a tenth of the images for
validation, centres in whole pixels. The images are the tree crowns and the network is the tiny one.

Command: yolo-jax train experiments/configs/keras_yolo3_two_stage.py
Hardware: 2 CPU cores, or one GPU.
Expected: none published (github.com/qqwweee/keras-yolo3 has no figure). Not run here to its end.
"""

from pathlib import Path

from yolo_jax.config import (
    DataConfig,
    ExperimentConfig,
    FreezeBodyConfig,
    LossConfig,
    NetworkConfig,
    OptimizerConfig,
)
from yolo_jax.data.augment import Augment

DATA = Path(__file__).parents[1] / "data" / "tree_crowns"


def get_config() -> ExperimentConfig:
    """Returns the experiment."""
    return ExperimentConfig(
        name="keras_yolo3_two_stage",
        data=DataConfig(DATA / "train.json", held_out=DATA / "held_out.json", validation_share=0.1),
        network=NetworkConfig("tiny", 416, weights="yolov3-tiny"),
        loss=LossConfig(exact_centres=False),
        augment=Augment(
            scale=(0.25, 2), aspect_jitter=0.3, hsv=(0.1, 1.5, 1.5), min_box_px=1, min_area=0
        ),
        freeze_body=FreezeBodyConfig(epochs=50, learning_rate=1e-3),
        optimizer=OptimizerConfig("adam", learning_rate=1e-4, schedule="plateau"),
        epochs=100, batch_size=32, early_stopping=10,
    )  # fmt: skip
