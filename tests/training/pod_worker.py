"""One process of a pod, for tests: ten steps of a network under every strategy.

Run as `python pod_worker.py NETWORK OUT DEVICES COORDINATOR PROCESSES PROCESS`. The first process
writes, for each strategy and each way of batch normalisation, losses and weights. The network is
`small`, of three layers, since every process compiles six steps, or `tiny`. A run that others began
over 8 devices, and went on with over 4, it goes on with.
"""

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from yolo_jax.callbacks import Callback, Checkpoint, LambdaCallback
from yolo_jax.core.precision import Precision
from yolo_jax.detection.loss import DetectionLoss
from yolo_jax.model.graph import Input, apply
from yolo_jax.model.losses import detection
from yolo_jax.model.model import Model
from yolo_jax.networks.blocks import ConvBlock, OutputConv
from yolo_jax.networks.yolov3 import NETWORKS, create_network
from yolo_jax.training import distributed
from yolo_jax.training.parallel import Strategy

STRATEGIES: tuple[Strategy, ...] = ("pmap", "jit", "fsdp")
MOVED: tuple[Strategy, ...] = ("pmap", "fsdp")  # from 8 devices to 4, and to 2 × 4
ROWS, STEPS, SIDE, CLASSES = 16, 10, 64, 3


class Small(nnx.Module):
    """Two scales at the strides of tiny, wide enough that fsdp shards it."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        options: dict[str, Any] = {"precision": Precision(), "rngs": rngs}
        self.stem = ConvBlock(3, 32, 3, stride=2, **options)
        self.body = ConvBlock(32, 32, 3, stride=2, **options)
        self.coarse = OutputConv(32, 3 * (5 + CLASSES), **options)
        self.fine = OutputConv(32, 3 * (5 + CLASSES), **options)

    def __call__(self, image: Any, row_mask: Any = None) -> tuple[Any, Any]:
        x = self.body(self.stem(image.astype(jnp.float32) / 255, row_mask), row_mask)
        return self.coarse(x[:, ::8, ::8]), self.fine(x[:, ::4, ::4])


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
        self.given: list[int] = []  # numbers of the batches that were taken

    def __len__(self) -> int:
        return STEPS

    def batches(self, start: int = 0) -> Iterator[tuple[Any, Any]]:
        """Yields batch `start` and those after it, epoch by epoch."""
        for number in itertools.count(start):
            self.given.append(number)
            own = number % STEPS, self.own
            yield self.image[own], {"boxes": self.boxes[own], "classes": self.classes[own]}


def train(
    network_name: str, strategy: Strategy, sync: bool, devices: Any = None
) -> dict[str, np.ndarray]:
    """Returns the losses of ten steps, and the weights after them."""
    model = make_model(network_name, strategy, sync, devices)
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
    return {"losses": np.asarray(losses, np.float64), "weights": weights_of(model)}


class StopBefore(Callback):
    """Breaks off before a step, counted over all epochs."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_begin(self, batch, logs=None):
        if self.model.run.batches == self.step:
            raise KeyboardInterrupt


def go_on(
    strategy: Strategy, folder: Path, until: int, devices: Any = None
) -> dict[str, np.ndarray]:
    """Goes on with a synced run of four epochs; returns its steps' losses and batches' numbers."""
    model = make_model("small", strategy, True, devices)
    losses: list[float] = []
    watch = LambdaCallback(on_batch_end=lambda _, logs: losses.append(logs["loss"]))
    rows = Rows(model.parallel.process)
    callbacks = [watch, StopBefore(until), Checkpoint(folder, every_steps=2)]
    try:
        model.fit(rows, epochs=4, verbose=0, resume=folder, callbacks=callbacks)
    except KeyboardInterrupt:
        assert until < 4 * STEPS
    return {"losses": np.asarray(losses), "batches": np.asarray(rows.given[: len(losses)])}


def weights_of(model: Model) -> np.ndarray:
    """Returns all weights in a row."""
    return np.concatenate([weight.ravel() for weight in model.get_weights()])


def check_resumes(strategy: Strategy, folder: Path) -> None:
    """Checks that a fit which goes on from a checkpoint ends as one that was never stopped."""
    models = [make_model("small", strategy, False) for _ in range(3)]
    whole, stopped, resumed = models
    rows = Rows(whole.parallel.process)
    options: dict[str, Any] = {"steps_per_epoch": STEPS // 2, "verbose": 0}
    whole.fit(rows, epochs=2, **options)
    stopped.fit(rows, epochs=1, callbacks=[Checkpoint(folder, monitor=None)], **options)
    resumed.fit(rows, epochs=2, resume=folder, **options)
    assert resumed.run.epoch == 2 and resumed.history.epoch == [0, 1]
    np.testing.assert_array_equal(weights_of(resumed), weights_of(whole))
    for one, other in zip(
        jax.tree.leaves(whole.parallel.whole(whole.state)),
        jax.tree.leaves(resumed.parallel.whole(resumed.state)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def make_model(network_name: str, strategy: Strategy, sync: bool, devices: Any = None) -> Model:
    """Returns a detector, compiled with momentum and an average of the weights."""
    network = Small(nnx.Rngs(0)) if network_name == "small" else create_network("tiny", CLASSES)
    image = Input((SIDE, SIDE, 3), name="image", dtype=jnp.uint8)
    model = Model(image, list(apply(network, image)))
    loss = detection(DetectionLoss(NETWORKS["tiny"][1], CLASSES))
    model.compile(
        optax.sgd(1e-4, momentum=0.9), loss, ema_decay=0.9, sync_batch_norm=sync,
        parallel=strategy, devices=devices,
    )  # fmt: skip
    return model


def main() -> None:
    """Trains in every way; the first process keeps what comes of it."""
    network, out, devices, *pod = sys.argv[1:]
    jax.config.update("jax_num_cpu_devices", int(devices))
    distributed.start(pod[0], int(pod[1]), int(pod[2]))
    found = {
        f"{strategy}_{'sync' if sync else 'local'}_{name}": value
        for strategy in STRATEGIES
        for sync in (True, False)
        for name, value in train(network, strategy, sync).items()
    }
    if jax.process_count() == 2:  # once is enough
        for strategy in STRATEGIES:
            if network == "small":
                check_resumes(strategy, Path(out).with_name(strategy))
        for strategy in MOVED:
            moved = go_on(strategy, Path(out).with_name(f"{strategy}_moved"), 4 * STEPS)
            found |= {f"{strategy}_moved_{name}": value for name, value in moved.items()}
    if distributed.is_first():
        np.savez(Path(out), **found)


if __name__ == "__main__":
    main()
