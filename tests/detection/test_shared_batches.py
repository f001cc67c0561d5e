"""A loader's batches, shared among devices: neither their number nor a batch's size changes a box.

How many rows a device gets decides which programs XLA makes, whose sums may differ in the last bit;
of the same program the numbers are the same.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from yolo_jax.core.anchors import TINY
from yolo_jax.core.precision import Precision
from yolo_jax.core.types import Batch, Detections
from yolo_jax.data.letterbox import letterbox
from yolo_jax.detection.detector import Detector
from yolo_jax.detection.nms import Suppression
from yolo_jax.networks.blocks import ConvBlock, OutputConv

SHAPES = [(50, 80), (64, 64), (30, 90), (64, 96), (96, 64), (40, 40), (64, 50), (70, 70), (33, 65)]
NAMES = ("ash", "birch", "cedar")


class Small(nnx.Module):
    """A network of a few hundred weights, at the strides of tiny."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        how: dict = {"precision": Precision(), "rngs": rngs}
        self.body = nnx.List(
            [ConvBlock(3 if i == 0 else 8, 8, 3, stride=2, **how) for i in range(5)]
        )
        self.heads = nnx.List([OutputConv(8, 3 * (5 + len(NAMES)), **how) for _ in range(2)])

    def __call__(self, image: jax.Array) -> list[jax.Array]:
        scales = [image.astype(jnp.float32) / 255]
        for block in self.body:
            scales.append(block(scales[-1]))
        return [head(scales[-1 - i]) for i, head in enumerate(self.heads)]


def batches(size: int) -> list[Batch]:
    """Returns nine images in batches, whose last has fewer rows where they do not divide."""
    generator = np.random.default_rng(0)
    pixels = [letterbox(generator.integers(0, 256, (*s, 3), np.uint8), (64, 64))[0] for s in SHAPES]
    return [
        Batch(
            image=np.stack(pixels[start : start + size]),
            boxes=np.zeros((len(SHAPES[start : start + size]), 1, 4), np.float32),
            classes=np.full((len(SHAPES[start : start + size]), 1), -1, np.int32),
            image_id=np.arange(len(SHAPES))[start : start + size],
            original_size=np.asarray(SHAPES[start : start + size], np.int32),
        )
        for start in range(0, len(SHAPES), size)
    ]


def detector() -> Detector:
    return Detector(Small(nnx.Rngs(1)), TINY, NAMES, (64, 64), suppression=Suppression(0.2))


@pytest.fixture(scope="module")
def shared() -> Detector:
    """Returns one on the eight devices of the tests."""
    return detector()


@pytest.fixture(scope="module")
def single() -> Detector:
    """Returns one on a single device."""
    with jax.default_device(jax.devices()[0]):
        return detector()


@pytest.fixture(scope="module")
def alone(single: Detector) -> dict[int, Detections]:
    return single.detect_batches(batches(1))


@pytest.mark.parametrize("size", [1, 3, 8])
def test_eight_devices_find_what_one_finds(shared, alone, size):
    assert jax.device_count() == 8
    found = shared.detect_batches(iter(batches(size)))
    assert found.keys() == alone.keys() == set(range(len(SHAPES)))
    assert all(len(one.scores) > 3 for one in alone.values())
    for key, one in found.items():
        jax.tree.map(np.testing.assert_array_equal, one, alone[key])
    assert shared._run_shared._cache_size() == 1  # the last batch, of fewer rows, too


@pytest.mark.parametrize("size", [3, 8])
def test_a_batch_of_several_rows_on_one_device(single, alone, size):
    found = single.detect_batches(batches(size))
    assert found.keys() == alone.keys()
    for key, one in found.items():
        np.testing.assert_array_equal(one.classes, alone[key].classes)
        np.testing.assert_allclose(one.boxes, alone[key].boxes, atol=1e-3)
        np.testing.assert_allclose(one.scores, alone[key].scores, atol=1e-6)


def test_rows_of_padding_are_nobodys(shared, alone):
    first = batches(8)[0]
    ids = np.where(first.image_id % 2, first.image_id, -1)
    found = shared.detect_batches([first._replace(image_id=ids)])
    assert found.keys() == {1, 3, 5, 7}
    for key, one in found.items():
        jax.tree.map(np.testing.assert_array_equal, one, alone[key])
    assert shared.detect_batches([]) == {}


def test_a_batch_is_fetched_when_the_next_is_on_its_way(shared, monkeypatch):
    events, run, get = [], shared._run_shared, jax.device_get
    monkeypatch.setattr(shared, "_run_shared", lambda *a: (events.append("run"), run(*a))[1])
    monkeypatch.setattr(jax, "device_get", lambda tree: (events.append("get"), get(tree))[1])
    shared.detect_batches(batches(3))
    assert events == ["run", "run", "get", "run", "get", "get"]
