"""YOLO detectors trained with Keras's manners and JAX's speed."""

from typing import NoReturn

from yolo_jax.model import backend as K  # noqa: N812 - Keras's own name for it
from yolo_jax.model.graph import Input, Lambda
from yolo_jax.model.model import Model
from yolo_jax.model.sequence import Sequence
from yolo_jax.use import load

__all__ = ["Input", "K", "Lambda", "Model", "Sequence", "load"]

# What scripts import from Keras beside these, and what to write here.
_ELSEWHERE = {
    "Sequential": (
        "write the chain as x = Input(shape); y = Dense(10)(x) …; Model(x, y), layer by layer"
    ),
    "load_model": (
        "build the model by its own code and call model.load_weights(path); a file that Keras's "
        "model.save wrote will do"
    ),
}


def __getattr__(name: str) -> NoReturn:
    """Raises ImportError that says what to write in place of a name that is Keras's alone."""
    if name in _ELSEWHERE:
        # Of an AttributeError `from yolo_jax import …` would not show the message.
        raise ImportError(f"yolo_jax has no {name}: {_ELSEWHERE[name]}. See docs/keras.md.")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
