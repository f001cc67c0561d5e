from dataclasses import dataclass, field

import numpy as np
import pytest
from flax import nnx

from yolo_jax.core.precision import Precision
from yolo_jax.networks.blocks import ConvBlock, OutputConv
from yolo_jax.networks.darknet import (
    count_floats,
    load_first_weights,
    load_weights,
    save_weights,
    transfer_heads,
)
from yolo_jax.networks.yolov3 import TinyYOLOv3

HEADER = np.array([0, 2, 0], "<i4").tobytes() + np.array([5_000_000_000], "<u8").tobytes()


@dataclass
class Small:
    """The least that has both kinds of convolution: 3 → 4 batch-normalised, 4 → 3·(5 + C)."""

    num_classes: int
    seed: int = 0
    parts: list = field(default_factory=list)

    def __post_init__(self):
        draw = {"precision": Precision(), "rngs": nnx.Rngs(self.seed)}
        outputs = 3 * (5 + self.num_classes)
        self.parts = [ConvBlock(3, 4, 3, **draw), OutputConv(4, outputs, **draw)]

    def convolutions(self):
        return self.parts

    def values(self):
        block, output = self.parts
        norm = block.norm
        kept = (
            norm.bias,
            norm.scale,
            norm.mean,
            norm.var,
            block.kernel,
            output.bias,
            output.kernel,
        )
        return [np.array(part[...]) for part in kept]


def floats(count, seed=0):
    return np.random.default_rng(seed).standard_normal(count).astype("<f4")


def small_file(tmp_path, values, header=HEADER):
    path = tmp_path / "small.weights"
    path.write_bytes(header + np.asarray(values, "<f4").tobytes())
    return path


def test_tiny_round_trip_keeps_every_byte(tmp_path):
    network = TinyYOLOv3(2, rngs=nnx.Rngs(0))
    values = floats(count_floats(network))
    path, copy = tmp_path / "in.weights", tmp_path / "out.weights"
    path.write_bytes(HEADER + values.tobytes())
    seen = load_weights(path, network)
    assert seen == 5_000_000_000
    save_weights(copy, network, seen=seen)
    assert copy.read_bytes() == path.read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["in.weights", "out.weights"]

    first = network.body.blocks[0]
    parts = (first.norm.bias, first.norm.scale, first.norm.mean, first.norm.var)
    for index, part in enumerate(parts):
        np.testing.assert_array_equal(part[...], values[16 * index : 16 * (index + 1)])
    kernel = values[64 : 64 + 16 * 27].reshape(16, 3, 3, 3)
    np.testing.assert_array_equal(first.kernel[2, 0, 1], kernel[:, 1, 2, 0])
    last = network.fine_output.kernel[0, 0]
    np.testing.assert_array_equal(last.T.reshape(-1), values[-last.size :])


def test_the_first_convolutions_alone(tmp_path):
    """As yolov3-tiny.conv.15 has them, which has no layer that goes with the classes."""
    network, whole = TinyYOLOv3(2, rngs=nnx.Rngs(0)), TinyYOLOv3(2, rngs=nnx.Rngs(1))
    save_weights(path := tmp_path / "whole.weights", whole)
    data, sizes = (
        path.read_bytes(),
        [sum(part.size for part in one.darknet_parts()) for one in whole.convolutions()],
    )
    for count in (1, 9):
        path.write_bytes(data[: 20 + 4 * sum(sizes[:count])])
        assert load_first_weights(path, network) == count
        for index, (ours, theirs) in enumerate(
            zip(network.convolutions(), whole.convolutions(), strict=True)
        ):
            same = np.array_equal(ours.kernel[...], theirs.kernel[...])
            assert same == (index < count)
    before = [np.array(conv.kernel[...]) for conv in network.convolutions()]
    # Behind an output, amid a convolution, nothing at all, and all.
    for floats_of_it in (sum(sizes[:10]), sum(sizes[:3]) + 1, 0, sum(sizes)):
        path.write_bytes(data[: 20 + 4 * floats_of_it])
        with pytest.raises(ValueError, match=f"holds {floats_of_it} floats .* nor its first"):
            load_first_weights(path, network)
    path.write_bytes(data[:20] + np.full(sizes[0], np.nan, "<f4").tobytes())
    with pytest.raises(ValueError, match="holds nan as float 0"):
        load_first_weights(path, network)
    for old, conv in zip(before, network.convolutions(), strict=True):
        np.testing.assert_array_equal(conv.kernel[...], old)


def test_an_old_header_counts_images_in_32_bits(tmp_path):
    network = Small(1)
    header = np.array([0, 1, 0, 77], "<i4").tobytes()
    values = floats(count_floats(network))
    assert load_weights(small_file(tmp_path, values, header), network) == 77
    np.testing.assert_array_equal(network.values()[0], values[:4])


