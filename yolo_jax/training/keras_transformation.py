"""What Keras's optimizers have in common: learning rate, its decay, clipping, and slots.

The learning rate lies in `opt_state.hyperparams["learning_rate"]`, where it can be read and set
between steps without compiling anew (`optax.inject_hyperparams`).
"""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, NamedTuple, NoReturn, ParamSpec, TypedDict

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from yolo_jax.core.numbers import finite_number

PyTree = Any
P = ParamSpec("P")
Slots = dict[str, Array]
# (gradient, slots, learning rate, number of this update from 1) → (what is added, new slots)
Rule = Callable[[Array, Slots, Array, Array], tuple[Array, Slots]]


class KerasState(NamedTuple):
    """What an optimizer keeps beside its learning rate.

    Attributes:
        iterations: updates done.
        slots: by slot name a pytree like the parameters.
    """

    iterations: Int[Array, ""]
    slots: dict[str, PyTree]


class KerasOptimizer(optax.GradientTransformationExtraArgs):
    """A transformation that says where the numbers are which Keras's optimizers have themselves."""

    def __getattr__(self, name: str) -> NoReturn:
        """Raises AttributeError: it is a pair of functions, and a model's state has the numbers."""
        raise AttributeError(
            f"an optimizer has no {name!r} of its own: it is an optax transformation, two "
            "functions. The model that is compiled with it has the rate, model.optimizer.lr, and "
            "model.optimizer.iterations; the other numbers stay as they were given"
        )


class Options(TypedDict, total=False):
    """What every maker takes beside its own arguments.

    Attributes:
        lr: the learning rate under its old name, in place of `learning_rate`.
        decay: the rate of update t, from 0, is divided by 1 + decay·t.
        clipnorm: largest norm of all gradients together, as in Keras 2.3 (of each variable's by
            itself from tf.keras on).
        clipvalue: largest absolute value of a gradient's elements, after the norm.
    """

    lr: float | optax.Schedule | None
    decay: float
    clipnorm: float | None
    clipvalue: float | None


def one_learning_rate(
    maker: Callable[P, optax.GradientTransformationExtraArgs],
) -> Callable[P, optax.GradientTransformationExtraArgs]:
    """Lets a maker refuse a learning rate under both of its names, with a TypeError."""

    @wraps(maker)
    def make(*arguments: P.args, **named: P.kwargs) -> optax.GradientTransformationExtraArgs:
        if named.get("lr") is not None and (arguments or "learning_rate" in named):
            raise TypeError(
                f"{maker.__name__}: lr is the old name of learning_rate; found both, "
                f"lr={named['lr']!r}"
            )
        return maker(*arguments, **named)

    return make


def transformation(
    rule: Rule,
    slots: Mapping[str, Callable[[Array], Array]],
    learning_rate: float | optax.Schedule,
    *,
    lr: float | optax.Schedule | None = None,
    decay: float = 0.0,
    clipnorm: float | None = None,
    clipvalue: float | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Makes the transformation of a rule for single arrays.

    Args:
        rule: what an update adds to an array, and its new slots.
        slots: make the first value of each slot of an array.
        learning_rate: or an optax schedule by step.
        lr: see `Options`, as those below.
        decay: the same.
        clipnorm: the same.
        clipvalue: the same.

    Raises:
        ValueError: a number is none, negative, or not finite.
    """
    chosen = learning_rate if lr is None else lr
    if not callable(chosen):
        # a float, since inject_hyperparams takes numpy's scalars for constants
        chosen = finite_number("learning_rate", chosen, 0)
    finite_number("decay", decay, 0)
    limits = {"clipnorm": clipnorm, "clipvalue": clipvalue}
    for name, limit in limits.items():
        if limit is not None:
            finite_number(name, limit, 0)

    def build(learning_rate: Float[Array, ""]) -> optax.GradientTransformation:
        def init(params: PyTree) -> KerasState:
            made = {
                name: jax.tree.map(lambda p, make=make: make(p.astype(jnp.float32)), params)
                for name, make in slots.items()
            }
            return KerasState(jnp.zeros((), jnp.int32), made)

        def update(updates: PyTree, state: Any, params: PyTree = None) -> tuple[PyTree, KerasState]:
            leaves, structure = jax.tree.flatten(updates)
            leaves = _clip([leaf.astype(jnp.float32) for leaf in leaves], **limits)
            done = state.iterations.astype(jnp.float32)
            rate = learning_rate / (1 + decay * done)
            old = {name: structure.flatten_up_to(tree) for name, tree in state.slots.items()}
            results = [
                rule(leaf, {name: old[name][index] for name in old}, rate, done + 1)
                for index, leaf in enumerate(leaves)
            ]
            new = {name: structure.unflatten([kept[name] for _, kept in results]) for name in old}
            added = structure.unflatten([change for change, _ in results])
            return added, KerasState(state.iterations + 1, new)

        return optax.GradientTransformation(init, update)

    made = optax.inject_hyperparams(build, hyperparam_dtype=jnp.float32)(learning_rate=chosen)
    return KerasOptimizer(*made)


def _clip(grads: list[Array], *, clipnorm: float | None, clipvalue: float | None) -> list[Array]:
    if clipnorm:
        # jnp.maximum, not division by the norm: that may be 0.
        factor = clipnorm / jnp.maximum(optax.tree.norm(grads), clipnorm)
        grads = [grad * factor for grad in grads]
    if clipvalue:
        grads = [jnp.clip(grad, -clipvalue, clipvalue) for grad in grads]
    return grads
