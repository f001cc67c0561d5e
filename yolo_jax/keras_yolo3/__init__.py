"""The names that a keras-yolo3 user has in their script, with that project's argument order."""

from yolo_jax.core.allocator import keep_freed_memory
from yolo_jax.keras_yolo3.images import get_random_data, letterbox_image
from yolo_jax.keras_yolo3.networks import tiny_yolo_body, yolo_body
from yolo_jax.keras_yolo3.outputs import yolo_eval, yolo_head, yolo_loss
from yolo_jax.keras_yolo3.targets import box_iou, preprocess_true_boxes

__all__ = [
    "box_iou",
    "get_random_data",
    "letterbox_image",
    "preprocess_true_boxes",
    "tiny_yolo_body",
    "yolo_body",
    "yolo_eval",
    "yolo_head",
    "yolo_loss",
]

# Here, since it has to be before JAX starts its threads.
keep_freed_memory()
