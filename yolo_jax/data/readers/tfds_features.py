"""Which features of a TFDS builder are the image, its boxes and their classes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

IMAGE_ID = "image/id"
_FILE_NAMES = ("image/filename", "image/file_name", "image_filename", "filename", "file_name")
_CROWD = ("is_crowd", "iscrowd", "is_difficult", "difficult", "is_group_of")


class Layout(NamedTuple):
    """Which features of a builder are what; of `objects` those of each box.

    Attributes:
        image: the image.
        objects: the sequence of boxes.
        bbox: the box, as fractions ymin, xmin, ymax, xmax.
        label: the class.
        crowd: flags that make a box one of a crowd.
        file_name: the image's name, or "" for none.
        has_id: the images have numbers of their own.
        class_names: of the labels.
    """

    image: str
    objects: str
    bbox: str
    label: str
    crowd: tuple[str, ...]
    file_name: str
    has_id: bool
    class_names: tuple[str, ...]


def find_layout(place: Path, features: Any) -> Layout:
    """Finds the image and the boxes among a builder's features, whose names differ.

    Where several would do, those that are named as in most builders are taken.

    Args:
        place: of the data set, for messages.
        features: of the builder.

    Raises:
        ValueError: there is no image, no box or no class, or it is not clear which is meant; or
            the boxes are not written as fractions.
    """
    kinds: Any = tfds.features
    images = [
        name
        for name, feature in features.items()
        if isinstance(feature, kinds.Image) and not isinstance(feature, kinds.LabeledImage)
    ]
    image = _only(place, "an image", images, "image", features)
    sequences = {
        name: dict(feature.feature.items())
        for name, feature in features.items()
        if isinstance(feature, kinds.Sequence) and isinstance(feature.feature, kinds.FeaturesDict)
    }
    boxed = [
        name
        for name, parts in sequences.items()
        if any(isinstance(part, kinds.BBoxFeature) for part in parts.values())
    ]
    objects = _only(place, "a sequence with boxes", boxed, "objects", features)
    parts = sequences[objects]
    boxes = [key for key, part in parts.items() if isinstance(part, kinds.BBoxFeature)]
    labels = [key for key, part in parts.items() if isinstance(part, kinds.ClassLabel)]
    bbox = _only(place, f"a box in {objects!r}", boxes, "bbox", parts)
    written = getattr(parts[bbox].bbox_format, "value", None)
    if written != "REL_YXYX":
        raise ValueError(
            f"{place}: the boxes {objects}/{bbox} are written as {written}; only fractions "
            "(REL_YXYX) can be read"
        )
    label = _only(place, f"a class label in {objects!r}", labels, "label", parts)
    return Layout(
        image=image,
        objects=objects,
        bbox=bbox,
        label=label,
        crowd=tuple(key for key in _CROWD if key in parts),
        file_name=next((key for key in _FILE_NAMES if key in features), ""),
        has_id=IMAGE_ID in features and np.issubdtype(features[IMAGE_ID].np_dtype, np.integer),
        class_names=tuple(parts[label].names),
    )


def _only(place: Path, wanted: str, found: Sequence[str], usual: str, among: Any) -> str:
    """Returns the one that was found, or that of the usual name."""
    if len(found) == 1:
        return found[0]
    if usual in found:
        return usual
    what = f"has {sorted(found)}, which could each be" if found else "does not have"
    raise ValueError(
        f"{place} {what} {wanted}: its features are {sorted(among)}; detection needs images with "
        "boxes and classes"
    )
