"""Stages of the body that are run twice: the same gradients with less memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from yolo_jax.core.precision import Precision
from yolo_jax.networks.bodies import Darknet53
from yolo_jax.networks.yolov3 import NETWORKS, create_network


def gradient(network: nnx.Module):
    """Returns the gradient of what a network makes of images, with its moving statistics."""
    network.train()
    graphdef, params, rest = nnx.split(network, nnx.Param, ...)

    def objective(params, rest, image):
        module = nnx.merge(graphdef, params, rest, copy=True)
        outputs = module(image, jnp.arange(len(image)) < 2)
        return sum(jnp.square(out).mean() for out in outputs), nnx.state(module, nnx.BatchStat)

    return jax.jit(jax.grad(objective, has_aux=True)), params, rest


def flat(tree) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def test_stages_that_run_twice_give_the_same(monkeypatch):
    monkeypatch.setattr(Darknet53, "stage_blocks", (1, 0, 0, 0, 0))
    image = jnp.asarray(np.random.default_rng(0).uniform(size=(3, 64, 64, 3)), jnp.float32)
    found = []
    for remat in (False, True):
        body = Darknet53(precision=Precision(), rngs=nnx.Rngs(0))
        body.remat = remat
        run, params, rest = gradient(body)
        found.append(run(params, rest, image))
    # Of the parameters and, apart, of the moving statistics.
    for expected, twice in zip(*found, strict=True):
        expected, twice = flat(expected), flat(twice)
        assert np.abs(expected).max() > 0
        assert np.linalg.norm(twice - expected) <= 1e-4 * np.linalg.norm(expected)


@pytest.mark.parametrize("remat", [False, True])
@pytest.mark.parametrize(("kind", "stages"), [("tiny", 7), ("yolov3", 5)])
def test_every_stage_is_run_twice(kind, stages, remat):
    """Memory is not asked for: XLA's CPU backend merges the second run with the first again."""
    network = nnx.eval_shape(lambda: NETWORKS[kind][0](1, rngs=nnx.Rngs(0)))
    network.body.remat = remat
    run, params, rest = gradient(network)
    image = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)
    traced = run.trace(params, rest, image).jaxpr
    again = [equation for equation in traced.eqns if "remat" in equation.primitive.name]
    assert len(again) == (stages if remat else 0)


def test_a_network_is_told_to():
    assert create_network("tiny", 1, remat=True).body.remat
    assert not Darknet53.remat
