"""A network with all that turns images into detections."""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import UInt8

from yolo_jax.core.anchors import AnchorSet
from yolo_jax.core.types import Batch, Detections
from yolo_jax.data.letterbox import Letterbox, letterbox, letterbox_darknet, letterbox_geometry
from yolo_jax.detection.decode import decode
from yolo_jax.detection.nms import Suppression, non_max_suppression
from yolo_jax.networks.blocks import prepare_to_infer


class Detector:
    """A network with all that turns images into detections.

    Args:
        network: called with a batch of images, returns its heads, coarse to fine.
        anchors: of the network.
        class_names: name of each class index.
        input_shape: (height, width) of the network's input, px.
        darknet: letterbox as the darknet program does.
        score_threshold: detections score more than this.
        iou_threshold: overlap above which the lower score of a class goes.

    Raises:
        ValueError: a threshold lies outside 0 to 1.
    """

    def __init__(
        self,
        network: nnx.Module,
        anchors: AnchorSet,
        class_names: Sequence[str],
        input_shape: tuple[int, int],
        *,
        darknet: bool = False,
        score_threshold: float = 0.25,
        iou_threshold: float = 0.45,
    ) -> None:
        how = Suppression(score_threshold, iou_threshold)
        self.class_names, self.input_shape = tuple(class_names), input_shape
        self.anchors = anchors
        self._letterbox = letterbox_darknet if darknet else letterbox
        graphdef, self._state = nnx.split(prepare_to_infer(network))

        def run(state: Any, images: jax.Array) -> Detections:
            heads = nnx.merge(graphdef, state, copy=True)(images)
            return non_max_suppression(decode(heads, anchors), how)

        self._run = jax.jit(run)

    def take_weights(self, network: nnx.Module) -> None:
        """Goes on with the weights of another network of the same structure."""
        self._state = nnx.split(prepare_to_infer(network))[1]

    def detect(
        self, images: Sequence[UInt8[np.ndarray, "h w 3"]], *, batch_size: int = 8
    ) -> list[Detections]:
        """Finds the objects of RGB images of any sizes.

        Returns:
            For each image its detections, best score first, boxes in its own pixels.
        """
        found: list[Detections] = []
        for start in range(0, len(images), batch_size):
            fitted = [self._letterbox(i, self.input_shape) for i in images[start:][:batch_size]]
            # One executable serves all batches: the last is filled up by its first image.
            pixels = [pixels for pixels, _ in fitted]
            pixels += pixels[:1] * (min(batch_size, len(images)) - len(pixels))
            result = jax.device_get(self._run(self._state, np.stack(pixels)))
            found += [_original(result, row, place) for row, (_, place) in enumerate(fitted)]
        return found

    def detect_batches(self, batches: Iterator[Batch]) -> dict[int, Detections]:
        """Finds the objects of a loader's batches; by image_id, in pixels of the original."""
        found: dict[int, Detections] = {}
        for batch in batches:
            result = jax.device_get(self._run(self._state, batch.image))
            for row, image_id in enumerate(np.asarray(batch.image_id)):
                if image_id >= 0:
                    height, width = map(int, batch.original_size[row])
                    place = letterbox_geometry((height, width), self.input_shape)
                    found[int(image_id)] = _original(result, row, place)
        return found


def _original(result: Detections, row: int, place: Letterbox) -> Detections:
    """Returns one image's detections without padding, in pixels of the original."""
    used = result.classes[row] >= 0
    boxes = place.boxes_to_original(np.asarray(result.boxes[row])[used])
    return Detections(boxes, result.scores[row][used], result.classes[row][used])
