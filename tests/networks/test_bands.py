import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from yolo_jax.core.precision import Precision
from yolo_jax.networks.bands import fills_lanes
from yolo_jax.networks.bodies import Darknet53


class ThinBody(Darknet53):
    stage_blocks = (1, 0, 0, 0, 0)


@pytest.mark.parametrize(("masked", "remat"), [(False, False), (True, False), (True, True)])
def test_halves_change_nothing(masked, remat):
    # Of seed 0 a value lies so near the leaky ReLU's kink that rounding moves it across.
    rng = np.random.default_rng(1)
    image = jnp.asarray(rng.random((16, 64, 32, 3)), jnp.float32)
    assert fills_lanes(len(image))
    row_mask = jnp.arange(16) < 13 if masked else None
    body = ThinBody(precision=Precision(), rngs=nnx.Rngs(0))
    for block in (body.stem, *body.downsamples):
        block.norm.bias[...] = jnp.asarray(rng.normal(size=block.norm.bias.shape), jnp.float32)
    graphdef, params, stats = nnx.split(body, nnx.Param, nnx.BatchStat)
    weights = jnp.asarray(rng.normal(size=(13, 8, 4, 256)), jnp.float32)

    def objective(params, halves):
        module = nnx.merge(graphdef, params, stats, copy=True)
        module.halves, module.remat = halves, remat and halves
        finest, *others = (features[:13] for features in module(image, row_mask))
        loss = jnp.square(finest * weights).mean() + sum(jnp.square(o).mean() for o in others)
        return loss, ([finest, *others], nnx.state(module, nnx.BatchStat))

    take = jax.jit(jax.value_and_grad(objective, has_aux=True), static_argnums=1)
    whole, halves = (jax.tree.leaves(take(params, in_halves)) for in_halves in (False, True))
    for one, other in zip(whole, halves, strict=True):
        assert np.linalg.norm(other - one) <= 1e-5 * np.linalg.norm(one)


@pytest.mark.parametrize(
    ("batch", "fills"), [(1, False), (16, True), (64, True), (65, False), (128, False)]
)
def test_halves_fill_lanes_that_are_empty(batch, fills):
    assert fills_lanes(batch) == fills
