"""Keras's optimizers as optax transformations, by Keras 2.3's formulas, names and defaults.

They are not optax's: Keras's Adam adds epsilon to the root before the bias is corrected, and its
SGD keeps a velocity that holds the learning rates of the steps that made it.

The learning rate lies in `opt_state.hyperparams["learning_rate"]`, where it can be read and set
between steps without compiling anew (`optax.inject_hyperparams`).
"""

from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, NamedTuple, TypedDict, Unpack

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

PyTree = Any
Slots = dict[str, Array]
# (gradient, slots, learning rate, number of this update from 1) → (what is added, new slots)
Rule = Callable[[Array, Slots, Array, Array], tuple[Array, Slots]]

EPSILON = 1e-7


class KerasState(NamedTuple):
    """What an optimizer keeps beside its learning rate.

    Attributes:
        iterations: updates done.
        slots: by slot name a pytree like the parameters.
    """

    iterations: Int[Array, ""]
    slots: dict[str, PyTree]


class Options(TypedDict, total=False):
    """What every maker takes beside its own arguments.

    Attributes:
        lr: the learning rate under its old name; stands over `learning_rate`.
        decay: the rate of update t, from 0, is divided by 1 + decay·t.
        clipnorm: largest norm of each variable's gradient.
        global_clipnorm: largest norm of all gradients together.
        clipvalue: largest absolute value of a gradient's elements, after the norms.
    """

    lr: float | optax.Schedule | None
    decay: float
    clipnorm: float | None
    global_clipnorm: float | None
    clipvalue: float | None


def SGD(
    learning_rate: float | optax.Schedule = 0.01,
    momentum: float = 0.0,
    nesterov: bool = False,
    **options: Unpack[Options],
) -> optax.GradientTransformationExtraArgs:
    """Makes gradient descent: v ← momentum·v − lr·g; w ← w + v (Nesterov: w + momentum·v − lr·g).

    Args:
        learning_rate: or an optax schedule by step.
        momentum: 0 to 1.
        nesterov: look one step ahead.
        **options: see `Options`.

    Raises:
        TypeError: an unknown argument, or a learning rate that is no number.
        ValueError: an argument outside its range. Both so for every maker here.
    """
    _check_fraction("momentum", momentum)

    def rule(grad: Array, slots: Slots, rate: Array, t: Array) -> tuple[Array, Slots]:
        if not momentum:
            return -rate * grad, {}
        velocity = momentum * slots["velocity"] - rate * grad
        ahead = momentum * velocity - rate * grad if nesterov else velocity
        return ahead, {"velocity": velocity}

    slots = {"velocity": jnp.zeros_like} if momentum else {}
    return _optimizer(rule, slots, learning_rate, **options)


def Adam(
    learning_rate: float | optax.Schedule = 0.001,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float | None = EPSILON,
    amsgrad: bool = False,
    **options: Unpack[Options],
) -> optax.GradientTransformationExtraArgs:
    """Makes Adam: w ← w − lr·√(1 − β₂ᵗ)/(1 − β₁ᵗ) · m/(√v + ε).

    Args:
        learning_rate: or an optax schedule by step.
        beta_1: decay of the mean of gradients m.
        beta_2: decay of the mean of squares v.
        epsilon: None for 1e-7.
        amsgrad: divide by the root of the largest v so far.
        **options: see `Options`.
    """
    _check_fraction("beta_1", beta_1)
    _check_fraction("beta_2", beta_2)
    epsilon = EPSILON if epsilon is None else epsilon

    def rule(grad: Array, slots: Slots, rate: Array, t: Array) -> tuple[Array, Slots]:
        rate = rate * jnp.sqrt(1 - beta_2**t) / (1 - beta_1**t)
        new = _moments(grad, slots, beta_1, beta_2)
        v = new["v"]
        if amsgrad:
            v = new["v_max"] = jnp.maximum(slots["v_max"], v)
        return -rate * new["m"] / (jnp.sqrt(v) + epsilon), new

    names = ("m", "v", "v_max") if amsgrad else ("m", "v")
    return _optimizer(rule, dict.fromkeys(names, jnp.zeros_like), learning_rate, **options)


