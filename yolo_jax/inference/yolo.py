"""A detector at hand: images of any kind in, what was found in each out."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from yolo_jax.core.types import Detections
from yolo_jax.data.images import rgb_of
from yolo_jax.detection.detector import Detector
from yolo_jax.detection.nms import Kind, Suppression
from yolo_jax.inference.found import Found
from yolo_jax.inference.sources import Frame, is_video, still

AnyImage = str | Path | Image.Image | np.ndarray | jax.Array
_SIDE = 416  # that the batches are meant for
_BATCH = {"cpu": 4, "gpu": 32, "tpu": 32}


class YOLO:
    """A trained network, ready to be shown images; `yolo_jax.load` makes it.

    Args:
        detector: that finds the objects.
    """

    def __init__(self, detector: Detector) -> None:
        self.detector = detector

    @property
    def class_names(self) -> tuple[str, ...]:
        """Returns the name of each class index."""
        return self.detector.class_names

    def detect(
        self,
        images: AnyImage | Sequence[AnyImage],
        *,
        conf: float = 0.25,
        iou: float = 0.45,
        suppression: Kind = "greedy",
        class_agnostic: bool = False,
        max_detections: int = 100,
        augment: bool = False,
        batch_size: int | None = None,
    ) -> list[Found]:
        """Finds the objects of images.

        Args:
            images: one, or several: paths, addresses on the web, PIL images, or arrays `[h, w, 3]`
                of uint8, RGB. An array `[n, h, w, 3]` is n images. For videos see `stream`.
            conf: detections score more than this.
            iou: overlap above which two boxes are of one object.
            suppression: `greedy`, `soft` or `fusion`; see `yolo_jax.detection.nms.Suppression`.
            class_agnostic: boxes of different classes suppress each other too.
            max_detections: of an image.
            augment: look at each image three times, smaller and mirrored too.
            batch_size: images that go through the network at once; None: by the device.

        Returns:
            For each image what was found, best score first.

        Raises:
            FileNotFoundError: there is no such file.
            ImageError: a file cannot be decoded, or an address not be fetched.
            ValueError: an array is no RGB image of uint8, or an argument is out of its range.
        """
        several = _several(images)
        frames = (_frame(image, number) for number, image in enumerate(several))
        how = Suppression(conf, iou, suppression, class_agnostic, max_detections=max_detections)
        return list(self.stream(frames, how, augment=augment, batch_size=batch_size))

    def stream(
        self,
        frames: Iterable[Frame],
        suppression: Suppression | None = None,
        *,
        augment: bool = False,
        batch_size: int | None = None,
    ) -> Iterator[Found]:
        """Yields what is found in frames, one after the other; they are taken a batch at a time.

        Args:
            frames: such as `yolo_jax.inference.sources.frames("street.mp4")` gives.
            suppression: what becomes of boxes that overlap.
            augment: look at each frame three times, smaller and mirrored too.
            batch_size: frames that go through the network at once; None: by the device.
        """
        taken: deque[Frame] = deque()

        def pixels() -> Iterator[UInt8[np.ndarray, "h w 3"]]:
            for frame in frames:
                taken.append(frame)
                yield frame.pixels

        stream = self.detector.detect_stream(
            pixels(),
            suppression=suppression,
            augmented=augment,
            batch_size=self.batch_size() if batch_size is None else batch_size,
        )
        for found in stream:
            yield _found(taken.popleft(), found, self.class_names)

    def batch_size(self) -> int:
        """Returns the images of a batch that suit the device and the network's input."""
        height, width = self.detector.input_shape
        most = _BATCH.get(jax.default_backend(), 8)
        return max(1, most * _SIDE * _SIDE // max(_SIDE * _SIDE, height * width))


def _several(images: AnyImage | Sequence[AnyImage]) -> list[AnyImage]:
    match images:
        case np.ndarray() | jax.Array():
            return list(np.asarray(images)) if images.ndim == 4 else [images]
        case str() | Path() | Image.Image():
            return [images]
        case Iterable():
            return list(images)
    return [images]  # which is none, and is named as such


def _found(frame: Frame, found: Detections, names: Sequence[str]) -> Found:
    boxes, scores, classes = (np.asarray(part) for part in found)
    return Found(boxes, scores, classes, names, frame.pixels, frame.name, frame.number, frame.rate)


def _frame(image: AnyImage, number: int) -> Frame:
    name, found = f"image {number}", f"{image!r:.60}"
    match image:
        case str() | Path() if is_video(str(image)):
            raise ValueError(
                f"{image} is a video or a camera: look at its frames by model.stream(frames(...)), "
                "with frames of yolo_jax.inference.sources"
            )
        case str() | Path():
            return still(str(image))
        case Image.Image():
            name = getattr(image, "filename", "") or name
            return Frame(rgb_of(image, name), name)
        case np.ndarray() | jax.Array():
            pixels = np.asarray(image)
            is_rgb = pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[-1] == 3
            if is_rgb and pixels.size:
                return Frame(pixels, name)
            found = f"{pixels.dtype}{list(pixels.shape)}"
    raise ValueError(
        f"image {number} is {found}; expected a path, a PIL image, or RGB as uint8[h, w, 3]"
    )
