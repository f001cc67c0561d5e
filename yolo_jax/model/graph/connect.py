"""Running a layer with what its call names, and adding calls to the graph."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Key

from yolo_jax.model.graph.tensor import (
    Node,
    Shape,
    SymbolicTensor,
    as_structs,
    has_unknown_sizes,
    shown_shape,
)

PyTree = Any


@runtime_checkable
class Nested(Protocol):
    """A module that takes masks and returns them: a graph used as a layer."""

    def call_nested(
        self, inputs: PyTree, mask: PyTree, row_mask: Array | None, row_keys: Array | None
    ) -> tuple[PyTree, PyTree]:
        """Returns outputs and their masks."""
        ...


def call_layer(
    layer: nnx.Module,
    inputs: PyTree,
    mask: PyTree,
    row_mask: Bool[Array, "b"] | None = None,
    row_keys: Key[Array, "b"] | None = None,
) -> tuple[PyTree, list[Any]]:
    """Runs a layer, giving it what its call names: the four here, and `training`.

    Args:
        layer: any module.
        inputs: arrays.
        mask: of the inputs, in their structure, with None for no mask.
        row_mask: False marks rows that only fill the batch.
        row_keys: a key for each row in training.

    Returns:
        The outputs, and a list of the masks (or None) of their leaves.
    """
    if isinstance(layer, Nested):
        outputs, masks = layer.call_nested(inputs, mask, row_mask, row_keys)
    else:
        given = {
            "mask": mask,
            "row_mask": row_mask,
            "row_keys": row_keys,
            "training": row_keys is not None,
        }
        outputs = layer(inputs, **{k: given[k] for k in given if takes(layer, k)})  # pyright: ignore[reportCallIssue]
        masks = _mask_of(layer, inputs, mask)
    return outputs, _mask_list(masks, len(jax.tree.leaves(outputs)))


def takes(layer: nnx.Module, keyword: str) -> bool:
    """Tells whether a layer's call names a keyword."""
    if isinstance(layer, Nested):
        return True
    # A `Layer` computes in `call`; other modules when they are called themselves.
    function = getattr(type(layer), "call", type(layer).__call__)
    return keyword in inspect.signature(function).parameters


def connect(
    layer: nnx.Module, inputs: PyTree, name: str, *, named: bool, output_shape: Any = None
) -> PyTree:
    """Adds a call to the graph.

    Args:
        layer: with its parameters.
        inputs: symbolic tensors.
        name: of the layer.
        named: somebody chose the name; otherwise the graph may number it.
        output_shape: full shape that is believed over the inferred one, a list of them for several
            outputs, or None.

    Returns:
        Symbolic tensors in the structure that the layer returns.

    Raises:
        TypeError: the inputs are not symbolic.
    """
    check_called_on(name, inputs, arrays=False)
    leaves = jax.tree.leaves(inputs)
    batch = next((tensor.shape[0] for tensor in leaves if tensor.shape), None)
    values, masks = as_structs(inputs)
    graphdef, state = nnx.split(layer)
    declared = output_shape if isinstance(output_shape, list) else [output_shape]
    with naming(name, inputs):
        if output_shape is not None and has_unknown_sizes(leaves):
            # What is declared is believed. The function may need sizes that are not known yet.
            dtype = leaves[0].dtype if jnp.issubdtype(leaves[0].dtype, jnp.floating) else "float32"
            made = [jax.ShapeDtypeStruct((), dtype) for _ in declared]
            outputs = made if isinstance(output_shape, list) else made[0]
            found = jax.eval_shape(lambda *given: _mask_of(layer, *given), values, masks)
            found = _mask_list(found, len(made))
        else:
            outputs, found = jax.eval_shape(
                lambda state, *given: call_layer(nnx.merge(graphdef, state), *given),
                state, values, masks,
            )  # fmt: skip
    flat, structure = jax.tree.flatten(outputs)
    if not flat:
        raise TypeError(f"layer {name!r} returned {outputs!r}: its call has to return an array")
    shapes = [shown_shape(one.shape, batch) for one in flat]
    if output_shape is not None:
        shapes = [tuple(shape) for shape in declared]
    tensors = [
        SymbolicTensor(
            shape, one.dtype, name,
            mask_shape=None if mask is None else shown_shape(mask.shape, batch),
        )
        for shape, one, mask in zip(shapes, flat, found, strict=True)
    ]  # fmt: skip
    outputs = jax.tree.unflatten(structure, tensors)
    node = Node(layer, name, inputs, outputs, named)
    for tensor in tensors:
        tensor.node = node
    return outputs


def check_called_on(name: str, inputs: PyTree, *, arrays: bool = True) -> None:
    """Raises TypeError if a layer is called on what it cannot take.

    Args:
        name: of the layer.
        inputs: that it is called on.
        arrays: it takes them beside symbolic tensors.
    """
    # Modules are pytrees, and None is an empty one.
    leaves = jax.tree.leaves(inputs, is_leaf=lambda x: x is None or isinstance(x, nnx.Module))
    odd = [
        leaf for leaf in leaves
        if not (isinstance(leaf, SymbolicTensor) or (arrays and hasattr(leaf, "shape")))
    ]  # fmt: skip
    if leaves and not odd:
        return
    found = type(odd[0]).__name__ if odd else f"an empty {type(inputs).__name__}"
    kinds = "symbolic tensors (what Input and layers return)" + (" or arrays" if arrays else "")
    hint = ", which has to be called on a tensor first" if odd and callable(odd[0]) else ""
    raise TypeError(f"layer {name!r} is called on {kinds}; found {found}{hint}")


def _mask_of(layer: nnx.Module, inputs: PyTree, mask: PyTree) -> PyTree:
    compute = getattr(layer, "compute_mask", None)
    return None if compute is None else compute(inputs, mask)


def _mask_list(masks: PyTree, outputs: int) -> list[Any]:
    """Returns one mask or None for each output; one None stands for all."""
    found = jax.tree.leaves(masks, is_leaf=lambda leaf: leaf is None)
    if masks is None:
        found = [None] * outputs
    if len(found) != outputs:
        raise ValueError(f"{len(found)} masks were computed for {outputs} outputs")
    return found


@contextmanager
def naming(name: str, inputs: PyTree) -> Iterator[None]:
    """Adds the layer's name and its inputs' shapes to an error from within."""
    try:
        yield
    except Exception as error:
        shapes = [shape_of(leaf) for leaf in jax.tree.leaves(inputs)]
        error.add_note(f"in layer {name!r}, called on inputs of shapes {shapes}")
        raise


def shape_of(leaf: Any) -> Shape:
    """Returns the shape of a symbolic tensor or an array."""
    return leaf.shape if isinstance(leaf, SymbolicTensor) else jnp.shape(leaf)
