"""The weights of layers, models and other modules, by Keras's names and in Keras's order."""

from collections.abc import Mapping

from flax import nnx

from yolo_jax.model.graph.layer import Layer
from yolo_jax.model.graph.network import Graph

Weights = dict[str, nnx.Variable]


def weights_of(module: nnx.Module) -> Weights:
    """Returns a module's variables by name.

    A layer's are named as Keras names them (`kernel`), those of a graph `layer/kernel`, parameters
    before statistics; those of any other module by their paths in it.
    """
    match module:
        case Layer():
            return dict(module.weights)
        case Graph():
            return parameters_first(
                {
                    f"{name}/{weight}": variable
                    for name, weights in weight_groups(module).items()
                    for weight, variable in weights.items()
                }
            )
    # A variable that stands in several places is met once.
    found = {
        "/".join(map(str, path)): node
        for path, node in nnx.iter_graph(module)
        if isinstance(node, nnx.Param | nnx.BatchStat)
    }
    return parameters_first(found)


def weight_groups(graph: Graph) -> dict[str, Weights]:
    """Returns the weights of each layer of a graph that has any, in the order of `model.layers`."""
    found = {
        name: weights_of(graph.layers[name]) for name in graph.layer_order if name in graph.layers
    }
    return {name: weights for name, weights in found.items() if weights}


def trainable_weights_of(module: nnx.Module) -> Weights:
    """Returns those of `weights_of` that are trained: of layers whose `trainable` is not False."""
    still = {
        id(variable)
        for _, layer in nnx.iter_graph(module)
        if isinstance(layer, Layer)
        for variable in layer.non_trainable_weights.values()
    }
    return {
        name: variable
        for name, variable in weights_of(module).items()
        if isinstance(variable, nnx.Param) and id(variable) not in still
    }


def parameters_first(weights: Mapping[str, nnx.Variable]) -> Weights:
    """Puts statistics behind parameters, else leaves the order as it is."""
    return dict(sorted(weights.items(), key=lambda item: not isinstance(item[1], nnx.Param)))
