"""One process of a pod, for tests: ten steps of the tiny network under every strategy.

Run as `python pod_worker.py OUT DEVICES [COORDINATOR PROCESSES PROCESS]`. The first
process writes, for each strategy and each way of batch normalisation, losses and weights.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from yolo_jax.callbacks import LambdaCallback
from yolo_jax.detection.loss import DetectionLoss
from yolo_jax.model.graph import Input, apply
from yolo_jax.model.losses import detection
from yolo_jax.model.model import Model
from yolo_jax.networks.yolov3 import NETWORKS, create_network
from yolo_jax.training import distributed
from yolo_jax.training.parallel import Strategy

STRATEGIES: tuple[Strategy, ...] = ("pmap", "jit", "fsdp")
ROWS, STEPS, SIDE, CLASSES = 16, 10, 64, 3


class Rows:
    """A loader of this process's rows of the same global batches in every pod."""

    def __init__(self, process: tuple[int, int]) -> None:
        generator = np.random.default_rng(0)
        shape = (STEPS, ROWS)
        self.image = generator.integers(0, 256, (*shape, SIDE, SIDE, 3), np.uint8)
        low = generator.uniform(0, 40, (*shape, 4, 2))
        size = generator.uniform(6, 24, (*shape, 4, 2))
        self.boxes = np.concatenate([low, low + size], -1).astype(np.float32)
        self.classes = generator.integers(0, CLASSES, (*shape, 4)).astype(np.int32)
        index, count = process
        self.own = slice(index * ROWS // count, (index + 1) * ROWS // count)

    def __len__(self) -> int:
        return STEPS

    def batches(self, start: int = 0) -> Iterator[tuple[Any, Any]]:
        """Yields batch `start` and those after it."""
        for number in range(start, STEPS):
            boxes, classes = self.boxes[number, self.own], self.classes[number, self.own]
            yield self.image[number, self.own], {"boxes": boxes, "classes": classes}


def train(strategy: Strategy, sync: bool, devices: Any = None) -> dict[str, np.ndarray]:
    """Returns the losses of ten steps, and the weights after them."""
    network = create_network("tiny", CLASSES, seed=0)
    image = Input((SIDE, SIDE, 3), name="image", dtype=jnp.uint8)
    model = Model(image, list(apply(network, image)))
    loss = detection(DetectionLoss(NETWORKS["tiny"][1], CLASSES))
    model.compile(
        optax.sgd(1e-4, momentum=0.9), loss, ema_decay=0.9, sync_batch_norm=sync,
        parallel=strategy, devices=devices,
    )  # fmt: skip
    losses: list[float] = []
    model.fit(
        Rows(model.parallel.process),
        verbose=0,
        callbacks=[LambdaCallback(on_batch_end=lambda _, logs: losses.append(logs["loss"]))],
    )
    if strategy == "fsdp" and len(model.parallel.devices) > 1:
        largest = max(jax.tree.leaves(model.state.params), key=lambda leaf: leaf.size)
        held = largest.addressable_shards[0].data.size
        assert held * len(model.parallel.devices) == largest.size, "nothing is sharded"
    weights = np.concatenate([weight.ravel() for weight in model.get_weights()])
    return {"losses": np.asarray(losses, np.float64), "weights": weights}


def main() -> None:
    """Trains in every way; the first process keeps what comes of it."""
    out, devices, *pod = sys.argv[1:]
    jax.config.update("jax_num_cpu_devices", int(devices))
    distributed.start(pod[0], int(pod[1]), int(pod[2]))
    found = {
        f"{strategy}_{'sync' if sync else 'local'}_{name}": value
        for strategy in STRATEGIES
        for sync in (True, False)
        for name, value in train(strategy, sync).items()
    }
    if distributed.is_first():
        np.savez(Path(out), **found)


if __name__ == "__main__":
    main()
