"""The body of a training step: one function, whatever the devices and the strategy.

Under a mapped axis every device has its share of the batch's rows. Sums are added over the axis
before anything leaves the rows' part of the step, so all devices go on with the same values.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Key

from yolo_jax.training.parallel import Parallel
from yolo_jax.training.state import TrainState, combine, partition

PyTree = Any
# name → sums and counts, which add over rows; a mean is taken when somebody looks.
Sums = dict[str, PyTree]

# What `TrainState.failure` says had a value that is not finite.
FAILURES = ("loss", "gradient", "update", "moving statistics")


class Fed(NamedTuple):
    """A batch as the step takes it.

    Attributes:
        x: inputs of the model.
        y: targets, or None.
        weight: sample weights: None for ones, or a list of them by output.
        row_mask: False marks rows that only make the batch divide among the devices, or None.
    """

    x: PyTree
    y: PyTree
    weight: PyTree
    row_mask: Bool[Array, "b"] | np.ndarray | None


class Forwarded(NamedTuple):
    """What the model makes of this device's rows.

    Attributes:
        loss: this device's share of the batch's loss; the shares add up to it.
        rows: that are not padding.
        batch_stats: moving statistics after the rows.
        sums: what is logged, for these rows.
    """

    loss: Float[Array, ""]
    rows: Float[Array, ""]
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


def psum(tree: PyTree, axis_name: str | None) -> PyTree:
    """Adds over the mapped axis, where there is one."""
    return tree if axis_name is None else lax.psum(tree, axis_name)


def _mean_statistics(batch_stats: PyTree, count: Array, axis_name: str | None) -> PyTree:
    """Averages the devices' moving statistics, each by its number of rows."""
    if axis_name is None:
        return batch_stats
    # Divided behind the sum: XLA then adds all that a step adds up in one all-reduce.
    weighted = jax.tree.map(lambda stat: stat * count, batch_stats)
    weighted, total = lax.psum((weighted, count), axis_name)
    return jax.tree.map(lambda stat: stat / total, weighted)


def add_sums(total: Sums, new: Sums) -> Sums:
    """Adds sums and counts name by name."""
    return jax.tree.map(jnp.add, {name: total[name] for name in new}, new)


def row_count(fed: Fed) -> int:
    """Returns the rows of a batch, padding included."""
    return jax.tree.leaves(fed.x)[0].shape[0]


