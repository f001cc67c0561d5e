"""Batches from annotations, by Grain: the order is a function of (seed, pass) alone."""

import logging
from collections.abc import Iterator
from typing import NamedTuple

import grain
import numpy as np
from jaxtyping import Float, Int, UInt8

from yolo_jax.core.types import Annotation, Batch, Dataset
from yolo_jax.data.doctor import Problem, report
from yolo_jax.data.images import ImageError, load_image
from yolo_jax.data.letterbox import letterbox

_log = logging.getLogger(__name__)
_BATCHES_AHEAD = 2


class Example(NamedTuple):
    """One row of a `Batch`."""

    image: UInt8[np.ndarray, "h w 3"]
    boxes: Float[np.ndarray, "t 4"]
    classes: Int[np.ndarray, "t"]
    image_id: Int[np.ndarray, ""]
    original_size: Int[np.ndarray, "2"]


class Loader:
    """An endless stream of batches over a data set, which can start at any of them.

    Args:
        dataset: the annotations.
        batch_size: rows a batch; the last of a pass has fewer where they do not divide.
        image_shape: (height, width) that every image is letterboxed into, px.
        max_boxes: boxes kept an image, T; None: the data's maximum, rounded up to a multiple of 8.
            Crowd regions are no targets and do not count.
        shuffle: draw a new order for every pass.
        seed: of the orders.
        whole_batches: batches go on over the end of a pass, so that all are full.
        threads: that decode images; they change the speed alone.
        strict: an image that cannot be read, or that has too many boxes, is an error.

    Attributes:
        skipped: reason by path of the images that could not be read; their rows are padding. When
            all are among them, the batch that finds it raises ImageError.

    Raises:
        ValueError: the data set is empty; a number is not positive; or strict and an image has
            more than T boxes.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        batch_size: int,
        image_shape: tuple[int, int],
        max_boxes: int | None = None,
        shuffle: bool = False,
        seed: int = 0,
        whole_batches: bool = False,
        threads: int = 2,
        strict: bool = False,
    ) -> None:
        if not dataset.annotations:
            raise ValueError(f"{dataset.origin} has no images to load")
        self.max_boxes = _default_max_boxes(dataset) if max_boxes is None else max_boxes
        for name, value in (("batch_size", batch_size), ("max_boxes", self.max_boxes)):
            if value < 1:
                raise ValueError(f"{name} is {value}; it has to be 1 or more")
        self.dataset, self.batch_size, self.image_shape = dataset, batch_size, image_shape
        self.threads, self.strict = threads, strict
        self.whole_batches = whole_batches
        _report_crowded(dataset, self.max_boxes, strict=strict)
        self.skipped: dict[str, str] = {}
        self._files = len({annotation.path for annotation in dataset.annotations})
        examples = grain.MapDataset.source(dataset.annotations).seed(seed)
        if shuffle:
            examples = examples.shuffle()
        if whole_batches:
            self._batches = examples.repeat().map(self._example).batch(batch_size)
        else:
            self._batches = examples.map(self._example).batch(batch_size).repeat()

    def __len__(self) -> int:
        """Returns the batches of one pass."""
        rows = len(self.dataset.annotations)
        if self.whole_batches:
            return max(1, rows // self.batch_size)
        return -(-rows // self.batch_size)

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """Yields batch `start` and those after it, without reading those before."""
        return self._read(self._batches[start:])

    def one_pass(self) -> Iterator[Batch]:
        """Yields the batches of the first pass."""
        return self._read(self._batches[: len(self)])

    def _read(self, batches: grain.MapDataset) -> Iterator[Batch]:
        options = grain.ReadOptions(num_threads=self.threads, prefetch_buffer_size=_BATCHES_AHEAD)
        for rows in batches.to_iter_dataset(options):
            yield Batch(*rows)

    def _example(self, annotation: Annotation) -> Example:
        try:
            pixels = load_image(self.dataset, annotation)
            _check_size(annotation, pixels)
            image, place = letterbox(pixels, self.image_shape)
        except (ImageError, FileNotFoundError) as error:
            if self.strict:
                raise
            return self._padding_row(annotation, error)
        kept = ~annotation.crowd
        inside = place.boxes_to_input(annotation.boxes[kept])[: self.max_boxes]
        boxes = np.zeros((self.max_boxes, 4), np.float32)
        classes = np.full(self.max_boxes, -1, np.int32)
        boxes[: len(inside)] = inside
        classes[: len(inside)] = annotation.classes[kept][: self.max_boxes]
        return Example(
            image,
            boxes,
            classes,
            np.asarray(annotation.image_id, np.int32),
            np.asarray(place.original, np.int32),
        )

    def _padding_row(self, annotation: Annotation, error: Exception) -> Example:
        """Stands in for an image that cannot be read, which is said once."""
        reason = str(error)
        # One atomic step: of the threads that meet the file, the first to put its reason logs it.
        if self.skipped.setdefault(str(annotation.path), reason) is reason:
            _log.warning("an image is left out, its row is padding: %s", reason)
        # Nothing but padding has a loss of 0, which would pass for the best.
        if len(self.skipped) == self._files:
            raise ImageError(
                f"none of the images of {self.dataset.origin} can be read; the last: {reason}"
            ) from error
        return Example(
            np.full((*self.image_shape, 3), 128, np.uint8),
            np.zeros((self.max_boxes, 4), np.float32),
            np.full(self.max_boxes, -1, np.int32),
            np.asarray(-1, np.int32),
            np.asarray([annotation.height, annotation.width], np.int32),
        )


def _check_size(annotation: Annotation, pixels: UInt8[np.ndarray, "h w 3"]) -> None:
    """Raises ImageError unless the image is as large as its record says, whose boxes it has."""
    height, width = pixels.shape[:2]
    if (height, width) != (annotation.height, annotation.width):
        raise ImageError(
            f"{annotation.path} has {width}×{height} px, and its record (image "
            f"{annotation.image_id}) says {annotation.width}×{annotation.height}: the boxes are of "
            "another image; mend the record, or put back the image it was made for"
        )


def _default_max_boxes(dataset: Dataset) -> int:
    most = max(int((~annotation.crowd).sum()) for annotation in dataset.annotations)
    return max(8, -(-most // 8) * 8)


def _report_crowded(dataset: Dataset, max_boxes: int, *, strict: bool) -> None:
    problems = [
        Problem(
            dataset.origin,
            f"image {annotation.image_id} ({annotation.path.name})",
            f"it has {(~annotation.crowd).sum()} boxes and max_boxes is {max_boxes}: the first "
            "are kept; raise max_boxes to keep all",
        )
        for annotation in dataset.annotations
        if (~annotation.crowd).sum() > max_boxes
    ]
    report(problems, strict=strict)
