"""Shares of a data set, for those that come as one: some of its images to choose on or to score."""

import dataclasses
from collections.abc import Sequence
from typing import overload

import numpy as np
from jaxtyping import Int

from yolo_jax.core.types import Annotation, Dataset


class _Chosen(Sequence[Annotation]):
    """Some annotations of a sequence, which may be packed, read when they are asked for."""

    def __init__(self, annotations: Sequence[Annotation], chosen: Int[np.ndarray, " n"]) -> None:
        self._annotations, self._chosen = annotations, chosen

    def __len__(self) -> int:
        return len(self._chosen)

    @overload
    def __getitem__(self, index: int) -> Annotation: ...
    @overload
    def __getitem__(self, index: slice) -> "_Chosen": ...
    def __getitem__(self, index: int | slice) -> "Annotation | _Chosen":
        if isinstance(index, slice):
            return _Chosen(self._annotations, self._chosen[index])
        return self._annotations[int(self._chosen[index])]


def split_off(dataset: Dataset, shares: Sequence[float]) -> list[Dataset]:
    """Splits shares of a data set off, drawn once and for all: whatever a run's seed is.

    Args:
        dataset: of at least one image more than there are shares.
        shares: of its images, each at least one; a share of 0 is none.

    Returns:
        What is left, in its order, and then each share, in the same.

    Raises:
        ValueError: nothing would be left.
    """
    total = len(dataset.annotations)
    counts = [max(1, round(share * total)) if share else 0 for share in shares]
    if sum(counts) >= total:
        raise ValueError(
            f"{dataset.origin} has {total} images, of which shares of {list(shares)} would leave "
            "none to train on; name data.validation and data.held_out, or take less"
        )
    order = np.random.default_rng(0).permutation(total)
    parts = np.split(order, np.cumsum(counts))
    parts = [parts[-1], *parts[:-1]]
    return [
        dataclasses.replace(dataset, annotations=_Chosen(dataset.annotations, np.sort(part)))
        for part in parts
    ]
