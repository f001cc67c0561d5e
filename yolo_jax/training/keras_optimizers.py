"""Keras's optimizers as optax transformations, by Keras 2.3's formulas, names and defaults.

They are not optax's: Keras's Adam adds epsilon to the root before the bias is corrected, and its
SGD keeps a velocity that holds the learning rates of the steps that made it.
"""

from typing import Unpack

import jax.numpy as jnp
import optax
from jaxtyping import Array

from yolo_jax.core.numbers import finite_number
from yolo_jax.training.keras_transformation import (
    Options,
    Slots,
    one_learning_rate,
    transformation,
)

EPSILON = 1e-7


@one_learning_rate
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
    finite_number("momentum", momentum, 0, 1)

    def rule(grad: Array, slots: Slots, rate: Array, t: Array) -> tuple[Array, Slots]:
        if not momentum:
            return -rate * grad, {}
        velocity = momentum * slots["velocity"] - rate * grad
        ahead = momentum * velocity - rate * grad if nesterov else velocity
        return ahead, {"velocity": velocity}

    slots = {"velocity": jnp.zeros_like} if momentum else {}
    return transformation(rule, slots, learning_rate, **options)


@one_learning_rate
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
    finite_number("beta_1", beta_1, 0, 1)
    finite_number("beta_2", beta_2, 0, 1)
    epsilon = EPSILON if epsilon is None else epsilon

    def rule(grad: Array, slots: Slots, rate: Array, t: Array) -> tuple[Array, Slots]:
        rate = rate * jnp.sqrt(1 - beta_2**t) / (1 - beta_1**t)
        new = _moments(grad, slots, beta_1, beta_2)
        v = new["v"]
        if amsgrad:
            v = new["v_max"] = jnp.maximum(slots["v_max"], v)
        return -rate * new["m"] / (jnp.sqrt(v) + epsilon), new

    names = ("m", "v", "v_max") if amsgrad else ("m", "v")
    return transformation(rule, dict.fromkeys(names, jnp.zeros_like), learning_rate, **options)


@one_learning_rate
def RMSprop(
    learning_rate: float | optax.Schedule = 0.001,
    rho: float = 0.9,
    epsilon: float | None = EPSILON,
    **options: Unpack[Options],
) -> optax.GradientTransformationExtraArgs:
    """Makes RMSprop: a ← ρ·a + (1 − ρ)·g²; w ← w − lr·g/(√a + ε)."""
    finite_number("rho", rho, 0, 1)
    epsilon = EPSILON if epsilon is None else epsilon

    def rule(grad: Array, slots: Slots, rate: Array, t: Array) -> tuple[Array, Slots]:
        square = rho * slots["square"] + (1 - rho) * jnp.square(grad)
        return -rate * grad / (jnp.sqrt(square) + epsilon), {"square": square}

    return transformation(rule, {"square": jnp.zeros_like}, learning_rate, **options)


@one_learning_rate
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

    return transformation(rule, {"square": jnp.zeros_like}, learning_rate, **options)


@one_learning_rate
def Adadelta(
    learning_rate: float | optax.Schedule = 1.0,
    rho: float = 0.95,
    epsilon: float | None = EPSILON,
    **options: Unpack[Options],
) -> optax.GradientTransformationExtraArgs:
    """Makes Adadelta: w ← w − lr·d, d = g·√(D + ε)/√(a + ε), a and D the means of g² and d²."""
    finite_number("rho", rho, 0, 1)
    epsilon = EPSILON if epsilon is None else epsilon

    def rule(grad: Array, slots: Slots, rate: Array, t: Array) -> tuple[Array, Slots]:
        square = rho * slots["square"] + (1 - rho) * jnp.square(grad)
        step = grad * jnp.sqrt(slots["step"] + epsilon) / jnp.sqrt(square + epsilon)
        steps = rho * slots["step"] + (1 - rho) * jnp.square(step)
        return -rate * step, {"square": square, "step": steps}

    slots = {"square": jnp.zeros_like, "step": jnp.zeros_like}
    return transformation(rule, slots, learning_rate, **options)


@one_learning_rate
def Adamax(
    learning_rate: float | optax.Schedule = 0.002,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float | None = EPSILON,
    **options: Unpack[Options],
) -> optax.GradientTransformationExtraArgs:
    """Makes Adamax: u ← max(β₂·u, |g|); w ← w − lr/(1 − β₁ᵗ) · m/(u + ε)."""
    finite_number("beta_1", beta_1, 0, 1)
    finite_number("beta_2", beta_2, 0, 1)
    epsilon = EPSILON if epsilon is None else epsilon

    def rule(grad: Array, slots: Slots, rate: Array, t: Array) -> tuple[Array, Slots]:
        m = beta_1 * slots["m"] + (1 - beta_1) * grad
        u = jnp.maximum(beta_2 * slots["u"], jnp.abs(grad))
        return -rate / (1 - beta_1**t) * m / (u + epsilon), {"m": m, "u": u}

    return transformation(rule, dict.fromkeys(("m", "u"), jnp.zeros_like), learning_rate, **options)


@one_learning_rate
def Nadam(
    learning_rate: float | optax.Schedule = 0.002,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float | None = EPSILON,
    schedule_decay: float = 0.004,
    **options: Unpack[Options],
) -> optax.GradientTransformationExtraArgs:
    """Makes Adam with Nesterov momentum (Dozat 2015), its momentum warming up as in Keras 2.3."""
    finite_number("beta_1", beta_1, 0, 1)
    finite_number("beta_2", beta_2, 0, 1)
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
    return transformation(rule, slots, learning_rate, **options)


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


def _moments(grad: Array, slots: Slots, beta_1: float, beta_2: float) -> Slots:
    """Returns the running means of gradients and of their squares."""
    return {
        "m": beta_1 * slots["m"] + (1 - beta_1) * grad,
        "v": beta_2 * slots["v"] + (1 - beta_2) * jnp.square(grad),
    }
