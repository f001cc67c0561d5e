"""Whether a loss depends on what is trained, found out while it is traced."""

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Float

PyTree = Any


def shapes_where_trained(
    loss: Callable[..., tuple[Float[Array, ""], PyTree]], trained: PyTree, *others: PyTree
) -> PyTree:
    """Returns the shapes of what a loss gives beside its value, computing nothing.

    Args:
        loss: function of what is trained and the others, to its value and anything else.
        trained: pytree of arrays; of none nothing is asked.
        others: pytrees.

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

    shapes = jax.eval_shape(differentiated, trained, *others)
    if jax.tree.leaves(trained) and not reached:
        raise ValueError(
            "the loss depends on no weight that is trained, so that a step would change nothing: "
            "every gradient is None. Let the loss be a function of y_pred, and leave out what has "
            "no derivative on the way (K.argmax, K.round, K.stop_gradient, comparisons)"
        )
    return shapes
