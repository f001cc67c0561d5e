"""Layers called through graphs, on random numbers."""

import numpy as np

from yolo_jax import layers as L  # noqa: N812 - as Keras's users write it
from yolo_jax.model.graph import Graph

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def call(layer, values, weights=None):
    """Calls through a graph, and checks the inferred shape against the array."""
    several = isinstance(values, list)
    inputs = [L.Input(v.shape[1:], dtype=v.dtype) for v in (values if several else [values])]
    out = layer(inputs if several else inputs[0])
    if weights is not None:
        layer.set_weights(weights)
    found = Graph(inputs, [out])(values if several else [values])[0]
    assert out.shape == (None, *found.shape[1:]) and out.dtype == found.dtype
    return np.asarray(found)
