"""All that training changes from step to step, as one pytree."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Int, UInt32

PyTree = Any
_NO_FAILURE = (-1, -1, 0)


class TrainState(NamedTuple):
    """What a step takes and returns.

    Attributes:
        step: updates tried so far.
        params: every parameter, frozen ones too.
        batch_stats: the moving statistics.
        opt_state: the optimizer's, over the trainable parameters alone.
        ema: moving average of `params`, or None.
        key: seed of everything random, as raw key data.
        failure: of updates that were refused for a value that is not finite, since the host last
            looked: (step, term) of the first, −1 while there is none, and their number. See
            `step.FAILURES`.
    """

    step: Int[Array, ""]
    params: PyTree
    batch_stats: PyTree
    opt_state: PyTree
    ema: PyTree
    key: UInt32[Array, "..."]
    failure: Int[Array, "3"]


def create_state(
    params: PyTree,
    batch_stats: PyTree,
    *,
    seed: int,
) -> TrainState:
    """Returns the state before the first step, without an optimizer yet."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        opt_state=(),
        ema=None,
        key=jax.random.key_data(jax.random.key(seed)),
        failure=jnp.asarray(_NO_FAILURE, jnp.int32),
    )


def without_failure(state: TrainState) -> TrainState:
    """Returns the state with no refused update on record, as a fit begins."""
    # Made of the old one, so that it lies where that did: elsewhere the step would compile anew.
    return state._replace(failure=0 * state.failure + np.asarray(_NO_FAILURE, np.int32))


def with_optimizer(
    state: TrainState,
    optimizer: optax.GradientTransformation,
    trainable: PyTree,
    *,
    ema: bool,
) -> TrainState:
    """Returns the state with fresh optimizer slots, and the EMA started where asked for.

    Args:
        state: its step, parameters and statistics are kept, and its EMA where there is one.
        optimizer: whose slots are made.
        trainable: pytree of bools like `state.params`.
        ema: keep a moving average of the parameters.
    """
    slots = optimizer.init(partition(state.params, trainable)[0])
    seen = {id(leaf) for leaf in jax.tree.leaves(state.params)}

    def unshared(slot: Array) -> Array:
        # Some optimizers keep the first weights, or one array twice; it can be donated once.
        if id(slot) in seen:
            return copied(slot)
        seen.add(id(slot))
        return slot

    slots = jax.tree.map(unshared, slots)
    average = None
    if ema:
        started = state.params if state.ema is None else state.ema
        average = copied(started)
    return state._replace(opt_state=slots, ema=average)


def copied(tree: PyTree) -> PyTree:
    """Returns copies, which share no buffer with the tree: the step donates what it is given.

    Put on the device anew: `jnp.copy` is a program to compile or load for every shape.
    """
    return jax.device_put(tree, may_alias=False)


def was_given_away(state: TrainState) -> bool:
    """Tells whether a step took the arrays and failed, so that there are no others."""
    arrays = jax.tree.leaves((state.params, state.batch_stats))
    # Of a trial they are NumPy's, on the host.
    return any(isinstance(array, jax.Array) and array.is_deleted() for array in arrays)


def partition(tree: PyTree, mask: PyTree) -> tuple[PyTree, PyTree]:
    """Splits a pytree in two of its structure: True's leaves and False's, None elsewhere."""
    chosen = jax.tree.map(lambda keep, leaf: leaf if keep else None, mask, tree)
    others = jax.tree.map(lambda keep, leaf: None if keep else leaf, mask, tree)
    return chosen, others


def combine(chosen: PyTree, others: PyTree) -> PyTree:
    """Undoes `partition`."""
    return jax.tree.map(
        lambda a, b: b if a is None else a, chosen, others, is_leaf=lambda leaf: leaf is None
    )
