"""A model of one weight and bias, its data, and a callback that looks at it."""

import jax
import numpy as np

from yolo_jax import Input, Model
from yolo_jax.layers import Dense
from yolo_jax.model.callbacks import Callback


def make_line(**given):
    """A model of one weight and bias that the loss moves a little at every step."""
    x = Input((2,), name="x")
    model = Model(x, Dense(1, name="line")(x))
    model.compile("sgd", "mse", devices=jax.devices()[:1], **given)
    return model


def alike(*models):
    """Gives models the weights of the first."""
    for model in models[1:]:
        model.set_weights(models[0].get_weights())
    return models


LINE_X = np.random.default_rng(0).normal(size=(12, 2)).astype(np.float32)
LINE_Y = LINE_X[:, :1] * 2 + 1


class Watch(Callback):
    """Calls a function of the model after every batch and keeps what it returns."""

    def __init__(self, look):
        self.look, self.seen = look, []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(self.look(self.model))
