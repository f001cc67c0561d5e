"""Rows of a random-access data source, batched by Grain."""

from collections.abc import Iterator, Mapping
from typing import Any

import grain
import numpy as np

from yolo_jax.model.arrays import order_of, standardize
from yolo_jax.model.signature import Signature
from yolo_jax.model.values import check_finite
from yolo_jax.training.step import Fed

PyTree = Any


class SourceFeed:
    """Rows of a random-access data source (Grain's, TFDS's), batched by Grain.

    Args:
        source: `len(source)` rows, `source[i]` a tuple (x, y), (x, y, sample_weight), or a dict of
            the inputs and outputs by name.
        signature: of the model.
        batch_size: rows a batch.
        shuffle: draw a new order for every pass, a function of (seed, fit, pass).
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
        self.strict, self._seed = strict, seed
        self.steps: int | None = -(-len(source) // batch_size)
        self.order = order_of(len(source), batch_size, shuffle, seed)
        is_dataset = isinstance(source, grain.MapDataset)
        self._rows = source if is_dataset else grain.MapDataset.source(source)

    def batches(self, start: int = 0, fit: int = 0) -> Iterator[Fed]:
        """Yields batch `start` and those after it, pass after pass."""
        seed = np.random.SeedSequence((self._seed, fit)).generate_state(1)
        rows = self._rows.seed(int(seed[0]))
        if self.order["shuffle"]:
            rows = rows.shuffle()
        batches = rows.batch(self.order["batch_size"]).repeat()
        for number, item in enumerate(batches[start:].to_iter_dataset(), start):
            x, y, weight = self._parts(item)
            try:
                arrays = standardize(
                    self.signature, x, y, weight, self.class_weight, need_y=self.need_y
                )
            except (ValueError, TypeError) as error:
                raise type(error)(f"batch {number} (from 0): {error}") from error
            if self.strict:
                check_finite(self.signature, arrays.x, arrays.y, f"batch {number} (from 0), ")
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
