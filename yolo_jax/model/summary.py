"""A model as text: `Model.summary`."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from yolo_jax.core.numbers import whole_number
from yolo_jax.model.graph import Graph, Node
from yolo_jax.model.graph.weights import trainable_weights_of, weights_of

if TYPE_CHECKING:
    from yolo_jax.model.container import Container

Row = tuple[str, ...]
_TITLES = ("Layer (type)", "Output Shape", "Param #", "Connected to")
# Width and ends of columns, as shares of it: of a chain of layers, and of any other graph.
_CHAIN = (65, (0.45, 0.85, 1.0))
_GRAPH = (98, (0.33, 0.55, 0.67, 1.0))


class Origin(NamedTuple):
    """Where a tensor comes from.

    Attributes:
        name: of the input or layer.
        call: of that layer in the graph, from 0.
        output: of that call, from 0.
    """

    name: str
    call: int
    output: int


def summary_lines(
    model: "Container", line_length: int | None = None, positions: Sequence[float] | None = None
) -> list[str]:
    """Returns the lines of `Model.summary`, in the form of Keras 2.3.

    A chain of layers has three columns; any other graph has a fourth, `name[call][output]` of what
    a layer reads.

    Args:
        model: to describe.
        line_length: characters a line, in which what does not fit its column is cut; None: 65, or
            98 with the fourth column, and more where a column needs it.
        positions: where each column ends, in characters, or as shares of the line if the last
            is at most 1.

    Raises:
        ValueError: there are not as many positions as columns, or `line_length` is no whole number.
    """
    graph = model.graph
    width, shares = _CHAIN if is_chain(graph) else _GRAPH
    columns = len(shares)
    if line_length is not None:
        width = whole_number("summary's line_length", line_length, 1)
    positions = positions or shares
    if len(positions) != columns:
        raise ValueError(
            f"the summary of {model.name!r} has {columns} columns "
            f"({', '.join(_TITLES[:columns])}); found {len(positions)} positions"
        )
    ends = [int(p * width) if positions[-1] <= 1 else int(p) for p in positions]
    blocks = [[row[:columns] for row in block] for block in _blocks(model)]
    titles = _TITLES[:columns]
    if line_length is None:
        ends = _widened(ends, [titles, *(row for block in blocks for row in block)])
        width = max(width, ends[-1])
    lines = [f'Model: "{model.name}"', "_" * width, _line(titles, ends), "=" * width]
    for block in blocks:
        lines += [*(_line(row, ends) for row in block), "_" * width]
    lines[-1] = "=" * width
    trained, frozen = _counts(graph)
    return [
        *lines,
        f"Total params: {trained + frozen:,}",
        f"Trainable params: {trained:,}",
        f"Non-trainable params: {frozen:,}",
        "_" * width,
    ]


def is_chain(graph: Graph) -> bool:
    """Tells whether every layer is called once and reads nothing but the one before it."""
    origin = origins(graph)
    read = [
        origin[id(tensor)].name for node in graph.nodes for tensor in jax.tree.leaves(node.inputs)
    ]
    once = len(set(graph.node_names)) == len(graph.nodes)
    return once and len(graph.inputs) == 1 and len(set(read)) == len(read) == len(graph.nodes)


def origins(graph: Graph) -> dict[int, Origin]:
    """Returns where each tensor of a graph comes from, by its id."""
    found: dict[int, Origin] = {}
    calls: Counter[str] = Counter()
    for name, node in zip(graph.node_names, graph.nodes, strict=True):
        for place, tensor in enumerate(jax.tree.leaves(node.outputs)):
            found[id(tensor)] = Origin(name, calls[name], place)
        calls[name] += 1
    return found | {id(tensor): Origin(tensor.name, 0, 0) for tensor in graph.inputs}


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


def shown_output(calls: Sequence[Node]) -> str:
    """Returns a layer's output shape as Keras shows it: `multiple` where its calls' differ."""
    shapes = {str(_one_or_list([t.shape for t in jax.tree.leaves(c.outputs)])) for c in calls}
    return shapes.pop() if len(shapes) == 1 else "multiple"


def _one_or_list(shapes: list[Any]) -> Any:
    return shapes[0] if len(shapes) == 1 else shapes


def _blocks(model: "Container") -> list[list[Row]]:
    """Returns for each layer its row, and one more for each further tensor that it reads."""
    graph = model.graph
    inputs = {tensor.name: tensor for tensor in model.inputs}
    calls, origin = calls_by_layer(graph), origins(graph)
    blocks = []
    for name in graph.layer_order:
        if name in inputs:
            blocks.append([(f"{name} (InputLayer)", str(inputs[name].shape), "0", "")])
            continue
        layer = graph.layers[name]
        read = [origin[id(t)] for call in calls[name] for t in jax.tree.leaves(call.inputs)]
        first, *others = [f"{o.name}[{o.call}][{o.output}]" for o in read]
        size = str(sum(map(_size, weights_of(layer).values())))
        row = (f"{name} ({type_name(layer)})", shown_output(calls[name]), size, first)
        blocks.append([row, *(("", "", "", other) for other in others)])
    return blocks


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


def _counts(graph: Graph) -> tuple[int, int]:
    """Returns the scalars that are trained, and those that are not; shared ones count once."""
    every = {id(variable): variable for variable in weights_of(graph).values()}
    trained = {id(variable): variable for variable in trainable_weights_of(graph).values()}
    size = sum(map(_size, trained.values()))
    return size, sum(map(_size, every.values())) - size


def _size(variable: nnx.Variable) -> int:
    return int(np.prod(variable.shape))
