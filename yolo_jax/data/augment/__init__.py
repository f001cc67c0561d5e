"""Augmentation on the device: pure functions of a key for each example."""

from yolo_jax.data.augment.mixing import ALONE, COPY, IMAGES, MIXUP, MOSAIC
from yolo_jax.data.augment.multi_scale import MultiScale, step_side
from yolo_jax.data.augment.transform import Augment, Augmented

__all__ = [
    "ALONE",
    "COPY",
    "IMAGES",
    "MIXUP",
    "MOSAIC",
    "Augment",
    "Augmented",
    "MultiScale",
    "step_side",
]
