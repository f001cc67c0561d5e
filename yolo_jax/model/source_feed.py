"""Rows of a random-access data source, batched by Grain."""

from collections.abc import Iterator, Mapping
from typing import Any

import grain

from yolo_jax.model.arrays import check_finite, standardize
from yolo_jax.model.signature import Signature
from yolo_jax.training.step import Fed

PyTree = Any


class SourceFeed:
    """Rows of a random-access data source (Grain's, TFDS's), batched by Grain.

    Args:
        source: `len(source)` rows, `source[i]` a tuple (x, y), (x, y, sample_weight), or a dict of
            the inputs and outputs by name.
        signature: of the model.
        batch_size: rows a batch.
        shuffle: draw a new order for every pass, a function of (seed, pass).
        seed: of the orders.
        class_weight: weight by class id.
        need_y: False for predict, where a row may be x alone.
        strict: a batch with NaN or infinity is an error.
    """

    numbered = True

    def __init__(
        self,
        source: Any,
        signature: Signature,
        *,
        batch_size: int,
        shuffle: bool,
        seed: int = 0,
        class_weight: PyTree = None,
        need_y: bool = True,
        strict: bool = False,
    ) -> None:
        self.signature, self.class_weight, self.need_y = signature, class_weight, need_y
        self.strict = strict
        self.steps: int | None = -(-len(source) // batch_size)
        rows = source if isinstance(source, grain.MapDataset) else grain.MapDataset.source(source)
        rows = rows.seed(seed)
        if shuffle:
            rows = rows.shuffle()
        self._batches = rows.batch(batch_size).repeat()

    def batches(self, start: int = 0) -> Iterator[Fed]:
        """Yields batch `start` and those after it, pass after pass."""
        for number, item in enumerate(self._batches[start:].to_iter_dataset(), start):
            x, y, weight = self._parts(item)
            arrays = standardize(
                self.signature, x, y, weight, self.class_weight, need_y=self.need_y
            )
            if self.strict:
                check_finite(self.signature, arrays, f"batch {number} (from 0), ")
            yield Fed(arrays.x, arrays.y, arrays.weight, None)

    def end_pass(self) -> None:
        """Does nothing."""

    def _parts(self, item: Any) -> tuple[PyTree, PyTree, PyTree]:
        if isinstance(item, Mapping):
            parts = (self.signature.inputs, self.signature.trained)
            x, y = ({name: item[name] for name in names if name in item} for names in parts)
            return x, y, item.get("sample_weight")
        if isinstance(item, tuple) and len(item) in (2, 3):
            y = item[1] if self.need_y else None
            return item[0], y, item[2] if len(item) == 3 and self.need_y else None
        if not self.need_y:
            return item, None, None
        raise ValueError(
            "a data source has rows (x, y), (x, y, sample_weight), or dicts by input and output "
            f"name; found {type(item).__name__}"
        )
