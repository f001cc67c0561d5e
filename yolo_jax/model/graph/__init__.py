"""Symbolic graphs: `Input`, `Layer`, `Lambda`, `apply`, and the module that runs what they say."""

from yolo_jax.model.graph.any_module import apply
from yolo_jax.model.graph.lambda_layer import Lambda
from yolo_jax.model.graph.layer import Layer, LayerOptions
from yolo_jax.model.graph.network import Graph
from yolo_jax.model.graph.session import clear_session, set_random_seed, unique_name
from yolo_jax.model.graph.tensor import Input, Node, SymbolicTensor

__all__ = [
    "Graph",
    "Input",
    "Lambda",
    "Layer",
    "LayerOptions",
    "Node",
    "SymbolicTensor",
    "apply",
    "clear_session",
    "set_random_seed",
    "unique_name",
]
