"""Darknet's `.weights` files: read into a network, written from one; heads for other classes.

Layout (darknet's parser.c): int32 major, minor, revision; images seen, uint64 from version 0.2 on,
else uint32; then float32 in the order of the .cfg. A batch-normalised convolution holds bias
(beta), scale (gamma), moving mean, moving variance, kernel; a plain one holds bias, kernel.
Kernels are [filters, channels, rows, columns].
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float

from yolo_jax.core.files import open_file, write_whole
from yolo_jax.networks.blocks import OutputConv

_VERSION = (0, 2, 0)


class DarknetConvolution(Protocol):
    """What this file needs of a convolution."""

    def darknet_parts(self) -> Sequence[nnx.Variable]:
        """Returns the variables in the file's order; the kernel, the last, is HWIO."""
        ...


class DarknetNetwork(Protocol):
    """What this file needs of a network."""

    @property
    def num_classes(self) -> int:
        """Returns the classes that the outputs score."""
        ...

    def convolutions(self) -> Sequence[DarknetConvolution]:
        """Returns the convolutions in the order of the .cfg file."""
        ...


def count_floats(network: DarknetNetwork) -> int:
    """Returns how many float32 a weights file of this network holds after its header."""
    return sum(part.size for conv in network.convolutions() for part in conv.darknet_parts())


def load_weights(path: Path | str, network: DarknetNetwork) -> int:
    """Reads a `.weights` file into a network.

    Args:
        path: of the file.
        network: a YOLOv3 or TinyYOLOv3 with the file's number of classes; filled in place, and
            left as it was when the file does not fit.

    Returns:
        The number of images the file says it was trained on.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read, is cut short, too long, damaged, or of another network;
            the message names the convolution and the numbers of floats.
    """
    path = Path(path)
    seen, values = read_floats(path)
    arrays, offset = [], 0
    convolutions = network.convolutions()
    for index, convolution in enumerate(convolutions):
        for part in convolution.darknet_parts():
            size = part[...].size
            if offset + size > len(values):
                expected = count_floats(network)
                raise ValueError(
                    f"{path} ends in convolution {index} of {len(convolutions)} (counted from 0): "
                    f"it holds {len(values)} floats after its header, and {_describe(network)} "
                    f"takes {expected}. The file is cut short, or of another network or number of "
                    "classes."
                )
            arrays.append(values[offset : offset + size])
            offset += size
    if offset < len(values):
        raise ValueError(
            f"{path} goes on after convolution {len(convolutions) - 1}, the last: it holds "
            f"{len(values)} floats after its header, and {_describe(network)} takes {offset}. "
            "The file is of another network or number of classes."
        )
    _check_finite(path, values)
    remaining = iter(arrays)
    for convolution in convolutions:
        for part in convolution.darknet_parts():
            _assign(part, next(remaining))
    return seen


def load_first_weights(path: Path | str, network: DarknetNetwork) -> int:
    """Reads a file of a network's first convolutions, such as `darknet53.conv.74`.

    So darknet's `partial` cuts a file off: behind a layer, before those whose shape goes with the
    classes.

    Args:
        path: of the file.
        network: whose first convolutions are filled in place; those behind stay as they are, as do
            all when the file does not fit.

    Returns:
        The number of convolutions that the file holds.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read, is damaged, or ends amid a convolution or not before
            an output.
    """
    path = Path(path)
    _, values = read_floats(path)
    pairs, offset = [], 0
    for index, convolution in enumerate(network.convolutions()):
        if offset == len(values) and index:
            _check_finite(path, values)
            for part, own in pairs:
                _assign(part, own)
            return index
        if isinstance(convolution, OutputConv):
            break
        for part in convolution.darknet_parts():
            pairs.append((part, values[offset : offset + part.size]))
            offset += part.size
    raise ValueError(
        f"{path} holds {len(values)} floats after its header, which neither {_describe(network)} "
        f"takes ({count_floats(network)}) nor its first convolutions up to any before an output; "
        "the file is cut short, or of another network or number of classes"
    )


def _check_finite(path: Path, values: Float[np.ndarray, "n"]) -> None:
    if not np.isfinite(values).all():
        bad = int(np.flatnonzero(~np.isfinite(values))[0])
        raise ValueError(
            f"{path} holds {values[bad]} as float {bad} (counted from 0) after its header; it is "
            "damaged, or of a training that diverged: take another"
        )


