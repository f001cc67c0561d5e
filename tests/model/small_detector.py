"""A two-scale network of a few thousand weights, and batches of boxes for it."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from yolo_jax import Input, Model
from yolo_jax.core.anchors import TINY
from yolo_jax.core.precision import Precision
from yolo_jax.core.types import Batch
from yolo_jax.detection.loss import DetectionLoss
from yolo_jax.model.graph import apply
from yolo_jax.model.losses import detection
from yolo_jax.networks.blocks import ConvBlock, OutputConv

CLASSES = 3


class Small(nnx.Module):
    """A two-scale network of a few thousand weights, at the strides of tiny."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        precision = Precision()
        self.body = nnx.List(
            [
                ConvBlock(3 if i == 0 else 8, 8, 3, stride=2, precision=precision, rngs=rngs)
                for i in range(5)
            ]
        )
        outputs = 3 * (5 + CLASSES)
        self.coarse = OutputConv(8, outputs, precision=precision, rngs=rngs)
        self.fine = OutputConv(8, outputs, precision=precision, rngs=rngs)

    def __call__(self, image, row_mask=None):
        x = image.astype(jnp.float32) / 255
        for index, block in enumerate(self.body):
            x = block(x, row_mask)
            fine = x if index == 3 else None if index < 3 else fine
        return self.coarse(x), self.fine(fine)


def make_batches(rows: int = 16, seed: int = 0) -> Batch:
    generator = np.random.default_rng(seed)
    corners = generator.uniform(0, 40, (rows, 4, 2))
    boxes = np.concatenate([corners, corners + generator.uniform(8, 24, (rows, 4, 2))], -1)
    return Batch(
        image=generator.integers(0, 255, (rows, 64, 64, 3), np.uint8),
        boxes=boxes.astype(np.float32),
        classes=generator.integers(0, CLASSES, (rows, 4)).astype(np.int32),
        image_id=np.arange(rows, dtype=np.int32),
        original_size=np.full((rows, 2), 64, np.int32),
    )


class Stream:
    """A loader over one array of rows."""

    def __init__(self, rows: Batch, batch_size: int = 8) -> None:
        self.rows, self.batch_size = rows, batch_size

    def __len__(self) -> int:
        return -(-len(self.rows.image) // self.batch_size)

    def batches(self, start: int = 0) -> Iterator[Batch]:
        while True:
            first = start % len(self) * self.batch_size
            yield Batch(*(array[first : first + self.batch_size] for array in self.rows[:5]))
            start += 1


def make_model(optimizer=None, devices: int = 1, **options) -> Model:
    image = Input((64, 64, 3), name="image", dtype=jnp.uint8)
    heads = apply(Small(nnx.Rngs(0)), image)
    model = Model(image, list(heads))
    model.compile(
        optimizer or optax.sgd(1e-4, momentum=0.9),
        detection(DetectionLoss(TINY, CLASSES)),
        devices=jax.devices()[:devices],
        **options,
    )
    return model


def one_row(rows: Batch, index: int) -> Stream:
    return Stream(Batch(*(array[index : index + 1] for array in rows[:5])))


def flat(tree) -> np.ndarray:
    return np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(tree)])
