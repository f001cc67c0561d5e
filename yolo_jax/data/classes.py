"""Class indices of one data set in those of another, by the classes' names."""

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np

from yolo_jax.core.types import Dataset
from yolo_jax.data.doctor import listed


def in_classes(dataset: Dataset, class_names: Sequence[str]) -> Dataset:
    """Returns a data set with its class indices those of `class_names`.

    Args:
        dataset: with class names of its own, in any order.
        class_names: of the training data; the data set need not have all of them.

    Raises:
        ValueError: the data set has a class that is not among `class_names`, or two classes of
            one name.
    """
    for names in (class_names, dataset.class_names):
        doubled = sorted(name for name, count in Counter(names).items() if count > 1)
        if doubled:
            raise ValueError(f"{dataset.origin}: two classes have the name {doubled[0]!r}")
    if dataset.class_names == tuple(class_names):
        return dataset  # a packed set stays one
    index = {name: number for number, name in enumerate(class_names)}
    unknown = [repr(name) for name in dataset.class_names if name not in index]
    if unknown:
        raise ValueError(
            f"{dataset.origin} has the classes [{listed(unknown)}], which the training data do "
            f"not; they have [{listed(map(repr, class_names))}]"
        )
    index_of = np.asarray([index[name] for name in dataset.class_names], np.int32)
    annotations = tuple(
        dataclasses.replace(annotation, classes=index_of[annotation.classes])
        for annotation in dataset.annotations
    )
    return dataclasses.replace(dataset, annotations=annotations, class_names=tuple(class_names))