def train_step(
    state: TrainState,
    sums: Sums,
    fed: Fed,
    *,
    forward: Forward,
    optimizer: optax.GradientTransformationExtraArgs,
    trainable: PyTree,
    ema_decay: float | None,
    accumulate: int,
    parallel: Parallel,
    halted: Bool[Array, ""] | None = None,
) -> tuple[TrainState, Sums]:
    """Takes one step of gradient descent.

    An update that is not finite, or whose loss, gradient or moving statistics are not, is refused:
    parameters, statistics, slots and EMA stay, only the step number grows, and `state.failure`
    keeps the first such step and counts them.

    Args:
        state: where `parallel` places it.
        sums: the epoch's sums so far, replicated.
        fed: this device's rows, or under a mesh all.
        forward: the model.
        optimizer: over the trainable parameters.
        trainable: pytree of bools like `state.params`.
        ema_decay: of the average of parameters, or None.
        accumulate: parts of a device's rows whose gradients are taken one after the other, and
            added up; divides the rows.
        parallel: the devices.
        halted: leave the state as it is, whatever comes out.

    Returns:
        The new state, and the sums with this batch's.
    """
    chosen, frozen = partition(state.params, trainable)
    axes = parallel.sharded_axes(chosen), parallel.sharded_axes(frozen)
    axis_name = parallel.axis_name

    def of_rows(
        chosen: PyTree, frozen: PyTree, batch_stats: PyTree, key: Array, step: Array, fed: Fed
    ) -> tuple[PyTree, PyTree, Array, Sums]:
        keys = example_keys(key, step, row_count(fed), axis_name)
        others = parallel.gathered(frozen, axes[1])

        def objective(
            chosen: PyTree, batch_stats: PyTree, fed: Fed, keys: Array
        ) -> tuple[Array, Forwarded]:
            params = combine(parallel.gathered(chosen, axes[0]), others)
            out = forward(params, batch_stats, fed, keys, training=True, axis_name=axis_name)
            return out.loss, out

        gradient = partial(jax.grad(objective, has_aux=True), chosen)
        if accumulate == 1:
            grads, out = gradient(batch_stats, fed, keys)
        else:
            parts = jax.tree.map(
                lambda a: a.reshape(accumulate, len(a) // accumulate, *a.shape[1:]), (fed, keys)
            )
            grads, out = _gradient_of_parts(gradient, batch_stats, parts, axis_name)
        batch_stats = _mean_statistics(out.batch_stats, out.rows, axis_name)
        # Those of shards were added up when they were scattered.
        scattered, alike = partition(grads, jax.tree.map(lambda axis: axis >= 0, axes[0]))
        alike, loss, sums = psum((alike, out.loss, out.sums), axis_name)
        return combine(scattered, alike), batch_stats, loss, sums

    spread = parallel.spread(of_rows, (*axes, -1, -1, -1), (axes[0], -1, -1, -1))
    grads, batch_stats, loss, new_sums = spread(
        chosen, frozen, state.batch_stats, state.key, state.step, fed
    )
    # The loss is for transformations that look at it, such as optax's `reduce_on_plateau`.
    with jax.named_scope("optimizer"):
        updates, opt_state = optimizer.update(grads, state.opt_state, chosen, value=loss)
        params = combine(optax.apply_updates(chosen, updates), frozen)
    ema = state.ema
    if ema_decay is not None:
        ema = jax.tree.map(lambda old, new: ema_decay * old + (1 - ema_decay) * new, ema, params)
    updated = state._replace(params=params, batch_stats=batch_stats, opt_state=opt_state, ema=ema)
    new_state = _refuse_unless_finite(state, updated, loss, grads, updates, halted)
    return parallel.kept_in_place(new_state), add_sums(sums, new_sums)


def in_turn(body: Callable[[TrainState, Sums, Fed], tuple[TrainState, Sums]]) -> Callable:
    """Returns a step for several batches, stacked `[k, …]`, of which it takes `count` one by one.

    The count is no part of the program: a shorter call needs no other one, and a step's numbers
    are the same in whatever call it falls.
    """

    def steps(state: TrainState, sums: Sums, count: Array, batches: Fed) -> tuple[TrainState, Sums]:
        def step(index: Array, carry: tuple[TrainState, Sums]) -> tuple[TrainState, Sums]:
            return body(*carry, jax.tree.map(lambda a: a[index], batches))

        return lax.fori_loop(0, count, step, (state, sums))

    return steps


def _gradient_of_parts(
    gradient: Callable[[PyTree, Fed, Array], tuple[PyTree, Forwarded]],
    batch_stats: PyTree,
    parts: tuple[Fed, Key[Array, "k b"]],
    axis_name: str | None,
) -> tuple[PyTree, Forwarded]:
    """Returns the gradient of all rows from those of its parts, with the memory of one.

    Each part's loss is a mean over its rows on all devices, so it counts by their number.

    Args:
        gradient: takes statistics, rows and keys; returns the gradient of the parameters.
        batch_stats: that the first part starts with; each hands them on to the next.
        parts: rows and keys, their leaves `[parts, rows of one, …]`.
        axis_name: the mapped axis.
    """
    one = jax.tree.map(lambda a: a[0], parts)
    shapes = jax.eval_shape(gradient, batch_stats, *one)
    nothing, out = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def add(carry: tuple, part: tuple[Fed, Array]) -> tuple[tuple, None]:
        total, grads, out = carry
        new_grads, new = gradient(out.batch_stats, *part)
        rows = psum(new.rows, axis_name)
        # Means of the rows so far, and of one more part; a part may be padding alone.
        share = rows / jnp.maximum(total + rows, 1)

        def mean(old: Array, new: Array) -> Array:
            return (old + share * (new - old)).astype(old.dtype)

        added = Forwarded(
            mean(out.loss, new.loss),
            out.rows + new.rows,
            new.batch_stats,
            add_sums(out.sums, new.sums),
        )
        return (total + rows, jax.tree.map(mean, grads, new_grads), added), None

    start = (jnp.zeros(()), nothing, out._replace(batch_stats=batch_stats))
    (_, grads, out), _ = lax.scan(add, start, parts)
    return grads, out


def _refuse_unless_finite(
    old: TrainState,
    new: TrainState,
    loss: Float[Array, ""],
    grads: PyTree,
    updates: PyTree,
    halted: Bool[Array, ""] | None,
) -> TrainState:
    """Returns the new state, or the old one where a number is not finite; a step on.

    Args:
        old: before the step.
        new: after it.
        loss: looked at, as the two that follow; `FAILURES` names them in this order.
        grads: of the trainable parameters.
        updates: that the optimizer makes of them.
        halted: the old one in any case, and no step on.
    """
    # Both in one pass over memory, in which XLA makes the updates anew rather than write them out.
    squares = jax.tree.map(lambda grad, update: (grad**2 + update**2).sum(), grads, updates)
    # A variance may overflow though all that it normalises is 0 then, and so are the gradients.
    moving = [leaf.ravel() for leaf in jax.tree.leaves(new.batch_stats)]
    # Joined: a mere sum would be taken anew in each `where`, and XLA compile four times as long.
    numbers = jnp.concatenate([jnp.stack([loss, optax.tree.sum(squares)]), *moving])
    finite = jnp.isfinite(numbers).all()
    ok, taken, refused = finite, 1, ~finite
    if halted is not None:
        # By a choice that is made anyway: a branch around the step took three quarters of it more.
        ok, taken, refused = ok & ~halted, jnp.where(halted, 0, 1), refused & ~halted
    kept = jax.tree.map(lambda new, old: jnp.where(ok, new, old), new, old)

    def blame() -> Array:
        norms = [loss, optax.tree.norm(grads), optax.tree.norm(updates), jnp.asarray(jnp.nan)]
        return jnp.argmin(jnp.isfinite(jnp.stack(norms)))

    # Which it was asks for another pass, that only a refused update takes.
    term = lax.cond(refused, lambda: blame().astype(jnp.int32), lambda: jnp.zeros((), jnp.int32))
    first = jnp.where(old.failure[0] < 0, jnp.stack([old.step, term]), old.failure[:2])
    failure = jnp.concatenate([first, old.failure[2:] + 1]).astype(jnp.int32)
    failure = jnp.where(refused, failure, old.failure)
    return kept._replace(step=old.step + taken, failure=failure)


def evaluate_step(
    state: TrainState, sums: Sums, fed: Fed, *, forward: Forward, parallel: Parallel
) -> Sums:
    """Adds a batch's losses and metrics to the sums, by the EMA's weights where there are any."""
    params = state.params if state.ema is None else state.ema
    axes, axis_name = parallel.sharded_axes(params), parallel.axis_name

    def of_rows(params: PyTree, batch_stats: PyTree, fed: Fed) -> Sums:
        whole = parallel.gathered(params, axes)
        out = forward(whole, batch_stats, fed, None, training=False, axis_name=axis_name)
        return psum(out.sums, axis_name)

    return add_sums(sums, parallel.spread(of_rows, (axes, -1), -1)(params, state.batch_stats, fed))


def predict_step(
    state: TrainState,
    x: PyTree,
    *,
    predict: Callable[[PyTree, PyTree, PyTree], PyTree],
) -> PyTree:
    """Returns the model's outputs, by the EMA's weights where there are any."""
    params = state.params if state.ema is None else state.ema
    return predict(params, state.batch_stats, x)
