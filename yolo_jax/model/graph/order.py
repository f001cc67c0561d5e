"""In which order a graph is computed, and in which Keras lists its layers."""

from collections.abc import Sequence

import jax

from yolo_jax.model.graph.tensor import Node, SymbolicTensor

# What stands in a graph: the call of a layer, or an input.
Unit = Node | SymbolicTensor


def in_order(
    inputs: Sequence[SymbolicTensor], outputs: Sequence[SymbolicTensor]
) -> tuple[list[Unit], list[int]]:
    """Walks from the outputs back to the inputs, depth first, as Keras does.

    Args:
        inputs: of the graph; nothing behind them is looked at.
        outputs: of the graph.

    Returns:
        Inputs and calls, each after those it reads; and `layer_key` of each layer, in the order in
        which the walk met them.

    Raises:
        ValueError: an output needs an input that is not given.
    """
    given = {id(tensor) for tensor in inputs}

    def origin(tensor: SymbolicTensor) -> Unit:
        if id(tensor) in given or tensor.node is None:
            return tensor
        return tensor.node

    done: dict[int, Unit] = {}
    met: dict[int, None] = {}
    # A stack rather than recursion: deep networks would go past Python's limit.
    for output in outputs:
        stack = [(unit := origin(output), iter(sources(unit, given)))]
        while stack:
            unit, rest = stack[-1]
            if id(unit) not in done:
                met.setdefault(layer_key(unit))
                following = next((source for source in rest if id(source) not in done), None)
                if following is not None:
                    stack.append((following, iter(sources(following, given))))
                    continue
                if isinstance(unit, SymbolicTensor) and id(unit) not in given:
                    raise ValueError(
                        f"the model's outputs need the input {unit.name!r}, which is not among "
                        f"its inputs {[tensor.name for tensor in inputs]}"
                    )
                done[id(unit)] = unit
            stack.pop()
    return list(done.values()), list(met)


def sources(unit: Unit, given: set[int]) -> list[Unit]:
    """Returns what a call reads: calls and inputs."""
    if isinstance(unit, SymbolicTensor):
        return []
    return [
        tensor if id(tensor) in given or tensor.node is None else tensor.node
        for tensor in jax.tree.leaves(unit.inputs)
    ]


def layer_key(unit: Unit) -> int:
    """Returns what tells a layer from others; an input is its own layer."""
    return id(unit.layer) if isinstance(unit, Node) else id(unit)


def keras_order(
    inputs: Sequence[SymbolicTensor], units: Sequence[Unit], met: Sequence[int]
) -> list[int]:
    """Returns `layer_key` of all layers, inputs included, in the order of Keras's `model.layers`.

    The layers farthest from the outputs come first; those of one distance in the order in which
    the walk from the outputs met them.

    Source: keras/engine/network.py, `_map_graph_network` (Keras 2.3.1).
    """
    given = {id(tensor) for tensor in inputs}
    of_unit: dict[int, int] = {}
    of_layer: dict[int, int] = {}
    for unit in reversed(units):
        depth = max(of_unit.get(id(unit), 0), of_layer.get(layer_key(unit), 0))
        of_layer[layer_key(unit)] = of_unit[id(unit)] = depth
        for source in sources(unit, given):
            of_unit[id(source)] = max(depth + 1, of_unit.get(id(source), 0))
    position = {key: place for place, key in enumerate(met)}
    unused = [id(tensor) for tensor in inputs if id(tensor) not in of_layer]
    used = sorted(of_layer, key=lambda key: (-of_layer[key], position[key]))
    return [*used, *unused]