def save_weights(path: Path | str, network: DarknetNetwork, *, seen: int = 0) -> None:
    """Writes a network as a `.weights` file that darknet reads.

    Args:
        path: of the file; replaced when it exists.
        network: a YOLOv3 or TinyYOLOv3.
        seen: images trained on, for the header.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: the path is a folder.
    """
    with write_whole(Path(path)) as partial, partial.open("wb") as file:
        file.write(np.asarray(_VERSION, "<i4").tobytes())
        file.write(np.asarray([seen], "<u8").tobytes())
        for convolution in network.convolutions():
            for part in convolution.darknet_parts():
                value = np.asarray(part[...], "<f4")
                if value.ndim == 4:
                    value = value.transpose(3, 2, 0, 1)
                file.write(value.tobytes())


def transfer_heads(source: DarknetNetwork, target: DarknetNetwork) -> None:
    """Copies a network into one with other classes: all but the rows of the class scores.

    The four box rows and the objectness row of every anchor are kept; the class rows of `target`
    stay as they were drawn.

    Args:
        source: a network of the same kind as `target`, with any number of classes.
        target: filled in place.

    Raises:
        ValueError: the two are not of one kind; the target is left as it was.
    """
    if _kept_shapes(source) != _kept_shapes(target):
        raise ValueError(
            f"cannot copy {_describe(source)} into {_describe(target)}: they differ in more than "
            "their classes"
        )
    for from_conv, to_conv in zip(source.convolutions(), target.convolutions(), strict=True):
        for from_part, to_part in zip(
            from_conv.darknet_parts(), to_conv.darknet_parts(), strict=True
        ):
            if isinstance(to_conv, OutputConv):
                old = _by_anchor(from_part, source.num_classes)
                new = _by_anchor(to_part, target.num_classes).copy()
                new[..., :5] = old[..., :5]
                to_part[...] = jnp.asarray(new.reshape(to_part[...].shape))
            else:
                to_part[...] = from_part[...]


def _kept_shapes(network: DarknetNetwork) -> list[list[tuple[int, ...]]]:
    """Returns the shapes of each convolution's parts; of an output's, those without the classes."""
    return [
        [
            _by_anchor(part, network.num_classes).shape[:-1]
            if isinstance(convolution, OutputConv)
            else part[...].shape
            for part in convolution.darknet_parts()
        ]
        for convolution in network.convolutions()
    ]


def _by_anchor(part: nnx.Variable, num_classes: int) -> Float[np.ndarray, "... a k"]:
    """Splits an output convolution's last axis of d = a·(5 + C) in two: anchors, k = 5 + C."""
    # On the host: on a device each shape of each of these operations is a program to load.
    values = np.asarray(part[...])
    return values.reshape(*values.shape[:-1], -1, 5 + num_classes)


def read_floats(path: Path) -> tuple[int, Float[np.ndarray, "n"]]:
    """Returns the images seen and the floats behind the header.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read, is cut short, or is no weights file.
    """
    with open_file(path, "a weights file") as file:
        data = file.read()
    if len(data) < 16:
        raise ValueError(
            f"{path} has {len(data)} bytes, fewer than the header of a weights file; "
            "it is empty, cut short or not a Darknet weights file"
        )
    major, minor, _ = np.frombuffer(data, "<i4", 3)
    if not (0 <= major < 1000 and 0 <= minor < 1000):
        raise ValueError(
            f"{path} does not start as a Darknet weights file: its version reads {major}.{minor}, "
            "not two numbers below 1000"
        )
    wide = major * 10 + minor >= 2
    header = 20 if wide else 16
    if (len(data) - header) % 4 or len(data) < header:
        raise ValueError(
            f"{path} has {len(data)} bytes: not a header of {header} and whole float32 values; "
            "it is cut short or not a Darknet weights file"
        )
    seen = int(np.frombuffer(data, "<u8" if wide else "<u4", 1, offset=12)[0])
    return seen, np.frombuffer(data, "<f4", offset=header)


def _assign(part: nnx.Variable, values: Float[np.ndarray, "n"]) -> None:
    shape = part[...].shape
    if len(shape) == 4:
        rows, columns, channels, filters = shape
        values = values.reshape(filters, channels, rows, columns).transpose(2, 3, 1, 0)
    part[...] = jnp.asarray(np.ascontiguousarray(values).reshape(shape), part[...].dtype)


def _describe(network: DarknetNetwork) -> str:
    return f"{type(network).__name__} with {network.num_classes} classes"
