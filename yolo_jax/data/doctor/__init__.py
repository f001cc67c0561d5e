"""What is wrong with a data set: bad records as readers find them, and images as they are."""

from yolo_jax.data.doctor.problems import Problem, check_trainable, held_back, report

__all__ = ["Problem", "check_trainable", "held_back", "report"]