def bad(values, change):
    values = values.copy()
    match change:
        case "first":
            return values[:50]
        case "last":
            return values[:-1]
        case "long":
            return np.append(values, 1)
        case _:
            values[9] = np.nan
            return values


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("first", r"convolution 0 of 2 .* holds 50 floats .* 1 classes takes 214"),
        ("last", r"convolution 1 of 2 .* holds 213 floats .* takes 214"),
        ("long", r"goes on after convolution 1.* holds 215 floats .* takes 214"),
        ("damaged", r"holds nan as float 9"),
    ],
)
def test_a_file_that_does_not_fit_leaves_the_network_alone(tmp_path, change, message):
    network = Small(1)
    before = network.values()
    path = small_file(tmp_path, bad(floats(count_floats(network)), change))
    with pytest.raises(ValueError, match=message) as raised:
        load_weights(path, network)
    assert str(path) in str(raised.value)
    for old, new in zip(before, network.values(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(("of", "into"), [(1, 3), (3, 1)])
def test_a_file_of_another_number_of_classes(tmp_path, of, into):
    path = small_file(tmp_path, floats(count_floats(Small(of))))
    with pytest.raises(ValueError, match=f"Small with {into} classes.*number of classes"):
        load_weights(path, Small(into))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "has 0 bytes, fewer than the header .* it is empty"),
        (b"short", "5 bytes, fewer than the header"),
        (b"<!DOCTYPE html><html>..", "does not start as a Darknet weights file"),
        (HEADER + b"abc", "not a header of 20 and whole float32"),
        (HEADER[:16], "not a header of 20"),
    ],
)
def test_what_is_no_weights_file(tmp_path, data, message):
    path = tmp_path / "x.weights"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message):
        load_weights(path, Small(1))


def test_transfer_keeps_boxes_and_objectness(tmp_path):
    source, target = Small(2, seed=1), Small(4, seed=2)
    load_weights(small_file(tmp_path, floats(count_floats(source))), source)
    drawn = target.values()
    transfer_heads(source, target)
    old, new = source.values(), target.values()
    for expected, found in zip(old[:5], new[:5], strict=True):
        np.testing.assert_array_equal(found, expected)
    for expected, before, found in zip(old[5:], drawn[5:], new[5:], strict=True):
        rows = found.reshape(-1, 3, 9)
        np.testing.assert_array_equal(rows[..., :5], expected.reshape(-1, 3, 7)[..., :5])
        np.testing.assert_array_equal(rows[..., 5:], before.reshape(-1, 3, 9)[..., 5:])


def test_transfer_wants_one_kind_of_network():
    longer = Small(1)
    longer.parts = longer.parts * 2
    with pytest.raises(ValueError, match="cannot copy"):
        transfer_heads(longer, Small(1))


@pytest.mark.parametrize("change", ["shape", "kind"])
def test_transfer_between_networks_that_are_not_alike_changes_nothing(change):
    source, target = Small(1), Small(2)
    draw = {"precision": Precision(), "rngs": nnx.Rngs(0)}
    if change == "shape":  # as many convolutions, of another size
        source.parts[0] = ConvBlock(3, 4, 1, **draw)
    else:
        source.parts[1] = ConvBlock(4, 18, 1, **draw)
    before = target.values()
    with pytest.raises(
        ValueError, match=r"Small with 1 classes into Small with 2 .* differ in more"
    ):
        transfer_heads(source, target)
    for old, new in zip(before, target.values(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_path_that_is_no_file(tmp_path):
    for path, said in (
        (tmp_path, "is a directory, not a weights file"),
        (tmp_path / ("x" * 300), "x{300} cannot be opened: File name too long"),
        (tmp_path / "a\0b", r"a\\x00b' is not a path that a file can have"),
    ):
        with pytest.raises(ValueError, match=said):
            load_weights(path, Small(1))
    with pytest.raises(FileNotFoundError, match=r"gone\.weights"):
        load_weights(tmp_path / "gone.weights", Small(1))


def test_where_no_file_can_be_written(tmp_path):
    with pytest.raises(ValueError, match="is a folder; name the file"):
        save_weights(tmp_path, Small(1))
    with pytest.raises(FileNotFoundError, match=r"no folder .*gone to write x\.weights in"):
        save_weights(tmp_path / "gone" / "x.weights", Small(1))


def test_a_write_that_fails_leaves_the_old_file_and_no_part_of_a_new_one(tmp_path):
    class Broken(Small):
        def convolutions(self):
            yield self.parts[0]
            raise RuntimeError("lost")

    path = tmp_path / "x.weights"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="lost"):
        save_weights(path, Broken(1))
    assert [file.name for file in tmp_path.iterdir()] == ["x.weights"]
    assert path.read_bytes() == b"old"
