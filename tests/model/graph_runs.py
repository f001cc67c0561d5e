"""Graphs run on arrays, and what their errors say."""

import jax.numpy as jnp
import numpy as np

from yolo_jax.model.graph import Graph


def run(inputs, output, *values):
    return Graph(inputs, [output])([jnp.asarray(value) for value in values])[0]


def notes(error):
    return str(error.value) + " ".join(getattr(error.value, "__notes__", []))


def masked_input():
    values = np.ones((2, 3, 4), np.float32)
    values[0, 2] = values[1, 0] = 0
    return values, [[True, True, False], [False, True, True]]
