"""Symbolic graphs: `Input`, `Lambda`, `apply`, and the module that runs what they describe."""

import inspect
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool

PyTree = Any
# Stands for the batch axis while shapes are inferred; None in every shape that is shown.
_BATCH = 2


@dataclass(eq=False)
class SymbolicTensor:
    """An array of the graph that is not there yet.

    Attributes:
        shape: with None for the batch axis; () for a scalar.
        dtype: of the array.
        name: of an input, or of the layer that makes it.
        node: what makes it; None for an input.
    """

    shape: tuple[int | None, ...]
    dtype: DTypeLike
    name: str
    node: "Node | None" = field(default=None, repr=False)


@dataclass(eq=False)
class Node:
    """One call of a layer on symbolic tensors."""

    layer: nnx.Module
    name: str
    inputs: PyTree
    outputs: PyTree


def Input(  # noqa: N802 - Keras's name
    shape: Sequence[int], batch_size: int | None = None, name: str | None = None,
    dtype: DTypeLike = jnp.float32,
) -> SymbolicTensor:  # fmt: skip
    """Declares an input of a model.

    Args:
        shape: without the batch axis.
        batch_size: fixed size of the batch axis, shown in `shape` alone.
        name: of the input.
        dtype: of the array that will be fed.
    """
    return SymbolicTensor((batch_size, *shape), dtype, name or "input")


class Lambda(nnx.Module):
    """Wraps a function as a layer.

    Args:
        function: called as `function(inputs, **arguments)`, with a list where inputs are several.
        output_shape: shape of one row of the output, without the batch axis; believed over the
            inferred one. `(1,)` may declare a scalar. None infers.
        arguments: keywords for the function.
        name: of the layer.

    Raises:
        TypeError: the function cannot be called, or the shape is neither a tuple nor a list.
    """

    def __init__(
        self,
        function: Callable[..., PyTree],
        output_shape: Sequence[int] | None = None,
        arguments: dict[str, Any] | None = None,
        name: str | None = None,
    ) -> None:
        if not callable(function):
            raise TypeError(f"Lambda takes a function; found {type(function).__name__}")
        if output_shape is not None and not isinstance(output_shape, tuple | list):
            raise TypeError(
                f"Lambda's output_shape is a tuple or list; found {type(output_shape).__name__}"
            )
        self.function = function
        self.output_shape = None if output_shape is None else tuple(output_shape)
        # A function in a static field: anchors and other arrays must not become parameters.
        self.bound = nnx.static((lambda given: lambda x: function(x, **given))(arguments or {}))
        self.name = name

    def __call__(self, inputs: PyTree) -> PyTree:
        """Calls the function; on symbolic tensors it adds a node to the graph instead."""
        if any(isinstance(leaf, SymbolicTensor) for leaf in jax.tree.leaves(inputs)):
            return apply(self, inputs, name=self.name)
        return self.bound(inputs)


def apply(layer: nnx.Module, inputs: PyTree, *, name: str | None = None) -> PyTree:
    """Calls any NNX module on symbolic tensors.

    Args:
        layer: a module whose call takes the inputs (a list or dict where there are several).
        inputs: symbolic tensors.
        name: of the layer in its model; None makes one of the class's name.

    Returns:
        Symbolic tensors in the structure that the module returns.
    """
    name = name or _snake_case(type(layer).__name__)
    graphdef, state = nnx.split(layer)

    def run(state: PyTree, values: PyTree) -> PyTree:
        return nnx.merge(graphdef, state)(values)

    examples = jax.tree.map(
        lambda t: jax.ShapeDtypeStruct(tuple(d or _BATCH for d in t.shape), t.dtype), inputs
    )
    shapes = jax.eval_shape(run, state, examples)
    declared = layer.output_shape if isinstance(layer, Lambda) else None

    def symbolic(found: jax.ShapeDtypeStruct) -> SymbolicTensor:
        rest = found.shape[1:] if declared is None else declared
        shape = (None, *rest) if found.shape or declared is not None else ()
        return SymbolicTensor(shape, found.dtype, name)

    outputs = jax.tree.map(symbolic, shapes)
    node = Node(layer, name, inputs, outputs)
    for tensor in jax.tree.leaves(outputs):
        tensor.node = node
    return outputs


class Graph(nnx.Module):
    """Runs the layers between inputs and outputs.

    Args:
        inputs: symbolic inputs, in the order in which they will be fed.
        outputs: symbolic tensors made from them.

    Raises:
        ValueError: an output needs an input that is not given, or two layers share a name.
    """

    def __init__(self, inputs: Sequence[SymbolicTensor], outputs: Sequence[SymbolicTensor]) -> None:
        self.inputs = nnx.static(tuple(inputs))
        self.outputs = nnx.static(tuple(outputs))
        nodes = _in_order(self.inputs, self.outputs)
        self.nodes = nnx.static(tuple(nodes))
        names = _layer_names(nodes)
        self.node_names = nnx.static(tuple(names[id(node.layer)] for node in nodes))
        self.layers = nnx.Dict({names[id(node.layer)]: node.layer for node in nodes})

    def __call__(
        self, values: Sequence[Array], row_mask: Bool[Array, "b"] | None = None
    ) -> list[Array]:
        """Computes the outputs.

        Args:
            values: one array for each input.
            row_mask: False marks rows that only fill the batch; for layers that take it.
        """
        known = {id(tensor): value for tensor, value in zip(self.inputs, values, strict=True)}
        for node, name in zip(self.nodes, self.node_names, strict=True):
            layer = self.layers[name]
            given = jax.tree.map(lambda tensor: known[id(tensor)], node.inputs)
            keywords = {"row_mask": row_mask} if _takes_row_mask(layer) else {}
            made = layer(given, **keywords)
            for tensor, value in zip(
                jax.tree.leaves(node.outputs), jax.tree.leaves(made), strict=True
            ):
                known[id(tensor)] = value
        return [known[id(tensor)] for tensor in self.outputs]


def _takes_row_mask(layer: nnx.Module) -> bool:
    return "row_mask" in inspect.signature(type(layer).__call__).parameters


def _in_order(inputs: Sequence[SymbolicTensor], outputs: Sequence[SymbolicTensor]) -> list[Node]:
    """Returns the nodes between inputs and outputs, each after those it reads."""
    known = {id(tensor) for tensor in inputs}
    done: list[Node] = []

    def visit(tensor: SymbolicTensor) -> None:
        if id(tensor) in known:
            return
        if tensor.node is None:
            raise ValueError(
                f"the model's outputs need the input {tensor.name!r}, which is not among its inputs"
            )
        for source in jax.tree.leaves(tensor.node.inputs):
            visit(source)
        done.append(tensor.node)
        known.update(id(made) for made in jax.tree.leaves(tensor.node.outputs))

    for tensor in outputs:
        visit(tensor)
    return done


def _layer_names(nodes: Sequence[Node]) -> dict[int, str]:
    """Returns a name for each layer by its identity; a name given twice is an error."""
    names: dict[int, str] = {}
    used: Counter[str] = Counter()
    for node in nodes:
        if id(node.layer) in names:
            continue
        used[node.name] += 1
        again = used[node.name]
        if again > 1 and getattr(node.layer, "name", None) == node.name:
            raise ValueError(f"two layers of the model are named {node.name!r}")
        names[id(node.layer)] = node.name if again == 1 else f"{node.name}_{again - 1}"
    return names


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
