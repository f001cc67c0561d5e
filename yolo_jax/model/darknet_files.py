"""Darknet's `.weights` files for models of Keras layers, such as `keras_yolo3.yolo_body`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
from flax import nnx

from yolo_jax.core.caller import warn_caller
from yolo_jax.model.graph import Graph, Node
from yolo_jax.model.layers import BatchNormalization, Conv2D
from yolo_jax.networks import darknet
from yolo_jax.networks.yolov3 import ANCHORS_PER_SCALE


@dataclass(frozen=True)
class LayerConvolution:
    """A convolution with the batch normalisation that follows it, or with a bias."""

    convolution: Conv2D
    norm: BatchNormalization | None

    def darknet_parts(self) -> list[nnx.Variable]:
        """Returns the variables in the order of Darknet's weight files."""
        kernel = self.convolution.kernel
        if self.norm is None:
            return [self.convolution.bias, kernel]
        weights = self.norm.weights
        names = ("beta", "gamma", "moving_mean", "moving_variance")
        return [*(weights[name] for name in names), kernel]


@dataclass(frozen=True)
class OutputOfOtherClasses:
    """Stands for an output convolution while a file of other classes is read, and is dropped."""

    variables: tuple[nnx.Variable, nnx.Variable]

    def darknet_parts(self) -> list[nnx.Variable]:
        """Returns the variables in the order of Darknet's weight files."""
        return list(self.variables)


class DarknetLayers:
    """A graph of Keras layers as Darknet's files see it: its convolutions in the .cfg's order.

    That is the order in which a walk from the outputs, coarse to fine, meets what they are made of.

    Args:
        graph: of the model.

    Raises:
        ValueError: a layer has weights that no Darknet file has a place for.
    """

    def __init__(self, graph: Graph) -> None:
        self._found: list[LayerConvolution | OutputOfOtherClasses] = list(_convolutions(graph))

    @property
    def outputs(self) -> list[LayerConvolution]:
        """Returns the convolutions with a bias, which end the scales."""
        return [c for c in self._found if isinstance(c, LayerConvolution) and c.norm is None]

    @property
    def num_classes(self) -> int:
        """Returns the classes that the outputs' channels make."""
        filters = self.outputs[0].convolution.filters if self.outputs else 0
        return filters // ANCHORS_PER_SCALE - 5

    def convolutions(self) -> list[LayerConvolution | OutputOfOtherClasses]:
        """Returns the convolutions in the order of the .cfg file."""
        return list(self._found)

    def load(self, path: Path | str, *, skip_mismatch: bool) -> None:
        """Reads a file; with `skip_mismatch` outputs of other classes keep their weights.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file does not fit; nothing was changed.
        """
        if skip_mismatch:
            filters = self._filters_of(Path(path))
            if filters not in (None, self.outputs[0].convolution.filters):
                names = [output.convolution.name for output in self.outputs]
                warn_caller(
                    f"{path} is of {filters // ANCHORS_PER_SCALE - 5} classes, and the model of "
                    f"{self.num_classes}: {', '.join(names)} keep their weights"
                )
                self._set_outputs_aside(filters)
        darknet.load_weights(path, self)

    def _filters_of(self, path: Path) -> int | None:
        """Returns the outputs' channels in a file, or None where no number of them fits."""
        _, values = darknet.read_floats(path)
        own = sum(part.size for output in self.outputs for part in output.darknet_parts())
        rest = len(values) - (darknet.count_floats(self) - own)
        a_channel = sum(own.convolution.kernel.shape[2] + 1 for own in self.outputs)
        if not self.outputs or rest <= 0 or rest % a_channel:
            return None
        return rest // a_channel

    def _set_outputs_aside(self, filters: int) -> None:
        for index, found in enumerate(self._found):
            if isinstance(found, LayerConvolution) and found.norm is None:
                rows, columns, channels, _ = found.convolution.kernel.shape
                variables = (
                    nnx.Variable(jnp.zeros(filters)),
                    nnx.Variable(jnp.zeros((rows, columns, channels, filters))),
                )
                self._found[index] = OutputOfOtherClasses(variables)


def _convolutions(graph: Graph) -> Iterator[LayerConvolution]:
    readers: dict[int, list[Node]] = {}
    for node in graph.nodes:
        for tensor in jax.tree.leaves(node.inputs):
            readers.setdefault(id(tensor), []).append(node)
    for node in graph.nodes:
        layer = node.layer
        if isinstance(layer, Graph):
            yield from _convolutions(layer)
        elif isinstance(layer, Conv2D) and layer.use_bias:
            yield LayerConvolution(layer, None)
        elif isinstance(layer, Conv2D):
            norms = [
                reader.layer
                for reader in readers.get(id(node.outputs), [])
                if isinstance(reader.layer, BatchNormalization)
            ]
            if len(norms) != 1:
                raise ValueError(
                    f"layer {node.name!r} has no bias, and {len(norms)} batch normalisations read "
                    "it; in a Darknet file exactly one does"
                )
            yield LayerConvolution(layer, norms[0])
        elif getattr(layer, "weights", None) and not isinstance(layer, BatchNormalization):
            raise ValueError(
                f"a Darknet file holds convolutions and batch normalisations alone; layer "
                f"{node.name!r} is a {type(layer).__name__}: save to .h5 or .safetensors instead"
            )
