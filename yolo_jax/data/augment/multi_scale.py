"""Training that goes through several sizes of images."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np


def step_side(sides: Sequence[int], seed: int, step: int, *, every: int = 10) -> int:
    """Returns the side in px of a step's square images, a function of its arguments alone.

    Sizes stay for some steps, as darknet's do for ten batches (detector.c, `random=1`).

    Args:
        sides: to draw from.
        seed: of the draws.
        step: of the run, from 0.
        every: steps that share a draw.
    """
    return int(np.random.default_rng((seed, step // every)).choice(np.asarray(sides)))


class MultiScale:
    """Augmentations to several sizes, of which each step takes one, an executable each.

    Args:
        augment: takes `output_shape` beside a batch.
        sides: of the square outputs, px.
        seed: of the draws.
        every: steps that share a size.

    Attributes:
        transforms: one for each size.

    Raises:
        ValueError: there are no sides.
    """

    def __init__(
        self, augment: Callable, sides: Sequence[int], seed: int, *, every: int = 10
    ) -> None:
        if not sides:
            raise ValueError("several sizes are drawn from `sides`, which has none")
        self.sides, self.seed, self.every = tuple(sides), seed, every
        self._augment = {side: partial(augment, output_shape=(side, side)) for side in sides}
        self.transforms = tuple(self._augment.values())

    def at(self, step: int) -> Callable:
        """Returns the augmentation of a step; the same object where it is the same."""
        return self._augment[step_side(self.sides, self.seed, step, every=self.every)]
