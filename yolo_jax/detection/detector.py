"""A network with all that turns images into detections."""

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import UInt8

from yolo_jax.core.anchors import AnchorSet
from yolo_jax.core.types import Batch, Detections
from yolo_jax.data.letterbox import Letterbox, letterbox, letterbox_darknet, letterbox_geometry
from yolo_jax.detection.decode import decode
from yolo_jax.detection.nms import non_max_suppression
from yolo_jax.networks.blocks import prepare_to_infer

_ROWS = "rows"  # axis of the devices that share a batch


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
        for name, value in (("score", score_threshold), ("IoU", iou_threshold)):
            if not 0 <= value <= 1:
                raise ValueError(f"the {name} threshold is {value}; expected 0 to 1")
        self.class_names, self.input_shape = tuple(class_names), input_shape
        self.anchors = anchors
        self._letterbox = letterbox_darknet if darknet else letterbox
        graphdef, self._state = nnx.split(prepare_to_infer(network))

        def run(state: Any, images: jax.Array) -> Detections:
            heads = nnx.merge(graphdef, state, copy=True)(images)
            return non_max_suppression(
                decode(heads, anchors),
                score_threshold=score_threshold,
                iou_threshold=iou_threshold,
            )

        self._run = jax.jit(run)
        self._mesh = Mesh(np.asarray(_devices()), (_ROWS,))
        everywhere, by_rows = PartitionSpec(), PartitionSpec(_ROWS)
        # Each device goes through its own rows, suppression too, without a word to the others.
        self._run_shared = jax.jit(
            jax.shard_map(
                run,
                mesh=self._mesh,
                in_specs=(everywhere, by_rows),
                out_specs=by_rows,
                check_vma=False,
            )
        )

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

    def detect_batches(self, batches: Iterable[Batch]) -> dict[int, Detections]:
        """Finds the objects of a loader's batches; by image_id, in pixels of the original.

        Each batch is shared among the devices of this process, or given to the one that
        `jax.default_device` names. Its detections are fetched when the next one is on its way. Rows
        that are missing, of a last batch or to divide among the devices, are filled up by blank
        ones, so that one executable serves all.
        """
        state = jax.device_put(self._state, NamedSharding(self._mesh, PartitionSpec()))
        by_rows = NamedSharding(self._mesh, PartitionSpec(_ROWS))
        found: dict[int, Detections] = {}
        ahead: tuple[Detections, Batch] | None = None
        rows = 0
        for batch in batches:
            rows = max(rows, -(-len(batch.image) // self._mesh.size) * self._mesh.size)
            images = jax.device_put(_filled_up(np.asarray(batch.image), rows), by_rows)
            result = self._run_shared(state, images)
            if ahead is not None:
                found |= self._originals(*ahead)
            ahead = result, batch._replace(image=np.zeros(0))  # whose pixels may go
        return found if ahead is None else found | self._originals(*ahead)

    def _originals(self, result: Detections, batch: Batch) -> dict[int, Detections]:
        """Fetches the detections of a batch; of each image, in its own pixels."""
        result = jax.device_get(result)
        found = {}
        for row, image_id in enumerate(np.asarray(batch.image_id)):
            if image_id >= 0:
                height, width = map(int, batch.original_size[row])
                place = letterbox_geometry((height, width), self.input_shape)
                found[int(image_id)] = _original(result, row, place)
        return found


def _devices() -> list[Any]:
    """Returns the devices that share a batch."""
    default = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    return [default] if isinstance(default, jax.Device) else jax.local_devices()


def _filled_up(images: UInt8[np.ndarray, "b h w 3"], rows: int) -> UInt8[np.ndarray, "r h w 3"]:
    missing = rows - len(images)
    if not missing:
        return images
    return np.concatenate([images, np.zeros((missing, *images.shape[1:]), images.dtype)])


def _original(result: Detections, row: int, place: Letterbox) -> Detections:
    """Returns one image's detections without padding, in pixels of the original."""
    used = result.classes[row] >= 0
    boxes = place.boxes_to_original(np.asarray(result.boxes[row])[used])
    return Detections(boxes, result.scores[row][used], result.classes[row][used])
