"""What `yolo-jax doctor` does: reads a data set, says what is wrong with it, and mends a copy."""

from yolo_jax.examine.command import examine_dataset

__all__ = ["examine_dataset"]
