"""Regularizers, under Keras's names."""

from yolo_jax.model.regularizers import (
    L1L2,
    l1,
    l1_l2,
    l2,
)

__all__ = [
    "L1L2",
    "l1",
    "l1_l2",
    "l2",
]