def RMSprop(
    learning_rate: float | optax.Schedule = 0.001,
    rho: float = 0.9,
    epsilon: float | None = EPSILON,
    **options: Unpack[Options],
) -> optax.GradientTransformationExtraArgs:
    """Makes RMSprop: a ← ρ·a + (1 − ρ)·g²; w ← w − lr·g/(√a + ε)."""
    _check_fraction("rho", rho)
    epsilon = EPSILON if epsilon is None else epsilon

    def rule(grad: Array, slots: Slots, rate: Array, t: Array) -> tuple[Array, Slots]:
        square = rho * slots["square"] + (1 - rho) * jnp.square(grad)
        return -rate * grad / (jnp.sqrt(square) + epsilon), {"square": square}

    return _optimizer(rule, {"square": jnp.zeros_like}, learning_rate, **options)


def Adagrad(
    learning_rate: float | optax.Schedule = 0.01,
    epsilon: float | None = EPSILON,
    **options: Unpack[Options],
) -> optax.GradientTransformationExtraArgs:
    """Makes Adagrad: a ← a + g²; w ← w − lr·g/(√a + ε)."""
    epsilon = EPSILON if epsilon is None else epsilon

    def rule(grad: Array, slots: Slots, rate: Array, t: Array) -> tuple[Array, Slots]:
        square = slots["square"] + jnp.square(grad)
        return -rate * grad / (jnp.sqrt(square) + epsilon), {"square": square}

    return _optimizer(rule, {"square": jnp.zeros_like}, learning_rate, **options)


def Adadelta(
    learning_rate: float | optax.Schedule = 1.0,
    rho: float = 0.95,
    epsilon: float | None = EPSILON,
    **options: Unpack[Options],
) -> optax.GradientTransformationExtraArgs:
    """Makes Adadelta: w ← w − lr·d, d = g·√(D + ε)/√(a + ε), a and D the means of g² and d²."""
    _check_fraction("rho", rho)
    epsilon = EPSILON if epsilon is None else epsilon

    def rule(grad: Array, slots: Slots, rate: Array, t: Array) -> tuple[Array, Slots]:
        square = rho * slots["square"] + (1 - rho) * jnp.square(grad)
        step = grad * jnp.sqrt(slots["step"] + epsilon) / jnp.sqrt(square + epsilon)
        steps = rho * slots["step"] + (1 - rho) * jnp.square(step)
        return -rate * step, {"square": square, "step": steps}

    slots = {"square": jnp.zeros_like, "step": jnp.zeros_like}
    return _optimizer(rule, slots, learning_rate, **options)


def Adamax(
    learning_rate: float | optax.Schedule = 0.002,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float | None = EPSILON,
    **options: Unpack[Options],
) -> optax.GradientTransformationExtraArgs:
    """Makes Adamax: u ← max(β₂·u, |g|); w ← w − lr/(1 − β₁ᵗ) · m/(u + ε)."""
    _check_fraction("beta_1", beta_1)
    _check_fraction("beta_2", beta_2)
    epsilon = EPSILON if epsilon is None else epsilon

    def rule(grad: Array, slots: Slots, rate: Array, t: Array) -> tuple[Array, Slots]:
        m = beta_1 * slots["m"] + (1 - beta_1) * grad
        u = jnp.maximum(beta_2 * slots["u"], jnp.abs(grad))
        return -rate / (1 - beta_1**t) * m / (u + epsilon), {"m": m, "u": u}

    return _optimizer(rule, dict.fromkeys(("m", "u"), jnp.zeros_like), learning_rate, **options)


