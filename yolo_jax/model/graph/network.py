"""The module that runs a graph."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Key

from yolo_jax.model.graph.connect import call_layer, naming, takes
from yolo_jax.model.graph.layer import Layer
from yolo_jax.model.graph.order import Unit, in_order, keras_order, layer_key
from yolo_jax.model.graph.tensor import Node, SymbolicTensor, as_list

PyTree = Any
# Sets the keys of layers apart from the keys that are split off the same row's for augmentation.
_LAYERS = 0x6C617965


class Graph(nnx.Module):
    """Runs the layers between inputs and outputs.

    Args:
        inputs: symbolic inputs, in the order in which they will be fed.
        outputs: symbolic tensors made from them.

    Attributes:
        layers: by name.
        layer_order: names of inputs and layers in the order of Keras's `model.layers`.
        owner: the model that the graph is of, which stands in a larger model's `layers` for it.

    Raises:
        ValueError: an output needs an input that is not given, or two layers share a name.
    """

    def __init__(self, inputs: Sequence[SymbolicTensor], outputs: Sequence[SymbolicTensor]) -> None:
        self.inputs = nnx.static(tuple(inputs))
        self.outputs = nnx.static(tuple(outputs))
        units, met = in_order(self.inputs, self.outputs)
        nodes = [unit for unit in units if isinstance(unit, Node)]
        names = _unique_names(self.inputs, units)
        self.nodes = nnx.static(tuple(nodes))
        self.node_names = nnx.static(tuple(names[layer_key(node)] for node in nodes))
        self.layer_order = nnx.static(
            tuple(names[key] for key in keras_order(self.inputs, units, met))
        )
        self.layers = nnx.Dict({names[layer_key(node)]: node.layer for node in nodes})
        self.owner: Any = nnx.static(None)

    def __call__(
        self, values: Sequence[Array], row_mask: Bool[Array, "b"] | None = None
    ) -> list[Array]:
        """Computes the outputs, in evaluation.

        Args:
            values: one array for each input.
            row_mask: False marks rows that only fill the batch; for layers that take it.
        """
        return self.call(values, row_mask)[0]

    def call(
        self,
        values: Sequence[Array],
        row_mask: Bool[Array, "b"] | None = None,
        row_keys: Key[Array, "b"] | None = None,
        masks: Sequence[Array | None] | None = None,
    ) -> tuple[list[Array], list[Bool[Array, "b ..."] | None]]:
        """Computes the outputs and their masks.

        Args:
            values: one array for each input.
            row_mask: False marks rows that only fill the batch.
            row_keys: a key for each row in training: what a layer draws for a row depends on the
                row's key and the layer's place alone, so it is the same on any number of devices.
            masks: of the inputs, or None.

        Returns:
            The outputs, and for each its mask (False leaves a step out) or None.
        """
        masks = masks or [None] * len(self.inputs)
        known: dict[int, tuple[Any, Any]] = {
            id(tensor): (value, mask)
            for tensor, value, mask in zip(self.inputs, values, masks, strict=True)
        }
        for index, (node, name) in enumerate(zip(self.nodes, self.node_names, strict=True)):
            layer = self.layers[name]
            given = jax.tree.map(lambda tensor: known[id(tensor)][0], node.inputs)
            mask = jax.tree.map(lambda tensor: known[id(tensor)][1], node.inputs)
            keys = row_keys
            if keys is not None and takes(layer, "row_keys"):
                keys = _layer_keys(keys, index)
            with naming(name, given):
                made, made_masks = call_layer(layer, given, mask, row_mask, keys)
            for tensor, value, mask in zip(
                jax.tree.leaves(node.outputs), jax.tree.leaves(made), made_masks, strict=True
            ):
                known[id(tensor)] = (value, mask)
        found = [known[id(tensor)] for tensor in self.outputs]
        return [value for value, _ in found], [mask for _, mask in found]

    def call_nested(
        self, inputs: PyTree, mask: PyTree, row_mask: Array | None, row_keys: Array | None
    ) -> tuple[list[Array], list[Array | None]]:
        """Runs the graph as a layer of another: on an array, a list, or a dict by input name."""

        def listed(tree: PyTree) -> list[Any]:
            if isinstance(tree, Mapping):
                return [tree[tensor.name] for tensor in self.inputs]
            return as_list(tree)

        return self.call(listed(inputs), row_mask, row_keys, listed(mask))

    def penalty(self) -> Float[Array, ""]:
        """Returns what the layers' regularizers add to the loss; shared layers count once."""
        return sum((layer.penalty() for layer in self.keras_layers()), jnp.zeros(()))

    def keras_layers(self) -> Iterator[Layer]:
        """Yields every `Layer` in the graph once, those within other modules too."""
        for _, module in nnx.iter_graph(self):
            if isinstance(module, Layer):
                yield module


def _layer_keys(row_keys: Key[Array, "b"], index: int) -> Key[Array, "b"]:
    return jax.vmap(
        lambda key: jax.random.fold_in(jax.random.fold_in(key, _LAYERS), index)
    )(row_keys)  # fmt: skip


def _unique_names(inputs: Sequence[SymbolicTensor], units: Sequence[Unit]) -> dict[int, str]:
    """Returns a name for each input and layer by `layer_key`.

    Raises:
        ValueError: somebody gave two of them one name.
    """
    names: dict[int, str] = {}
    used: Counter[str] = Counter()
    for unit in dict.fromkeys((*inputs, *units)):
        key = layer_key(unit)
        if key in names:
            continue
        used[unit.name] += 1
        again = used[unit.name] - 1
        if again and (isinstance(unit, SymbolicTensor) or unit.named):
            raise ValueError(
                f"The name {unit.name!r} is used by more than one of the model's layers and "
                "inputs: two layers of the model are named alike. All names should be unique; "
                "give one of them another with name=…"
            )
        names[key] = unit.name if not again else f"{unit.name}_{again}"
    return names
