"""What is wrong with a data set: bad records as readers find them, and images as they are."""

from yolo_jax.data.doctor.problems import (
    Fault,
    Kind,
    Problem,
    check_trainable,
    held_back,
    listed,
    report,
)

__all__ = ["Fault", "Kind", "Problem", "check_trainable", "held_back", "listed", "report"]
