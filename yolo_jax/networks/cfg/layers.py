"""The sections of a `.cfg` file as layers: what each takes, and the features it makes of them.

Source: darknet's parser.c, and that of the darknet that came with YOLOv4 for route's groups,
shortcuts from several layers and scale_x_y. Defaults are darknet's, but for what says what the
network is, which must be there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from yolo_jax.networks.blocks import ACTIVATIONS
from yolo_jax.networks.cfg.options import check_options
from yolo_jax.networks.cfg.sections import Section

IMAGE = -1  # stands among the layers' numbers for what the network is given
_MOST_VALUES = 2**31 - 1  # darknet's int


class Features(NamedTuple):
    """What a layer gives for the input size of [net].

    Attributes:
        height: rows.
        width: columns.
        channels: of each place.
        stride: pixels of the input from place to place, as the graph has it; it may be below 1.
    """

    height: int
    width: int
    channels: int
    stride: Fraction


@dataclass(frozen=True)
class Layer:
    """A layer of any kind.

    Attributes:
        sources: numbers of the layers whose features it takes, or `IMAGE`.
        features: that it gives.
    """

    sources: tuple[int, ...]
    features: Features


@dataclass(frozen=True)
class Convolution(Layer):
    """A [convolutional]; see `ConvBlock`. Its filters are the channels of its features.

    A 1×1 kernel heeds its stride, as in YOLOv4's darknet; that of 2018 forgets it in computing.
    """

    size: int
    stride: int
    padding: int
    groups: int
    batch_normalize: bool
    activation: str


@dataclass(frozen=True)
class MaxPool(Layer):
    """A [maxpool]; see `convolution.max_pool`."""

    size: int
    stride: int
    padding: int


@dataclass(frozen=True)
class Upsample(Layer):
    """An [upsample]: pixels repeated `stride` times both ways, and multiplied by `scale`."""

    stride: int
    scale: float


@dataclass(frozen=True)
class Route(Layer):
    """A [route]: of each source's channels, cut in `groups`, part `group_id`, in turn."""

    groups: int
    group_id: int


@dataclass(frozen=True)
class Shortcut(Layer):
    """A [shortcut]: the sum of its sources, the layer before it first, and an activation."""

    activation: str


@dataclass(frozen=True)
class Yolo(Layer):
    """A [yolo]: predictions of a scale, read from the features of the layer before it.

    Attributes:
        line: of the section.
        sizes: (width, height) of all anchors, px.
        mask: indices into `sizes` of the scale's own.
        num_classes: C.
        xy_scale: YOLOv4's scale_x_y.
    """

    line: int
    sizes: tuple[tuple[float, float], ...]
    mask: tuple[int, ...]
    num_classes: int
    xy_scale: float


def read_layer(section: Section, before: Sequence[Layer], image: Features, count: int) -> Layer:
    """Reads a section.

    Args:
        section: other than [net].
        before: the layers of the sections before it.
        image: the network's input.
        count: how many layers the file has.

    Raises:
        ValueError: an option is missing, of another type or unknown, names a layer that is not
            before this one, or does not fit the features it is given; or it changes what the
            network computes in a way that is not supported. The message names the line.
    """
    check_options(section)
    if section.kind == "route":
        layer = _route(section, before, count)
    else:
        previous = _features(section, "", len(before) - 1, before, image)
        match section.kind:
            case "convolutional":
                layer = _convolution(section, len(before) - 1, previous)
            case "maxpool":
                layer = _max_pool(section, len(before) - 1, previous)
            case "upsample":
                layer = _upsample(section, len(before) - 1, previous)
            case "shortcut":
                layer = _shortcut(section, before, previous, count)
            case _:
                layer = _yolo(section, len(before) - 1, previous, image)
    height, width, channels, stride = layer.features
    if max(stride.numerator, stride.denominator) > _MOST_VALUES:
        # Fractions of thousands of digits would take minutes.
        raise section.fault(
            f"has a stride of {stride} px in the graph; darknet counts to {_MOST_VALUES}"
        )
    if min(height, width) < 1:
        raise section.fault("leaves no features: its windows are larger than what it is given")
    if height * width * channels > _MOST_VALUES:
        raise section.fault(
            f"gives {height}×{width}×{channels} values; darknet counts to {_MOST_VALUES}"
        )
    return layer


def _convolution(section: Section, source: int, given: Features) -> Convolution:
    filters = section.whole("filters", least=1)
    size, stride = section.whole("size", 1, least=1), section.whole("stride", 1, least=1)
    groups = section.whole("groups", 1, least=1)
    padding = size // 2 if section.whole("pad", 0) else section.whole("padding", 0)
    if given.channels % groups or filters % groups:
        raise section.fault(
            f"groups={groups} divides not both its {given.channels} input channels and its "
            f"{filters} filters", "groups",
        )  # fmt: skip
    if padding >= size:
        raise section.fault(f"padding={padding} has windows of size {size} see it alone", "padding")
    if filters * given.channels // groups * size**2 > _MOST_VALUES:
        raise section.fault(f"has a kernel of more weights than darknet counts, {_MOST_VALUES}")
    return Convolution(
        (source,),
        Features(
            (given.height + 2 * padding - size) // stride + 1,
            (given.width + 2 * padding - size) // stride + 1,
            filters,
            given.stride * stride,
        ),
        size,
        stride,
        padding,
        groups,
        section.whole("batch_normalize", 0) > 0,
        section.choice("activation", "logistic", ACTIVATIONS),
    )


