"""Boxes that an augmentation has no room for are told of, once an epoch."""

import logging
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from yolo_jax import Input, K, Lambda, Model
from yolo_jax.core.types import Batch
from yolo_jax.data.augment import Augment
from yolo_jax.layers import Dense
from yolo_jax.model.losses import Joint, RowLosses

ROWS, BOXES, SIDE = 12, 4, 32


class Stream:
    """Batches of 8 and 4 rows, of which each has four boxes."""

    def __len__(self) -> int:
        return 2

    def batches(self, start: int = 0):
        boxes = np.tile(np.asarray([4, 4, 20, 24], np.float32), (ROWS, BOXES, 1))
        rows = Batch(
            image=np.zeros((ROWS, SIDE, SIDE, 3), np.uint8),
            boxes=boxes,
            classes=np.zeros((ROWS, BOXES), np.int32),
            image_id=np.arange(ROWS, dtype=np.int32),
            original_size=np.full((ROWS, 2), SIDE, np.int32),
        )
        while True:
            part = slice(8) if start % 2 == 0 else slice(8, ROWS)
            yield Batch(*(array[part] for array in rows[:5]))
            start += 1


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize(("max_boxes", "told"), [(3, ROWS), (BOXES, 0), (None, 0)])
def test_boxes_without_a_row_are_counted(devices: int, max_boxes: int, told: int, caplog):
    """And on eight devices the rows that fill up the batch of four count for nothing."""
    image = Input((SIDE, SIDE, 3), name="image")
    model = Model(image, Dense(1)(Lambda(lambda x: K.mean(x, axis=(1, 2)))(image)))
    loss = Joint(lambda targets, outputs: RowLosses(jnp.square(outputs[0][:, 0]), {}))
    augment = partial(Augment(max_boxes=max_boxes), output_shape=(SIDE, SIDE))
    model.compile("sgd", loss, augment=augment, devices=jax.devices()[:devices])
    with caplog.at_level(logging.WARNING, "yolo_jax"):
        history = model.fit(Stream(), epochs=2, verbose=0, validation_data=Stream()).history
    assert set(history) == {"loss", "val_loss"}
    found = [record.getMessage() for record in caplog.records]
    assert [f"epoch {epoch}: {told} boxes of" in text for epoch, text in enumerate(found, 1)] == (
        [True] * 2 if told else []
    )
