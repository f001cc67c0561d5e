"""What of a graph is trained, and which batch normalisations keep to their moving statistics."""

from collections.abc import Iterable
from typing import Any

import jax
from flax import nnx

from yolo_jax.model.graph import Graph, Layer
from yolo_jax.networks.normalisation import BatchNorm
from yolo_jax.training.optimizers import not_matching, parameter_path, trainable_mask

PyTree = Any


def trained_parameters(graph: Graph, params: PyTree, frozen: Iterable[str]) -> PyTree:
    """Returns a pytree of bools like `params`: neither matched by `frozen` nor a frozen layer's.

    Raises:
        ValueError: `frozen` matches nothing, or leaves nothing to train.
    """
    unmatched = trainable_mask(params, frozen)
    of_layers = not_matching(params, _frozen_layers(graph, params))
    return jax.tree.map(lambda a, b: a and b, unmatched, of_layers)


def batch_norms(module: nnx.Module) -> list[BatchNorm | nnx.BatchNorm]:
    """Returns a module's batch normalisations, ours and flax's, in a fixed order."""
    kinds = (BatchNorm, nnx.BatchNorm)
    return [node for _, node in nnx.iter_graph(module) if isinstance(node, kinds)]


def is_frozen(norm: BatchNorm | nnx.BatchNorm) -> bool:
    """Tells whether no parameter is trained; each holds its mark in place of its value."""
    marks = [mark.get_value() for mark in (norm.scale, norm.bias) if mark is not None]
    return bool(marks) and not any(marks)


def _frozen_layers(graph: Graph, params: PyTree) -> list[str]:
    """Returns patterns for the parameters of the layers whose `trainable` is False."""
    paths = [parameter_path(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    prefixes = [
        "/".join(map(str, path)) + "/"
        for path, module in nnx.iter_graph(graph)
        if isinstance(module, Layer) and not module.trainable
    ]
    return [f"{prefix}*" for prefix in prefixes if any(p.startswith(prefix) for p in paths)]