def _max_pool(section: Section, source: int, given: Features) -> MaxPool:
    stride = section.whole("stride", 1, least=1)
    size = section.whole("size", stride, least=1)
    padding = section.whole("padding", size - 1)
    if padding > 2 * (size - 1):
        raise section.fault(
            f"padding={padding} has windows of size {size} beyond the border", "padding"
        )
    height, width = ((side + padding - size) // stride + 1 for side in given[:2])
    features = Features(height, width, given.channels, given.stride * stride)
    return MaxPool((source,), features, size, stride, padding)


def _upsample(section: Section, source: int, given: Features) -> Upsample:
    stride = section.whole("stride", 2, least=1)
    height, width = stride * given.height, stride * given.width
    features = Features(height, width, given.channels, given.stride / stride)
    return Upsample((source,), features, stride, section.number("scale", 1.0))


def _route(section: Section, before: Sequence[Layer], count: int) -> Route:
    sources = _references(section, "layers", len(before), count)
    groups = section.whole("groups", 1, least=1)
    group_id = section.whole("group_id", 0)
    if group_id >= groups:
        raise section.fault(
            f"group_id={group_id} is not among its {groups} groups, counted from 0", "group_id"
        )
    taken = [_features(section, "layers", source, before) for source in sources]
    for source, features in zip(sources, taken, strict=True):
        if features[:2] != taken[0][:2]:
            raise section.fault(
                f"joins layer {sources[0]} of {_size(taken[0])} and layer {source} of "
                f"{_size(features)}; they must have one size", "layers",
            )  # fmt: skip
        if features.channels % groups:
            raise section.fault(
                f"groups={groups} does not divide the {features.channels} channels of layer "
                f"{source}", "groups",
            )  # fmt: skip
    channels = sum(features.channels // groups for features in taken)
    return Route(sources, taken[0]._replace(channels=channels), groups, group_id)


def _shortcut(section: Section, before: Sequence[Layer], given: Features, count: int) -> Shortcut:
    sources = _references(section, "from", len(before), count)
    for source in sources:
        added = _features(section, "from", source, before)
        if added[:3] != given[:3]:
            raise section.fault(
                f"adds layer {source}, {_size(added)}×{added.channels}, to the layer before it, "
                f"{_size(given)}×{given.channels}; only features of one shape are added", "from",
            )  # fmt: skip
    activation = section.choice("activation", "linear", ACTIVATIONS)
    return Shortcut((len(before) - 1, *sources), given, activation)


def _yolo(section: Section, source: int, given: Features, image: Features) -> Yolo:
    numbers = section.numbers("anchors")
    if len(numbers) % 2 or min(numbers) <= 0:
        raise section.fault(
            f"anchors has {len(numbers)} numbers; expected a width and a height above 0 for each",
            "anchors",
        )
    sizes = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    if (count := section.whole("num", len(sizes))) != len(sizes):
        raise section.fault(f"num={count}, and anchors has {len(sizes)}", "num")
    mask = section.wholes("mask", tuple(range(len(sizes))))
    if not all(0 <= index < len(sizes) for index in mask):
        raise section.fault(f"mask names an anchor that is not among its {len(sizes)}", "mask")
    num_classes = section.whole("classes", least=1)
    if given.channels != (expected := len(mask) * (5 + num_classes)):
        raise section.fault(
            f"takes {len(mask)} anchors · (5 + {num_classes} classes) = {expected} channels, and "
            f"the layer before it gives {given.channels}: set its filters={expected}"
        )
    if given.stride.denominator > 1 or any(
        given.stride * cells != side for cells, side in zip(given[:2], image[:2], strict=True)
    ):
        raise section.fault(
            f"has {_size(given)} cells of {given.stride} px for an input of {_size(image)} px, "
            "which they do not fill: make [net]'s height and width multiples of them"
        )
    xy_scale = section.number("scale_x_y", 1.0)
    return Yolo((source,), given, section.line, sizes, mask, num_classes, xy_scale)


def _references(section: Section, option: str, index: int, count: int) -> tuple[int, ...]:
    """Returns the numbers of the layers that an option names; below 0 they count backwards."""
    found = []
    for value in section.wholes(option):
        layer = index + value if value < 0 else value
        if not 0 <= layer < count:
            raise section.fault(
                f"{option}: there is no layer {layer} ({value} of layer {index}); the file has "
                f"the layers 0 to {count - 1}", option,
            )  # fmt: skip
        if layer >= index:
            raise section.fault(
                f"{option}: layer {index} takes layer {layer}, which is not before it: that is a "
                "cycle", option,
            )  # fmt: skip
        found.append(layer)
    return tuple(found)


def _features(
    section: Section,
    option: str,
    source: int,
    before: Sequence[Layer],
    image: Features | None = None,
) -> Features:
    """Returns what a layer gives; a [yolo] gives nothing that another could take."""
    if source == IMAGE and image is not None:
        return image
    if isinstance(before[source], Yolo):
        raise section.fault(
            f"takes layer {source}, a [yolo], which is an end: begin with a [route] from another",
            option,
        )
    return before[source].features


def _size(features: Features) -> str:
    return f"{features.height}×{features.width}"
