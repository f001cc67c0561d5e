"""Fine-tunes the COCO-pretrained YOLOv3-tiny on tree crowns seen from the air.

Command: yolo-jax train experiments/configs/quickstart.py
Hardware: 2 CPU cores, 7 minutes.
Expected: held-out AP50 0.430 (seed 0; mean of seeds 0, 1 and 2: 0.429).
"""

from pathlib import Path

from yolo_jax.config import DataConfig, ExperimentConfig, NetworkConfig, OptimizerConfig
from yolo_jax.data.augment import Augment

DATA = Path(__file__).parents[1] / "data" / "tree_crowns"


def get_config() -> ExperimentConfig:
    """Returns the experiment."""
    return ExperimentConfig(
        name="quickstart",
        data=DataConfig(
            train=DATA / "train.json",
            validation=DATA / "validation.json",
            held_out=DATA / "held_out.json",
            canvas_size=400,  # the training images' own: nothing is resampled before the crop
        ),
        network=NetworkConfig(kind="tiny", input_size=320, weights="yolov3-tiny"),
        augment=Augment(
            crop=(140, 270), quarter_turns=True,
            brightness=0.35, contrast=0.35, saturation=0.5, hue=0.03,
        ),
        optimizer=OptimizerConfig(
            learning_rate=1e-3, schedule="cosine", warmup_steps=60, ema_decay=0.99
        ),
        epochs=20,
        steps_per_epoch=30,
        batch_size=8,
    )  # fmt: skip
