"""What is found out of a loss while it is traced: whether it depends on weights, and its work."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Float

PyTree = Any


def shapes_where_trained(
    loss: Callable[..., tuple[Float[Array, ""], PyTree]], trained: PyTree, *others: PyTree
) -> tuple[PyTree, int]:
    """Returns the shapes of what a loss gives beside its value, and its work; computes nothing.

    Args:
        loss: function of what is trained and the others, to its value and anything else.
        trained: pytree of arrays; of none nothing is asked.
        others: pytrees.

    Returns:
        The shapes, and the multiplications of the value and its derivative along one direction: a
        measure of how long a step takes.

    Raises:
        ValueError: the value does not change with anything trained, as far as derivatives tell.
    """
    reached = []

    @jax.custom_jvp
    def watched(value: Array) -> Array:
        return value

    @watched.defjvp
    def _(values: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
        # JAX asks for this where a derivative arrives, and only there.
        reached.append(True)
        return values[0], tangents[0]

    def differentiated(trained: PyTree, *others: PyTree) -> PyTree:
        def value(trained: PyTree) -> tuple[Array, PyTree]:
            found, rest = loss(trained, *others)
            return watched(found), rest

        return jax.jvp(value, (trained,), (trained,), has_aux=True)[2]

    traced, shapes = jax.make_jaxpr(differentiated, return_shape=True)(trained, *others)
    if jax.tree.leaves(trained) and not reached:
        raise ValueError(
            "the loss depends on no weight that is trained, so that a step would change nothing: "
            "every gradient is None. Let the loss be a function of y_pred, and leave out what has "
            "no derivative on the way (K.argmax, K.round, K.stop_gradient, comparisons)"
        )
    return shapes, _multiplications(traced.jaxpr)


def _multiplications(jaxpr: Any) -> int:
    """Returns those of products and convolutions, and one for each number that else is made.

    A loop counts as often as it runs, where that is known.
    """
    total = 0
    for equation in jaxpr.eqns:
        inner = [getattr(one, "jaxpr", one) for one in jax.tree.leaves(equation.params)]
        inner = [one for one in inner if hasattr(one, "eqns")]
        repeats = equation.params.get("length", 1)
        each = _terms(equation)
        made = sum(math.prod(out.aval.shape) for out in equation.outvars)
        total += sum(map(_multiplications, inner)) * repeats if inner else made * each
    return total


def _terms(equation: Any) -> int:
    """Returns how many products each number is the sum of."""
    match equation.primitive.name:
        case "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            return math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
        case "conv_general_dilated":
            kernel, layout = equation.invars[1].aval.shape, equation.params["dimension_numbers"]
            return math.prod(kernel) // kernel[layout.rhs_spec[0]]
    return 1
