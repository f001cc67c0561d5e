"""A small MLP over arrays in memory by three loops: ours, Keras's on JAX, and one by hand.

Each runs in its own environment, which has but its own library: hence the imports by side.
"""

import argparse
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from experiments.benchmarks.sides.serving import serve

ROWS, BATCH, WIDTHS = 20_000, 32, (32, 64, 10)
EPOCHS = 5  # of a turn


def make_data() -> tuple[np.ndarray, np.ndarray]:
    """Returns x [rows, 32] and class ids [rows]."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(ROWS, WIDTHS[0])).astype(np.float32)
    return x, generator.integers(0, WIDTHS[-1], ROWS).astype(np.int32)


def ours() -> Callable[[], object]:
    """Returns a turn of our `fit`."""
    from yolo_jax import Input, Model
    from yolo_jax.layers import Dense

    rows = Input((WIDTHS[0],))
    model = Model(
        rows, Dense(WIDTHS[2], activation="softmax")(Dense(WIDTHS[1], activation="relu")(rows))
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    x, y = make_data()
    return lambda: model.fit(x, y, batch_size=BATCH, verbose=0, epochs=EPOCHS)


def keras() -> Callable[[], object]:
    """Returns a turn of Keras's `fit`."""
    os.environ["KERAS_BACKEND"] = "jax"
    import keras as k

    layers = [
        k.layers.Dense(WIDTHS[1], activation="relu"),
        k.layers.Dense(WIDTHS[2], activation="softmax"),
    ]
    model = k.Sequential([k.Input((WIDTHS[0],)), *layers])
    model.compile("sgd", "sparse_categorical_crossentropy")
    x, y = make_data()
    return lambda: model.fit(x, y, batch_size=BATCH, verbose=0, epochs=EPOCHS)  # pyright: ignore[reportArgumentType]


def by_hand() -> Callable[[], object]:
    """Returns a turn of the shortest loop that one would write: a jit step over the batches."""
    import jax
    import jax.numpy as jnp

    generator = np.random.default_rng(0)
    params: Any = [
        (jnp.asarray(generator.normal(size=pair) * 0.1, jnp.float32), jnp.zeros(pair[1]))
        for pair in zip(WIDTHS[:-1], WIDTHS[1:], strict=True)
    ]

    def loss(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        (w0, b0), (w1, b1) = params
        logits = jax.nn.relu(x @ w0 + b0) @ w1 + b1
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1).mean()

    def step(params: Any, total: jax.Array, x: jax.Array, y: jax.Array) -> tuple[Any, jax.Array]:
        value, grads = jax.value_and_grad(loss)(params, x, y)
        return jax.tree.map(lambda p, g: p - 0.01 * g, params, grads), total + value

    run = jax.jit(step, donate_argnums=(0, 1))
    x, y = make_data()

    def epochs() -> float:
        nonlocal params
        last = 0.0
        for _ in range(EPOCHS):
            order, total = generator.permutation(ROWS), jnp.zeros(())
            for first in range(0, ROWS, BATCH):
                rows = order[first : first + BATCH]
                params, total = run(params, total, x[rows], y[rows])
            last = float(total)
        return last

    return epochs


def main() -> None:
    """Serves one side's turns."""
    sides = {
        "ours": ours,
        "keras": keras,
        "by_hand": by_hand,
    }
    parser = argparse.ArgumentParser()
    parser.add_argument("side", choices=list(sides))
    serve(sides[parser.parse_args().side]())


if __name__ == "__main__":
    main()
