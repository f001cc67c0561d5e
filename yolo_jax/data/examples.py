"""Rows of batches: images, letterboxed, with their boxes padded to a fixed number."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from yolo_jax.core.types import Annotation, Dataset
from yolo_jax.data.cache import DiskCache, MemoryCache
from yolo_jax.data.images import ImageError, load_to_fit
from yolo_jax.data.letterbox import letterbox, letterbox_geometry

PADDING = -1


class Example(NamedTuple):
    """One row of a `Batch`, and what is wrong with the images that it was to be made of.

    Attributes:
        faults: why an image cannot be read, by the index of its annotation; its pixels are padding.
    """

    image: UInt8[np.ndarray, "*k h w 3"]
    boxes: Float[np.ndarray, "*k t 4"]
    classes: Int[np.ndarray, "*k t"]
    image_id: Int[np.ndarray, ""]
    original_size: Int[np.ndarray, "2"]
    mix: Int[np.ndarray, ""] | None = None
    faults: Mapping[int, str] = MappingProxyType({})


@dataclass(frozen=True)
class Mixing:
    """How examples are mixed with others, which are drawn for each by (seed, pass, index).

    Attributes:
        choose: returns an example's `mix` by a number drawn from [0, 1).
        images: that a row of each `mix` takes, its own among them.
        group: k, images of every row; those that a row does not take are padding.
        batches: of a run that are mixed; None: all. Those after them are as if each chose 0.
    """

    choose: Callable[[float], int]
    images: tuple[int, ...]
    group: int
    batches: int | None = None

    def draw(self, seed: tuple[int, ...], images: int) -> tuple[int, list[int]]:
        """Returns an example's `mix`, and the indices of the images that are mixed into it.

        Args:
            seed: of the draws: of the run, the pass and the example's index.
            images: to choose from.
        """
        draws = np.random.default_rng(seed)
        mix = self.choose(draws.random())
        return mix, draws.integers(images, size=self.images[mix] - 1).tolist()


@dataclass(frozen=True)
class ExampleMaker:
    """Makes rows; a plain record, so that it can be sent to worker processes.

    Attributes:
        dataset: the annotations.
        image_shape: (height, width) that every image is letterboxed into, px.
        max_boxes: boxes kept an image, T.
        strict: an image that cannot be read is an error; else its row is padding.
        cache: of letterboxed images.
    """

    dataset: Dataset
    image_shape: tuple[int, int]
    max_boxes: int
    strict: bool
    cache: MemoryCache | DiskCache | None = None

    def __call__(self, index: int) -> Example:
        """Returns the row of an annotation; of `PADDING`, a row that only fills the batch.

        Raises:
            FileNotFoundError: strict, and there is no such file.
            ImageError: strict, and the image cannot be read or is of another size than its record.
        """
        if index == PADDING:
            return self._padding((0, 0))
        try:
            return self._example(index)
        except (ImageError, FileNotFoundError) as error:
            if self.strict:
                raise
            reason = str(error)
        annotation = self.dataset.annotations[index]
        row = self._padding((annotation.height, annotation.width))
        return row._replace(faults={index: reason})

    def _example(self, index: int) -> Example:
        annotation = self.dataset.annotations[index]
        load = partial(self._load, annotation)
        image = load() if self.cache is None else self.cache.get(index, load)
        place = letterbox_geometry((annotation.height, annotation.width), self.image_shape)
        kept = ~annotation.crowd
        inside = place.boxes_to_input(annotation.boxes[kept])[: self.max_boxes]
        boxes = np.zeros((self.max_boxes, 4), np.float32)
        classes = np.full(self.max_boxes, -1, np.int32)
        boxes[: len(inside)] = inside
        classes[: len(inside)] = annotation.classes[kept][: self.max_boxes]
        image_id = np.asarray(annotation.image_id, np.int32)
        return Example(image, boxes, classes, image_id, np.asarray(place.original, np.int32))

    def _load(self, annotation: Annotation) -> UInt8[np.ndarray, "h w 3"]:
        """Reads and letterboxes an image, which has to be as large as its record says."""
        decoded = load_to_fit(self.dataset, annotation, self.image_shape)
        _check_size(annotation, decoded.original)
        return letterbox(decoded.pixels, self.image_shape, original=decoded.original)[0]

    def _padding(self, original_size: tuple[int, int]) -> Example:
        return Example(
            np.full((*self.image_shape, 3), 128, np.uint8),
            np.zeros((self.max_boxes, 4), np.float32),
            np.full(self.max_boxes, -1, np.int32),
            np.asarray(-1, np.int32),
            np.asarray(original_size, np.int32),
        )


@dataclass(frozen=True)
class GroupMaker:
    """Makes rows of groups: an example and those that are mixed into it.

    Attributes:
        make: makes the rows of images alone.
        mixing: how they are mixed.
        seed: of the draws.
    """

    make: ExampleMaker
    mixing: Mixing
    seed: int

    def __call__(self, index: int, *, number: int, epoch: int) -> Example:
        """Returns a row.

        Args:
            index: of the annotation.
            number: of the batch.
            epoch: of the pass over the data.
        """
        mix, others = self.draw(index, number, epoch)
        rows = [self.make(index), *(self.make(other) for other in others)]
        rows += [self.make(PADDING)] * (self.mixing.group - len(rows))
        image, boxes, classes = (
            np.stack(parts) for parts in zip(*(row[:3] for row in rows), strict=True)
        )
        return rows[0]._replace(
            image=image,
            boxes=boxes,
            classes=classes,
            mix=np.asarray(mix, np.int32),
            faults={index: reason for row in rows for index, reason in row.faults.items()},
        )

    def draw(self, index: int, number: int, epoch: int) -> tuple[int, list[int]]:
        """Returns how a row is mixed, and the annotations that are mixed into it."""
        if self.mixing.batches is not None and number >= self.mixing.batches:
            return 0, []
        images = len(self.make.dataset.annotations)
        return self.mixing.draw((self.seed, epoch, index), images)


def _check_size(annotation: Annotation, size: tuple[int, int]) -> None:
    """Raises ImageError unless (height, width) are as the record says, whose boxes it has."""
    height, width = size
    if (height, width) != (annotation.height, annotation.width):
        why = why_other_size(annotation, (width, height))
        raise ImageError(
            f"{annotation.path} has {width}×{height} px, and its record (image "
            f"{annotation.image_id}) says {annotation.width}×{annotation.height}: {why}; mend the "
            "record, or put back the image it was made for"
        )


def why_other_size(annotation: Annotation, size: tuple[int, int]) -> str:
    """Returns what is likely where an image is not of (width, height) px as its record says."""
    if size == (annotation.height, annotation.width):
        return (
            "the sides are swapped, most likely by the file's EXIF orientation: the boxes are of "
            "the image as it is stored, not as it is shown"
        )
    return "the boxes are of another image"
