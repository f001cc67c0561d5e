"""The records that travel: `Annotation` from files, `Batch` to the device, `Detections` back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

Array = np.ndarray | jax.Array


@dataclass(frozen=True)
class Annotation:
    """One image of a data set and the objects in it, as its annotation file states them.

    Attributes:
        image_id: the data set's own number of the image, not negative.
        path: of the image file; of an image in a packed file, the name that messages give it.
        width: of the image, px.
        height: of the image, px.
        boxes: xyxy in pixels of the image.
        classes: indices into the data set's class names.
        crowd: True for a region of many objects, which is neither target nor error.
        source: which part of the data the image comes from; figures are also given per source.
        areas: px², by which COCO's scoring tells small, medium and large objects; NaN, and None of
            all of them, stands for the box's own. COCO's files state the objects' outlines'.
    """

    image_id: int
    path: Path
    width: int
    height: int
    boxes: Float[np.ndarray, "n 4"]
    classes: Int[np.ndarray, "n"]
    crowd: Bool[np.ndarray, "n"]
    source: str = ""
    areas: Float[np.ndarray, "n"] | None = None


@dataclass(frozen=True)
class Dataset:
    """Annotations with the names of their classes.

    Attributes:
        annotations: one per image, in the file's order.
        class_names: name of each class index.
        origin: the file or folder that was read.
        read: returns the encoded image of one of the annotations; None reads the file `path`.
        not_kept: what the files state and this record has no place for, in words.
    """

    annotations: Sequence[Annotation]
    class_names: tuple[str, ...]
    origin: Path = field(default_factory=Path)
    read: Callable[[Annotation], bytes] | None = None
    not_kept: tuple[str, ...] = ()


class Batch(NamedTuple):
    """What the host hands to the device: pixels and padded boxes, in fixed shapes.

    Where augmentation mixes images, image, boxes and classes have an axis of k more after the
    first: an example and those that may be mixed into it.

    Attributes:
        image: RGB.
        boxes: xyxy in pixels of `image`; rows of padding are 0.
        classes: −1 marks a row of padding.
        image_id: −1 marks a row that only fills the batch.
        original_size: (height, width) of the image file, px.
        mix: how an example is mixed with the others of its group; None where they are alone.
    """

    image: UInt8[Array, "b *k h w 3"]
    boxes: Float[Array, "b *k t 4"]
    classes: Int[Array, "b *k t"]
    image_id: Int[Array, "b"]
    original_size: Int[Array, "b 2"]
    mix: Int[Array, "b"] | None = None


class Detections(NamedTuple):
    """Boxes found, best score first, padded to a fixed number an image.

    Attributes:
        boxes: xyxy, px.
        scores: 0–1.
        classes: −1 marks a row of padding.
    """

    boxes: Float[Array, "*b n 4"]
    scores: Float[Array, "*b n"]
    classes: Int[Array, "*b n"]
