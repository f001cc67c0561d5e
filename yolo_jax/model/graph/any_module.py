"""`apply`: any NNX module as a layer."""

import re
from typing import Any

from flax import nnx

from yolo_jax.model.graph.connect import connect
from yolo_jax.model.graph.layer import Layer

PyTree = Any


def apply(layer: nnx.Module, inputs: PyTree, *, name: str | None = None) -> PyTree:
    """Calls any NNX module on symbolic tensors.

    Args:
        layer: a module whose call takes the inputs (a list or dict where there are several). As
            `Layer.call`, it may name `mask`, `row_mask` and `row_keys`.
        inputs: symbolic tensors.
        name: of the layer in its model; None makes one of the class's name.

    Returns:
        Symbolic tensors in the structure that the module returns.

    Raises:
        ValueError: a `Layer`, which has a name already, is given another.
        TypeError: the inputs are not symbolic.
    """
    if isinstance(layer, Layer):
        if name not in (None, layer.name):
            raise ValueError(f"layer {layer.name!r} cannot be called {name!r}: name the layer")
        return layer(inputs)
    made_up = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(layer).__name__).lower()
    return connect(layer, inputs, name or made_up, named=name is not None)
