"""Layers under Keras's names: the public door."""

from typing import NoReturn

from yolo_jax.model import layers as _layers
from yolo_jax.model.graph import Input, Lambda, Layer, apply, set_random_seed
from yolo_jax.model.layers import *  # noqa: F403 - a door: everything that `__all__` names

__all__ = ["Input", "Lambda", "Layer", "apply", "set_random_seed"]
__all__ += _layers.__all__


def __getattr__(name: str) -> NoReturn:
    """Raises ImportError that says what there is in place of a layer that is Keras's alone."""
    if not name[:1].isupper():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Of an AttributeError `from yolo_jax.layers import …` would not show the message.
    raise ImportError(
        f"yolo_jax.layers has no {name}. There are {', '.join(sorted(_layers.__all__))}, and "
        f"Lambda. Any module of flax.nnx is a layer, too: layers.apply(module, x); one of your own "
        "subclasses layers.Layer"
    )
