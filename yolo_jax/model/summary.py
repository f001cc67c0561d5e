"""A model as text: `Model.summary`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from flax import nnx

from yolo_jax.model.graph import Graph, Node, SymbolicTensor
from yolo_jax.model.graph.weights import Weights, weights_of

if TYPE_CHECKING:
    from yolo_jax.model.container import Container

Row = tuple[str, str, str, str]
_WIDTH = 98
_POSITIONS = (0.33, 0.55, 0.67, 1.0)
_TITLES = ("Layer (type)", "Output Shape", "Param #", "Connected to")


def summary_lines(
    model: "Container", line_length: int | None = None, positions: Sequence[float] | None = None
) -> list[str]:
    """Returns the lines of `Model.summary`, in the form of Keras 2.3.

    Args:
        model: to describe.
        line_length: characters a line, in which what does not fit its column is cut; None: 98, and
            more where a column needs it.
        positions: where each of the four columns ends, as shares of the line.
    """
    inputs = {tensor.name: tensor for tensor in model.inputs}
    nodes = calls_by_layer(model.graph)
    blocks = [
        [(f"{name} (InputLayer)", _shown(inputs[name].shape), "0", "")]
        if name in inputs
        else _layer_rows(model.graph, name, nodes[name])
        for name in model.graph.layer_order
    ]
    width = line_length or _WIDTH
    ends = [int(share * width) for share in positions or _POSITIONS]
    if line_length is None:
        ends = _widened(ends, [_TITLES, *(row for block in blocks for row in block)])
        width = ends[-1]
    lines = [f'Model: "{model.name}"', "_" * width, _line(_TITLES, ends), "=" * width]
    for block in blocks:
        lines += [*(_line(row, ends) for row in block), "_" * width]
    lines[-1] = "=" * width
    trained, frozen = _counts(model.graph)
    return [
        *lines,
        f"Total params: {trained + frozen:,}",
        f"Trainable params: {trained:,}",
        f"Non-trainable params: {frozen:,}",
        "_" * width,
    ]


def calls_by_layer(graph: Graph) -> dict[str, list[Node]]:
    """Returns the calls of each layer of a graph by its name."""
    found: dict[str, list[Node]] = {}
    for name, node in zip(graph.node_names, graph.nodes, strict=True):
        found.setdefault(name, []).append(node)
    return found


def type_name(layer: nnx.Module) -> str:
    """Returns the class of a layer; a model within is a `Model`."""
    owner = layer.owner if isinstance(layer, Graph) else None
    return type(owner or layer).__name__


def name_of(graph: Graph, tensor: SymbolicTensor) -> str:
    """Returns the name in a graph of the input or layer that a tensor comes from."""
    if any(tensor is one for one in graph.inputs) or tensor.node is None:
        return tensor.name
    return graph.node_names[[id(node) for node in graph.nodes].index(id(tensor.node))]


def _layer_rows(graph: Graph, name: str, calls: list[Node]) -> list[Row]:
    """Returns a row of the layer, and one for each further thing that it reads."""
    layer = graph.layers[name]
    shapes = [_shown(tensor.shape) for tensor in jax.tree.leaves(calls[0].outputs)]
    read = [name_of(graph, t) for call in calls for t in jax.tree.leaves(call.inputs)]
    count = str(_size(weights_of(layer)))
    first = (f"{name} ({type_name(layer)})", ", ".join(shapes), count, read[0])
    return [first, *(("", "", "", another) for another in read[1:])]


def _widened(ends: Sequence[int], rows: Sequence[Row]) -> list[int]:
    """Moves the columns' ends so that every cell fits."""
    moved, end = [], 0
    for column, (start, old) in enumerate(zip((0, *ends), ends, strict=False)):
        end += max(old - start, 1 + max(len(row[column]) for row in rows))
        moved.append(end)
    return moved


def _line(cells: Row, ends: Sequence[int]) -> str:
    """Returns the cells in their columns; what does not fit is cut, as Keras does."""
    line = ""
    for cell, end in zip(cells, ends, strict=True):
        line = (line + cell)[: end - 1].ljust(end)
    return line.rstrip()


def _shown(shape: Sequence[int | None]) -> str:
    return str(tuple(shape))


def _size(weights: Weights) -> int:
    return sum(int(np.prod(variable.shape)) for variable in weights.values())


def _counts(graph: Graph) -> tuple[int, int]:
    """Returns the scalars that are trained, and those that are not; shared ones count once."""
    still = {
        id(variable)
        for layer in graph.keras_layers()
        if not layer.trainable
        for variable in layer.weights.values()
    }
    trained, frozen = 0, 0
    for variable in {id(v): v for v in _all_variables(graph)}.values():
        size = int(np.prod(variable.shape))
        if isinstance(variable, nnx.Param) and id(variable) not in still:
            trained += size
        else:
            frozen += size
    return trained, frozen


def _all_variables(graph: Graph) -> list[Any]:
    return [variable for layer in graph.layers.values() for variable in weights_of(layer).values()]
