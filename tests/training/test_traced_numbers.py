"""Numbers of an optimizer, and of a step, that are arguments of a program."""

from functools import partial
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from yolo_jax.training.optimizers import OptimizerKind, build_optimizer, learning_rate_schedule
from yolo_jax.training.parallel import Parallel
from yolo_jax.training.state import create_state, with_optimizer
from yolo_jax.training.step import Fed, Forwarded, train_step

RNG = np.random.default_rng(0)
SHAPES = {"kernel": (3, 3, 4, 8), "bias": (8,)}
PARAMS, GRADS = (
    {name: jnp.asarray(RNG.normal(size=shape), jnp.float32) for name, shape in SHAPES.items()}
    for _ in range(2)
)


@pytest.mark.parametrize("kind", ["constant", "cosine", "step"])
@pytest.mark.parametrize("warmup_steps", [0, 4])
def test_a_schedules_numbers_may_be_traced(kind, warmup_steps):
    numbers = {"peak": 0.3, "final_fraction": 0.05, "step_factor": 0.2}
    schedule = partial(learning_rate_schedule, kind, total_steps=20, warmup_steps=warmup_steps)
    steps = np.arange(25)

    def rates(numbers):
        return jax.vmap(schedule(**numbers))(steps)

    expected = jnp.stack([jnp.asarray(schedule(**numbers)(int(step))) for step in steps])
    np.testing.assert_allclose(jax.jit(rates)(numbers), expected, rtol=1e-6)
    if kind != "constant":
        assert expected[-1] < 0.1 * expected[5]


@pytest.mark.parametrize("kind", get_args(OptimizerKind))
def test_an_optimizers_numbers_may_be_traced(kind):
    numbers = {"rate": 0.1, "momentum": 0.8, "weight_decay": 0.01, "clip_norm": 0.5}

    def updates(numbers):
        rate = optax.constant_schedule(numbers["rate"])
        others = {name: number for name, number in numbers.items() if name != "rate"}
        optimizer = build_optimizer(kind, rate, **others)
        state, made = optimizer.init(params), []
        for step in range(3):
            grads = jax.tree.map(partial(jnp.roll, shift=step), first)
            update, state = optimizer.update(grads, state, params)
            made.append(update)
        return made

    # Muon's iterations let a rounding of float32 grow to 6e-6, were it the same formula or not.
    with jax.enable_x64(True):
        params, first = jax.tree.map(lambda a: a.astype(jnp.float64), (PARAMS, GRADS))
        found = jax.jit(updates)(numbers)
        expected = jax.jit(partial(updates, numbers))()
        apart = jax.tree.map(jnp.subtract, found, expected)
        assert optax.tree.norm(apart) <= 1e-12 * optax.tree.norm(expected)
        # Those that divide by the gradient's size do not mind how it is clipped.
        live = set(numbers) if kind in ("sgd", "lars") else set(numbers) - {"clip_norm"}
        for name in live:
            other = jax.jit(updates)(numbers | {name: numbers[name] * 0.7})
            moved = optax.tree.norm(jax.tree.map(jnp.subtract, other, expected))
            assert moved > 1e-3 * optax.tree.norm(expected), name


def test_a_steps_decay_of_the_average_may_be_traced():
    optimizer = optax.sgd(0.1)
    trainable = {"w": True}
    state = create_state({"w": jnp.arange(3.0)}, {}, seed=0)
    state = with_optimizer(state, optimizer, trainable, ema=True)
    fed = Fed(jnp.ones((4, 3)), jnp.ones(4), None, None)

    def forward(params, batch_stats, fed, keys, *, training, axis_name):
        loss = ((fed.x @ params["w"] - fed.y) ** 2).mean()
        return Forwarded(loss, jnp.asarray(4.0), batch_stats, {"loss": loss})

    def average(decay):
        step = partial(
            train_step, forward=forward, optimizer=optimizer, trainable=trainable,
            accumulate=1, parallel=Parallel.over(jax.devices()[:1]),
        )  # fmt: skip
        return step(state, {"loss": jnp.zeros(())}, fed, ema_decay=decay)[0].ema["w"]

    traced = jax.jit(average)
    for decay in (0.0, 0.9, 0.999):
        expected = jax.jit(partial(average, decay))()
        np.testing.assert_allclose(traced(decay), expected, rtol=1e-6, atol=1e-7)
    assert traced._cache_size() == 1
