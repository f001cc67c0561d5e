"""What an exported model is held against: what `Detector` finds."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from yolo_jax.core.anchors import TINY
from yolo_jax.core.types import Detections
from yolo_jax.data.images import read_image
from yolo_jax.data.letterbox import Letterbox, letterbox
from yolo_jax.detection.decode import Predictions
from yolo_jax.detection.detector import Detector
from yolo_jax.detection.nms import Suppression, non_max_suppression
from yolo_jax.export.program import Program
from yolo_jax.networks.pretrained import PretrainedUnavailable, fetch_pretrained
from yolo_jax.networks.yolov3 import TinyYOLOv3
from yolo_jax.use.opening import Trained, open_network

NAMES = ("ash", "birch", "cedar")
Outputs = Sequence[Any]


class Dog(NamedTuple):
    """The official network, the golden image as its input, and what is found in it."""

    trained: Trained
    pixels: np.ndarray
    place: Letterbox
    found: Detections

    def program(self, *, nms: bool) -> Program:
        """Returns what is exported."""
        return Program(*self.trained, suppression=Suppression() if nms else None)

    def check(self, outputs: Outputs) -> None:
        """Asserts that an exported model's outputs are what is found.

        Within 1e-4: of the image's width and height for boxes, of 1 for scores.
        """
        if len(outputs) == 2:
            raw = Predictions(*(jnp.asarray(output) for output in outputs))
            outputs = non_max_suppression(raw, Suppression())
        boxes, scores, classes = (np.asarray(output)[0] for output in outputs)
        used = classes >= 0
        assert len(self.found.scores) >= 3
        np.testing.assert_array_equal(classes[used], self.found.classes)
        np.testing.assert_allclose(scores[used], self.found.scores, rtol=0, atol=1e-4)
        assert not boxes[~used].any()
        assert not scores[~used].any()
        size = np.asarray(self.place.original[::-1] * 2)
        boxes = self.place.boxes_to_original(boxes[used])
        np.testing.assert_allclose(boxes / size, self.found.boxes / size, rtol=0, atol=1e-4)


@pytest.fixture(scope="session")
def dog(golden) -> Dog:
    try:
        path = fetch_pretrained()
    except PretrainedUnavailable as error:
        pytest.skip(str(error))
    trained = open_network(str(path))
    image = read_image(golden / "dog.jpg")
    pixels, place = letterbox(image, trained.input_shape)
    (found,) = Detector(*trained).detect([image])
    return Dog(trained, pixels[None], place, found)


class Small(NamedTuple):
    """An untrained network of three classes with a small input, and images for it."""

    network: TinyYOLOv3
    images: np.ndarray

    def program(self, **options: Any) -> Program:
        """Returns what is exported."""
        return Program(self.network, TINY, NAMES, (64, 96), **options)

    def check(self, program: Program, run: Callable[[np.ndarray], Outputs], *sizes: int) -> None:
        """Asserts that an exported model gives what the program gives, for batches of sizes."""
        expected = jax.jit(program.__call__)(self.images)
        for rows in sizes:
            outputs = run(self.images[:rows])
            assert len(outputs) == len(program.output_names) == len(expected)
            for output, wanted in zip(outputs, expected, strict=True):
                output, wanted = np.asarray(output), np.asarray(wanted)
                assert output.dtype == wanted.dtype
                # Boxes of untrained networks are up to 2000 px wide.
                np.testing.assert_allclose(output, wanted[:rows], rtol=1e-4, atol=1e-3)


@pytest.fixture(scope="session")
def small() -> Small:
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 96, 3), np.uint8)
    return Small(TinyYOLOv3(3, rngs=nnx.Rngs(1)), images)
