"""How a step's body is compiled, and what passes between devices."""

import jax
import jax.numpy as jnp
import numpy as np

from yolo_jax.training import compiled_step
from yolo_jax.training.parallel import Parallel


def test_gradients_of_shards_are_not_reduce_scattered_on_cpu():
    # JAX's issue 40830: across processes, the last of the first shard is wrong now and then.
    parallel = Parallel.over(strategy="fsdp")
    weights = np.random.default_rng(0).normal(size=(3, 8, 2**10)).astype(np.float32)
    rows = np.random.default_rng(1).normal(size=(8, *weights.shape)).astype(np.float32)
    axes = parallel.sharded_axes(weights)

    def of_rows(shard: jax.Array, rows: jax.Array) -> jax.Array:
        return jax.grad(lambda own: jnp.sum(parallel.gathered(own, axes) ** 2 * rows[0]))(shard)

    gradient = jax.jit(parallel.spread(of_rows, (axes,), axes))
    assert axes == 2
    np.testing.assert_allclose(
        gradient(parallel.place(weights), rows), 2 * weights * rows.sum(0), rtol=1e-4, atol=1e-5
    )
    program = gradient.lower(parallel.place(weights), rows).compile().as_text()
    assert "all-gather" in program and "all-reduce" in program
    assert "reduce-scatter" not in program


def test_a_step_on_cpu_is_ordered_for_the_least_memory(monkeypatch):
    options = compiled_step.compiler_options.__wrapped__
    assert options("cpu") == {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}
    assert options("tpu") is None
    # XLA's options come and go; a step does without.
    monkeypatch.setattr(compiled_step, "_LEAST_MEMORY", {"xla_cpu_no_such_option": "1"})
    assert options("cpu") is None


def test_jaxs_default_device_is_taken_where_none_are_given():
    one = jax.devices()[3]
    with jax.default_device(one):
        assert Parallel.over().devices == (one,)
        assert Parallel.over(jax.devices()[:2]).devices == tuple(jax.devices()[:2])
    with jax.default_device("cpu"):
        assert Parallel.over().devices == tuple(jax.devices())
