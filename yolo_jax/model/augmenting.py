"""Augmentation on the device: one for all steps, or several of which each step takes one."""

import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array

from yolo_jax.training.step import Fed, Sums

_log = logging.getLogger(__name__)
PyTree = Any
# Returns images, boxes and classes, and maybe how many boxes of each row it had no room for.
Transform = Callable[..., tuple[Array, Array, Array] | tuple[Array, Array, Array, Array | None]]
# Of the sums: boxes that an augmentation had no room for. No log has this name.
EXCESS = "augment/excess"


@runtime_checkable
class Transforms(Protocol):
    """Augmentations of which each step takes one, such as those to several sizes.

    Attributes:
        transforms: all of them.
    """

    transforms: Sequence[Transform]

    def at(self, step: int) -> Transform:
        """Returns that of a step; the same object where it is the same."""
        ...


def augmented(
    fed: Fed, keys: Array | None, augment: Transform | None
) -> tuple[PyTree, PyTree, Array | None]:
    """Returns inputs and targets as the network gets them, and the boxes of each row left out."""
    if augment is None:
        return fed.x, fed.y, None
    image, boxes, classes, *excess = augment(keys, fed.x, **fed.y)
    return image, {"boxes": boxes, "classes": classes}, excess[0] if excess else None


def report_excess(sums: Sums, epoch: int) -> None:
    """Warns of boxes that an epoch's augmentation had no room for.

    Args:
        sums: of the epoch, fetched.
        epoch: its number, from 0.
    """
    if np.any(sums.get(EXCESS, 0)):
        _log.warning(
            "epoch %d: %d boxes of augmented images had no row, and taught nothing; raise the "
            "augmentation's max_boxes",
            epoch + 1,
            np.sum(sums[EXCESS]),
        )
