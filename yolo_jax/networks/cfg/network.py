"""The network of a `.cfg` file."""

from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Num

from yolo_jax.core.anchors import AnchorSet
from yolo_jax.core.precision import Precision
from yolo_jax.networks.blocks import ConvBlock, OutputConv, activate, image_to_unit
from yolo_jax.networks.cfg.architecture import Architecture, read_cfg
from yolo_jax.networks.cfg.layers import (
    IMAGE,
    Convolution,
    Layer,
    MaxPool,
    Route,
    Shortcut,
    Upsample,
    Yolo,
)
from yolo_jax.networks.convolution import max_pool, upsample
from yolo_jax.networks.darknet import load_weights
from yolo_jax.networks.normalisation import RowMask
from yolo_jax.networks.yolov3 import check_input_size


class CfgNetwork(nnx.Module):
    """The network that a `.cfg` file describes.

    Args:
        architecture: as `read_cfg` returns it.
        precision: number formats.
        rngs: `params` is drawn from.
    """

    def __init__(
        self, architecture: Architecture, *, precision: Precision | None = None, rngs: nnx.Rngs
    ) -> None:
        self.precision = precision = precision or Precision()
        self.architecture = nnx.static(architecture)
        blocks = []
        for number, layer in enumerate(architecture.layers):
            if isinstance(layer, Convolution):
                blocks.append(_block(architecture, number, layer, precision, rngs))
        self.blocks = nnx.List(blocks)

    @property
    def num_classes(self) -> int:
        """Returns the classes that the heads score."""
        return self.architecture.num_classes

    @property
    def anchors(self) -> AnchorSet:
        """Returns the anchors of the heads, coarse to fine."""
        return self.architecture.anchors

    @property
    def input_shape(self) -> tuple[int, int]:
        """Returns (height, width) of the file's [net], px; other sizes are taken too."""
        return self.architecture.input_shape

    def __call__(
        self, image: Num[Array, "b h w 3"], row_mask: Bool[Array, "b"] | None = None
    ) -> tuple[Float[Array, "b gh gw d"], ...]:
        """Predicts every scale, coarse to fine, in whichever order the file has them.

        Args:
            image: RGB, uint8 or 0–1; height and width are multiples of the coarsest stride.
            row_mask: False marks rows that only fill the batch.

        Returns:
            Raw predictions `[b, h/stride, w/stride, anchors*(5+C)]`, float32.

        Raises:
            ValueError: the input size is no such multiple.
        """
        _, height, width, _ = image.shape
        check_input_size(height, width, max(self.anchors.strides))
        given = {IMAGE: image_to_unit(image, self.precision)}
        blocks = iter(self.blocks)
        for number, layer in enumerate(self.architecture.layers):
            inputs = [given[source] for source in layer.sources]
            if isinstance(layer, Convolution):
                given[number] = _convolve(next(blocks), inputs[0], row_mask)
            else:
                given[number] = _apply(layer, inputs)
        return tuple(given[head].astype(jnp.float32) for head in self.architecture.heads)

    def convolutions(self) -> Sequence[ConvBlock | OutputConv]:
        """Returns the convolutions in the order of the .cfg file."""
        return list(self.blocks)


def empty_cfg_network(cfg: Path | str, *, precision: Precision | None = None) -> CfgNetwork:
    """Builds the network of a `.cfg` file for weights that are read: its own are all 0.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged or not supported; see `read_cfg`.
    """
    architecture = read_cfg(cfg)
    precision = precision or Precision.for_backend()
    network = nnx.eval_shape(
        lambda: CfgNetwork(architecture, precision=precision, rngs=nnx.Rngs(0))
    )
    # Not drawn, which takes longer than reading what takes the draws' place.
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), nnx.state(network))
    nnx.update(network, zeros)
    return network


def load_cfg_network(
    cfg: Path | str, weights: Path | str, *, precision: Precision | None = None
) -> CfgNetwork:
    """Builds the network of a `.cfg` file and reads its `.weights` file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file is damaged or not supported, or the weights are of another network.
    """
    network = empty_cfg_network(cfg, precision=precision)
    load_weights(weights, network)
    return network


def _block(
    architecture: Architecture,
    number: int,
    layer: Convolution,
    precision: Precision,
    rngs: nnx.Rngs,
) -> ConvBlock | OutputConv:
    source = layer.sources[0]
    channels = 3 if source == IMAGE else architecture.layers[source].features.channels
    filters = layer.features.channels
    plain = (layer.size, layer.stride, layer.groups, layer.batch_normalize) == (1, 1, 1, False)
    if plain and layer.activation == "linear" and number + 1 in architecture.heads:
        return OutputConv(channels, filters, precision=precision, rngs=rngs)
    return ConvBlock(
        channels,
        filters,
        layer.size,
        stride=layer.stride,
        padding=layer.padding,
        groups=layer.groups,
        batch_normalize=layer.batch_normalize,
        activation=layer.activation,
        precision=precision,
        rngs=rngs,
    )


def _convolve(
    block: ConvBlock | OutputConv, inputs: Float[Array, "b h w c"], row_mask: RowMask
) -> Float[Array, "b h2 w2 d"]:
    return block(inputs) if isinstance(block, OutputConv) else block(inputs, row_mask)


def _apply(layer: Layer, inputs: Sequence[Float[Array, "b h w c"]]) -> Float[Array, "b h2 w2 d"]:
    """Applies a layer without weights."""
    match layer:
        case MaxPool():
            return max_pool(inputs[0], layer.size, layer.stride, layer.padding)
        case Upsample():
            return upsample(inputs[0] * layer.scale, layer.stride)
        case Route():
            parts = [jnp.split(taken, layer.groups, axis=-1)[layer.group_id] for taken in inputs]
            return jnp.concatenate(parts, axis=-1)
        case Shortcut():
            return activate(sum(inputs[1:], inputs[0]), layer.activation)
        case Yolo():
            return inputs[0]
        case _:
            raise TypeError(f"{type(layer).__name__} is not a layer without weights")
