"""What the functions of keras-yolo3 are given: sizes, anchors and classes, checked by name."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from yolo_jax.core.numbers import whole_number

Anchors = Float[np.ndarray, "k 2"] | Sequence[Sequence[float]]


def check_pair(what: str, order: str, given: Any) -> None:
    """Raises ValueError unless an argument is of two numbers.

    Args:
        what: name of the argument.
        order: of the two: `(height, width)`.
        given: a sequence, or an array that may be traced.
    """
    if np.shape(given) != (2,):
        raise ValueError(f"{what} is {order}, two numbers of px; found {given!r}")


def sides(what: str, order: str, given: Any) -> tuple[int, int]:
    """Returns two sides of an image, px.

    Raises:
        ValueError: they are not two whole numbers above 0.
    """
    check_pair(what, order, given)
    first, second = (whole_number(f"each number of {what}, {order},", side, 1) for side in given)
    return first, second


def anchor_count(given: Anchors) -> int:
    """Returns the number of anchors.

    Raises:
        ValueError: they are not rows of (width, height).
    """
    shape = np.shape(given)
    if len(shape) != 2 or shape[1] != 2:
        raise ValueError(
            f"anchors are rows of (width, height), px; found an array of shape {shape}"
        )
    return shape[0]
