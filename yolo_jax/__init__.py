"""YOLO detectors trained with Keras's manners and JAX's speed."""

from yolo_jax.model import backend as K  # noqa: N812 - Keras's own name for it
from yolo_jax.model.graph import Input, Lambda
from yolo_jax.model.model import Model
from yolo_jax.model.sequence import Sequence

__all__ = ["Input", "K", "Lambda", "Model", "Sequence"]
