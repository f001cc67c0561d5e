"""The body of a training step: one function, whatever the devices and the strategy.

Under a mapped axis every device has its share of the batch's rows. Sums are added over the axis
before anything leaves the step, so all devices return the same values.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Key, Num

from yolo_jax.training.state import TrainState, combine, partition

PyTree = Any
# name → (sum, count); a mean is taken when somebody looks.
Sums = dict[str, tuple[Float[Array, ""], Float[Array, ""]]]

# What `TrainState.failure` says had a value that is not finite.
FAILURES = ("loss", "gradient")


class Fed(NamedTuple):
    """A batch as the step takes it.

    Attributes:
        x: inputs of the model.
        y: targets, or None.
        weight: of each row in the loss, or None for ones.
        row_mask: False marks rows that only make the batch divide among the devices, or None.
    """

    x: PyTree
    y: PyTree
    weight: Num[Array, "b"] | None
    row_mask: Bool[Array, "b"] | np.ndarray | None


class Forwarded(NamedTuple):
    """What the model makes of this device's rows.

    Attributes:
        loss: sum over the rows of the weighted loss.
        count: rows that the sum is of.
        batch_stats: moving statistics after the rows.
        sums: what else is logged.
    """

    loss: Float[Array, ""]
    count: Float[Array, ""]
    batch_stats: PyTree
    sums: Sums


class Forward(Protocol):
    """Runs the model and its losses on this device's rows."""

    def __call__(
        self,
        params: PyTree,
        batch_stats: PyTree,
        fed: Fed,
        keys: Key[Array, "b"] | None,
        *,
        training: bool,
        axis_name: str | None,
    ) -> Forwarded:
        """Returns sums over the rows; `keys` has one key a row in training, None elsewhere."""
        ...


def example_keys(key_data: Array, step: Array, rows: int, axis_name: str | None) -> Key[Array, "b"]:
    """Returns a key for each row: a function of the seed, the step and the row in the whole batch.

    So the same on 1, 2 or 256 devices.
    """
    key = jax.random.fold_in(jax.random.wrap_key_data(key_data), step)
    first = 0 if axis_name is None else lax.axis_index(axis_name) * rows
    return jax.vmap(partial(jax.random.fold_in, key))(first + jnp.arange(rows))


def _psum(tree: PyTree, axis_name: str | None) -> PyTree:
    return tree if axis_name is None else lax.psum(tree, axis_name)


def _mean_statistics(batch_stats: PyTree, count: Array, axis_name: str | None) -> PyTree:
    """Averages the devices' moving statistics, each by its number of rows."""
    if axis_name is None:
        return batch_stats
    total = lax.psum(count, axis_name)
    return jax.tree.map(lambda stat: lax.psum(stat * (count / total), axis_name), batch_stats)


def add_sums(total: Sums, new: Sums) -> Sums:
    """Adds sums and counts name by name."""
    return {name: (total[name][0] + new[name][0], total[name][1] + new[name][1]) for name in new}


def _rows(fed: Fed) -> int:
    return jax.tree.leaves(fed.x)[0].shape[0]


def train_step(
    state: TrainState,
    sums: Sums,
    fed: Fed,
    *,
    forward: Forward,
    optimizer: optax.GradientTransformation,
    trainable: PyTree,
    ema_decay: float | None,
    axis_name: str | None,
) -> tuple[TrainState, Sums]:
    """Takes one step of gradient descent.

    An update whose loss or gradient is not finite is refused: parameters, statistics, slots and
    EMA stay, only the step number grows, and `state.failure` keeps the first such step.

    Args:
        state: replicated.
        sums: the epoch's sums so far, replicated.
        fed: this device's rows.
        forward: the model.
        optimizer: over the trainable parameters.
        trainable: pytree of bools like `state.params`.
        ema_decay: of the average of parameters, or None.
        axis_name: the mapped axis, or None on one device.

    Returns:
        The new state, and the sums with this batch's.
    """
    keys = example_keys(state.key, state.step, _rows(fed), axis_name)
    chosen, frozen = partition(state.params, trainable)

    def objective(chosen: PyTree) -> tuple[Array, Forwarded]:
        out = forward(
            combine(chosen, frozen),
            state.batch_stats,
            fed,
            keys,
            training=True,
            axis_name=axis_name,
        )
        return out.loss, out

    grads, out = jax.grad(objective, has_aux=True)(chosen)
    batch_stats = _mean_statistics(out.batch_stats, out.count, axis_name)
    grads, loss, count, new_sums = _psum((grads, out.loss, out.count, out.sums), axis_name)
    grads = jax.tree.map(lambda grad: grad / count, grads)
    updates, opt_state = optimizer.update(grads, state.opt_state, chosen)
    params = combine(optax.apply_updates(chosen, updates), frozen)
    ema = state.ema
    if ema_decay is not None:
        ema = jax.tree.map(lambda old, new: ema_decay * old + (1 - ema_decay) * new, ema, params)

    loss_ok, grads_ok = jnp.isfinite(loss), jnp.isfinite(optax.tree.norm(grads))
    ok = loss_ok & grads_ok
    kept = (state.params, state.batch_stats, state.opt_state, state.ema)
    params, batch_stats, opt_state, ema = jax.tree.map(
        lambda new, old: jnp.where(ok, new, old), (params, batch_stats, opt_state, ema), kept
    )
    failed = jnp.stack([state.step, jnp.where(loss_ok, 1, 0)]).astype(jnp.int32)
    failure = jnp.where(ok | (state.failure[0] >= 0), state.failure, failed)
    new_state = TrainState(state.step + 1, params, batch_stats, opt_state, ema, state.key, failure)
    return new_state, add_sums(sums, new_sums | {"loss": (loss, count)})


def evaluate_step(
    state: TrainState, sums: Sums, fed: Fed, *, forward: Forward, axis_name: str | None
) -> Sums:
    """Adds a batch's losses and metrics to the sums, by the EMA's weights where there are any."""
    params = state.params if state.ema is None else state.ema
    out = forward(params, state.batch_stats, fed, None, training=False, axis_name=axis_name)
    new = _psum(out.sums | {"loss": (out.loss, out.count)}, axis_name)
    return add_sums(sums, new)


def zero_sums(names: tuple[str, ...]) -> Sums:
    """Returns sums of nothing."""
    return {name: (jnp.zeros(()), jnp.zeros(())) for name in names}


def predict_step(
    state: TrainState,
    x: PyTree,
    *,
    predict: Callable[[PyTree, PyTree, PyTree], PyTree],
) -> PyTree:
    """Returns the model's outputs, by the EMA's weights where there are any."""
    params = state.params if state.ema is None else state.ema
    return predict(params, state.batch_stats, x)