def Nadam(
    learning_rate: float | optax.Schedule = 0.002,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float | None = EPSILON,
    schedule_decay: float = 0.004,
    **options: Unpack[Options],
) -> optax.GradientTransformationExtraArgs:
    """Makes Adam with Nesterov momentum (Dozat 2015), its momentum warming up as in Keras 2.3."""
    _check_fraction("beta_1", beta_1)
    _check_fraction("beta_2", beta_2)
    epsilon = EPSILON if epsilon is None else epsilon

    def momentum(t: Array) -> Array:
        return beta_1 * (1 - 0.5 * 0.96 ** (t * schedule_decay))

    def rule(grad: Array, slots: Slots, rate: Array, t: Array) -> tuple[Array, Slots]:
        now, later = momentum(t), momentum(t + 1)
        product = slots["momenta"] * now
        new = {"momenta": product, **_moments(grad, slots, beta_1, beta_2)}
        mean = (1 - now) * grad / (1 - product) + later * new["m"] / (1 - product * later)
        return -rate * mean / (jnp.sqrt(new["v"] / (1 - beta_2**t)) + epsilon), new

    slots = {"momenta": lambda _: jnp.ones(()), "m": jnp.zeros_like, "v": jnp.zeros_like}
    return _optimizer(rule, slots, learning_rate, **options)


def get(
    optimizer: str | optax.GradientTransformation,
) -> optax.GradientTransformation:
    """Returns an optimizer from its name (in upper or lower case), or a transformation as it is.

    Raises:
        ValueError: the name is not known.
        TypeError: it is neither a name nor a transformation.
    """
    makers = (SGD, Adam, RMSprop, Adagrad, Adadelta, Adamax, Nadam)
    known = {maker.__name__.lower(): maker for maker in makers}
    match optimizer:
        case str() if optimizer.lower() in known:
            return known[optimizer.lower()]()
        case str():
            raise ValueError(f"Unknown optimizer:{optimizer}; known are {', '.join(known)}")
        case optax.GradientTransformation():
            return optimizer
    hint = f"; call it: {optimizer.__name__}()" if optimizer in makers else ""
    raise TypeError(f"an optimizer is a name or an optax transformation; found {optimizer!r}{hint}")


def _optimizer(
    rule: Rule,
    slots: Mapping[str, Callable[[Array], Array]],
    learning_rate: float | optax.Schedule,
    *,
    lr: float | optax.Schedule | None = None,
    decay: float = 0.0,
    clipnorm: float | None = None,
    global_clipnorm: float | None = None,
    clipvalue: float | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Makes the transformation of a rule for single arrays; `slots` makes their first values."""
    chosen = learning_rate if lr is None else lr
    if not callable(chosen):
        _check_number("learning_rate", chosen)
        chosen = float(chosen)  # inject_hyperparams takes numpy's scalars for constants
    _check_number("decay", decay)
    limits = {"clipnorm": clipnorm, "global_clipnorm": global_clipnorm, "clipvalue": clipvalue}
    for name, limit in limits.items():
        if limit is not None:
            _check_number(name, limit)

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

    return optax.inject_hyperparams(build, hyperparam_dtype=jnp.float32)(learning_rate=chosen)


def _moments(grad: Array, slots: Slots, beta_1: float, beta_2: float) -> Slots:
    """Returns the running means of gradients and of their squares."""
    return {
        "m": beta_1 * slots["m"] + (1 - beta_1) * grad,
        "v": beta_2 * slots["v"] + (1 - beta_2) * jnp.square(grad),
    }


def _clip(
    grads: list[Array],
    *,
    clipnorm: float | None,
    global_clipnorm: float | None,
    clipvalue: float | None,
) -> list[Array]:
    if clipnorm:
        grads = [_shorten(grad, optax.tree.norm(grad), clipnorm) for grad in grads]
    if global_clipnorm:
        norm = optax.tree.norm(grads)
        grads = [_shorten(grad, norm, global_clipnorm) for grad in grads]
    if clipvalue:
        grads = [jnp.clip(grad, -clipvalue, clipvalue) for grad in grads]
    return grads


def _shorten(grad: Array, norm: Array, limit: float) -> Array:
    # jnp.maximum, not division by the norm: that may be 0.
    return grad * (limit / jnp.maximum(norm, limit))


def _check_number(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} is a number; found {type(value).__name__}: {value!r}")
    if not float(value) >= 0:
        raise ValueError(f"{name} is at least 0; found {value}")


def _check_fraction(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} lies between 0 and 1; found {value}")
