"""Weights and values are copied on their way in and out: no buffer is shared with the caller."""

import numpy as np
import pytest

from yolo_jax import Input, K, Model
from yolo_jax.layers import Dense


def aligned(shape, value):
    """An array that JAX could read in place on the CPU: it begins at a multiple of 64 bytes."""
    size = int(np.prod(shape)) * 4
    raw = np.zeros(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    array = raw[start : start + size].view(np.float32).reshape(shape)
    array[...] = value
    return array


def dense() -> tuple[Model, Dense]:
    layer = Dense(1)
    return Model(x := Input((64,)), layer(x)), layer


@pytest.mark.parametrize("whose", ["model", "layer"])
def test_set_weights_keeps_no_view_of_the_callers_arrays(whose: str):
    model, layer = dense()
    kernel, bias = aligned((64, 1), 1), aligned((1,), 2)
    (model if whose == "model" else layer).set_weights([kernel, bias])
    kernel[...], bias[...] = 7, 7
    np.testing.assert_array_equal(model.get_weights()[0], np.ones((64, 1)))
    np.testing.assert_array_equal(model.predict(np.ones((1, 64), np.float32)), [[66]])


def test_k_keeps_no_view_either():
    for make in (K.variable, K.constant):
        buffer = aligned((64,), 1)
        made = make(buffer)
        buffer[...] = 7
        np.testing.assert_array_equal(K.get_value(made), np.ones(64))
    variable, buffer = K.variable(np.zeros(64)), aligned((64,), 1)
    K.set_value(variable, buffer)
    buffer[...] = 7
    np.testing.assert_array_equal(K.get_value(variable), np.ones(64))


def test_what_is_read_is_a_writable_copy():
    model, layer = dense()
    before = model.get_weights()
    read = [
        *model.get_weights(),
        *layer.get_weights(),
        K.get_value(layer.kernel),
        K.eval(layer.kernel),
        *K.batch_get_value([layer.kernel]),
        K.function([model.input], [model.output])([np.ones((2, 64))])[0],
        K.function(model.input, model.output)([np.ones((2, 64))]),
    ]
    for array in read:
        array[...] = 5
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
