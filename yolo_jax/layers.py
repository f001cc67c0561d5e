"""Layers under Keras's names: the public door."""

from yolo_jax.model import layers as _layers
from yolo_jax.model.graph import Input, Lambda, Layer, apply, set_random_seed
from yolo_jax.model.layers import *  # noqa: F403 - a door: everything that `__all__` names

__all__ = ["Input", "Lambda", "Layer", "apply", "set_random_seed"]
__all__ += _layers.__all__
