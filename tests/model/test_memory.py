"""A model that nobody holds any more leaves the devices' memory."""

import gc
import weakref

import jax
import numpy as np
import optax
import pytest

from yolo_jax import Input, Model
from yolo_jax.layers import Dense


def train_one(devices: int) -> weakref.ref[Model]:
    image = Input((3,))
    model = Model(image, Dense(2)(Dense(4, activation="relu")(image)))
    model.compile(optax.adam(1e-3), "mse", devices=jax.local_devices()[:devices])
    x, y = np.ones((16, 3), np.float32), np.zeros((16, 2), np.float32)
    model.fit(x, y, batch_size=8, epochs=2, validation_data=(x, y), verbose=0)
    model.evaluate(x, y, verbose=0)
    model.predict(x)
    return weakref.ref(model)


@pytest.mark.parametrize("devices", [1, 8])
def test_a_trained_model_goes_when_nobody_holds_it(devices: int):
    model = train_one(devices)
    gc.collect()
    assert model() is None
