"""A network with all that turns images into detections."""

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import chain, islice
from threading import Lock
from typing import Any, Literal, TypeVar, get_args

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import UInt8

from yolo_jax.core.anchors import AnchorSet
from yolo_jax.core.numbers import whole_number
from yolo_jax.core.types import Batch, Detections
from yolo_jax.data.letterbox import (
    Letterbox,
    letterbox,
    letterbox_bicubic,
    letterbox_darknet,
    letterbox_geometry,
)
from yolo_jax.detection.decode import decode
from yolo_jax.detection.nms import Suppression, non_max_suppression
from yolo_jax.detection.views import VIEWS, predict_views
from yolo_jax.networks.blocks import prepare_to_infer

S = TypeVar("S")
T = TypeVar("T")
Resize = Literal["opencv", "pillow", "darknet"]
_ROWS = "rows"  # axis of the devices that share a batch
_AT_ONCE = 2  # batches of a stream
_LETTERBOXES = {"opencv": letterbox, "pillow": letterbox_bicubic, "darknet": letterbox_darknet}


class Detector:
    """A network with all that turns images into detections.

    Args:
        network: called with a batch of images, returns its heads, coarse to fine.
        anchors: of the network.
        class_names: name of each class index.
        input_shape: (height, width) of the network's input, px.
        resize: how images are letterboxed: by OpenCV, as in training; by Pillow's bicubic filter,
            as keras-yolo3 does; as the darknet program does.
        suppression: what becomes of boxes that overlap, where a call does not say otherwise.

    Raises:
        ValueError: there is no such resize.
    """

    def __init__(
        self,
        network: nnx.Module,
        anchors: AnchorSet,
        class_names: Sequence[str],
        input_shape: tuple[int, int],
        *,
        resize: Resize = "opencv",
        suppression: Suppression | None = None,
    ) -> None:
        if resize not in get_args(Resize):
            kinds = ", ".join(get_args(Resize))
            raise ValueError(f"there is no resize {resize!r}; expected one of {kinds}")
        self.class_names, self.input_shape = tuple(class_names), input_shape
        self.anchors, self.suppression = anchors, suppression or Suppression()
        self._letterbox = _LETTERBOXES[resize]
        graphdef, self._state = nnx.split(prepare_to_infer(network))

        @partial(jax.jit, static_argnames="augmented")
        def run(
            state: Any, images: jax.Array, how: Suppression, augmented: bool = False
        ) -> Detections:
            forward = nnx.merge(graphdef, state, copy=True)
            if not augmented:
                return non_max_suppression(decode(forward(images), anchors), how)
            how = dataclasses.replace(how, views=len(VIEWS))
            return non_max_suppression(predict_views(forward, images, anchors), how)

        self._run, self._compiles = run, Lock()  # else threads would compile the same at once
        self._mesh = Mesh(np.asarray(_devices()), (_ROWS,))
        everywhere, by_rows = PartitionSpec(), PartitionSpec(_ROWS)
        # Each device goes through its own rows, suppression too, without a word to the others.
        self._run_shared = jax.jit(
            jax.shard_map(
                partial(run, how=self.suppression),
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
        self,
        images: Sequence[UInt8[np.ndarray, "h w 3"]],
        *,
        suppression: Suppression | None = None,
        augmented: bool = False,
        batch_size: int = 8,
    ) -> list[Detections]:
        """Finds the objects of RGB images of any sizes; see `detect_stream`.

        Returns:
            For each image its detections, best score first, boxes in its own pixels.
        """
        how = {"suppression": suppression, "augmented": augmented, "batch_size": batch_size}
        return list(self.detect_stream(images, **how))

    def detect_stream(
        self,
        images: Iterable[UInt8[np.ndarray, "h w 3"]],
        *,
        suppression: Suppression | None = None,
        augmented: bool = False,
        batch_size: int = 8,
    ) -> Iterator[Detections]:
        """Yields the objects of RGB images of any sizes, one image after the other.

        Two batches are worked on at once, by a thread each: letterboxing goes on beside the
        device, and on a CPU what runs on one core has another beside it.

        Args:
            images: taken a batch at a time.
            suppression: what becomes of boxes that overlap; None: the detector's own way. Other
                thresholds compile nothing anew.
            augmented: look at each image three times, smaller and mirrored too.
            batch_size: images that go through the network at once.

        Raises:
            ValueError: the batch size is no whole number above 0.
        """
        whole_number("batch_size", batch_size, 1)
        rest = iter(images)
        groups = iter(lambda: list(islice(rest, batch_size)), [])
        first = next(groups, [])
        device = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]

        def look(group: Sequence[UInt8[np.ndarray, "h w 3"]]) -> list[Detections]:
            with jax.default_device(device):  # a context that another thread does not have
                return self._look(group, len(first), suppression or self.suppression, augmented)

        for found in _in_threads(look, chain([first] if first else [], groups)):
            yield from found

    def _look(
        self,
        images: Sequence[UInt8[np.ndarray, "h w 3"]],
        rows: int,
        how: Suppression,
        augmented: bool,
    ) -> list[Detections]:
        """Returns the detections of one batch's images, filled up to so many rows."""
        fitted = [self._letterbox(image, self.input_shape) for image in images]
        # One executable serves all batches: the last is filled up by its first image.
        pixels = [pixels for pixels, _ in fitted]
        pixels += pixels[:1] * (rows - len(pixels))
        with self._compiles:
            result = self._run(self._state, np.stack(pixels), how, augmented)
        result = jax.device_get(result)
        return [_original(result, row, place) for row, (_, place) in enumerate(fitted)]

    def detect_batches(self, batches: Iterable[Batch]) -> dict[int, Detections]:
        """Finds the objects of a loader's batches; by image_id, in pixels of the original.

        Each batch is shared among the devices of this process, or given to the one that
        `jax.default_device` names. Its detections are fetched when the next one is on its way. Rows
        that are missing, of a last batch or to divide among the devices, are filled up by blank
        ones, so that one executable serves all.
        """
        found: dict[int, Detections] = {}
        for result, batch in _one_behind(self._shared(batches)):
            found |= self._originals(result, batch)
        return found

    def _shared(self, batches: Iterable[Batch]) -> Iterator[tuple[Detections, Batch]]:
        """Yields a batch's detections, still on their way, and the batch without its pixels."""
        state = jax.device_put(self._state, NamedSharding(self._mesh, PartitionSpec()))
        by_rows = NamedSharding(self._mesh, PartitionSpec(_ROWS))
        rows = 0
        for batch in batches:
            rows = max(rows, -(-len(batch.image) // self._mesh.size) * self._mesh.size)
            images = jax.device_put(_filled_up(np.asarray(batch.image), rows), by_rows)
            yield self._run_shared(state, images), batch._replace(image=np.zeros(0))

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


def _in_threads(function: Callable[[S], T], items: Iterator[S]) -> Iterator[T]:
    """Yields a function's results in order; a thread that ends finds its next item taken."""
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > _AT_ONCE:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _one_behind(items: Iterator[T]) -> Iterator[T]:
    """Yields each item when the next one is there: what is fetched then has another on its way."""
    held: list[T] = []
    for item in items:
        yield from held
        held = [item]
    yield from held


def _original(result: Detections, row: int, place: Letterbox) -> Detections:
    """Returns one image's detections without padding, in pixels of the original."""
    used = result.classes[row] >= 0
    boxes = place.boxes_to_original(np.asarray(result.boxes[row])[used])
    return Detections(boxes, result.scores[row][used], result.classes[row][used])
