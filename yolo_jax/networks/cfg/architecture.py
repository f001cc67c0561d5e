"""A whole `.cfg` file: its layers in turn, its input and its anchors."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from yolo_jax.core.anchors import AnchorSet
from yolo_jax.networks.cfg.layers import Convolution, Features, Layer, Yolo, read_layer
from yolo_jax.networks.cfg.sections import Section, read_sections

_MOST_WEIGHTS = 2**29  # 2 GB; the largest of darknet's own detectors has an eighth of it


@dataclass(frozen=True)
class Architecture:
    """What a `.cfg` file says a network is.

    Attributes:
        input_shape: (height, width) of [net], px.
        layers: of the sections behind [net], in the file's order.
        heads: numbers of the [yolo] layers, coarse to fine.
        anchors: of the heads.
        num_classes: that each of them scores.
    """

    input_shape: tuple[int, int]
    layers: tuple[Layer, ...]
    heads: tuple[int, ...]
    anchors: AnchorSet
    num_classes: int


def read_cfg(path: Path | str) -> Architecture:
    """Reads a `.cfg` file; nothing is built yet.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no `.cfg` file, or not of a detector that is supported; the message names
            the section and the line.
    """
    net, *sections = read_sections(path)
    image = _image(net)
    layers: list[Layer] = []
    for section in sections:
        layers.append(read_layer(section, layers, image, len(sections)))
    weights = sum(_weights(layer, layers) for layer in layers if isinstance(layer, Convolution))
    if weights > _MOST_WEIGHTS:
        raise net.fault(f"begins a network of {weights} weights; {_MOST_WEIGHTS} are supported")
    heads = _heads(net, layers)
    yolos = [layer for layer in (layers[head] for head in heads) if isinstance(layer, Yolo)]
    num_classes = yolos[0].num_classes
    for yolo, section in zip(yolos, [sections[head] for head in heads], strict=True):
        if yolo.num_classes != num_classes:
            raise section.fault(
                f"has classes={yolo.num_classes}, and the [yolo] on line {yolos[0].line} has "
                f"classes={num_classes}; all must have one number", "classes",
            )  # fmt: skip
    anchors = _anchors(yolos)
    return Architecture(image[:2], tuple(layers), heads, anchors, num_classes)


def _image(net: Section) -> Features:
    if net.whole("channels", 3) != 3:
        raise net.fault("channels: images have the 3 of RGB; others are not supported", "channels")
    height, width = (net.whole(side, least=1) for side in ("height", "width"))
    if height * width > (most := 2**28):
        raise net.fault(f"has an input of {height}×{width} px; {most} px are supported", "height")
    return Features(height, width, 3, Fraction(1))


def _weights(layer: Convolution, layers: Sequence[Layer]) -> int:
    source = layer.sources[0]
    channels = layers[source].features.channels if source >= 0 else 3
    return layer.features.channels * channels // layer.groups * layer.size**2


def _heads(net: Section, layers: Sequence[Layer]) -> tuple[int, ...]:
    heads = [number for number, layer in enumerate(layers) if isinstance(layer, Yolo)]
    if not heads:
        raise net.fault("begins a network without a [yolo] section; a detector ends in one or more")
    return tuple(sorted(heads, key=lambda head: -layers[head].features.stride))


def _anchors(yolos: Sequence[Yolo]) -> AnchorSet:
    """Puts the scales' anchors together; most files give all of them in each [yolo]."""
    first: dict[tuple[tuple[float, float], ...], int] = {}
    sizes: list[tuple[float, float]] = []
    for yolo in yolos:
        if yolo.sizes not in first:
            first[yolo.sizes] = len(sizes)
            sizes += yolo.sizes
    scales = tuple(yolo.xy_scale for yolo in yolos)
    return AnchorSet(
        tuple(sizes),
        tuple(tuple(first[yolo.sizes] + index for index in yolo.mask) for yolo in yolos),
        tuple(int(yolo.features.stride) for yolo in yolos),
        () if all(scale == 1 for scale in scales) else scales,
    )
