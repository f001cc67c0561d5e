"""yolo_jax's own work, as a side like the others."""

import argparse
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from threading import Semaphore, Thread

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from experiments.benchmarks.sides import inputs
from experiments.benchmarks.sides.serving import serve
from yolo_jax.cli import use_compilation_cache
from yolo_jax.core.allocator import keep_freed_memory
from yolo_jax.detection.detector import Detector
from yolo_jax.detection.loss import DetectionLoss
from yolo_jax.inference.yolo import YOLO
from yolo_jax.launch.job import free_port
from yolo_jax.model.callbacks import Callback, Logs
from yolo_jax.model.graph import Input, apply
from yolo_jax.model.losses import detection
from yolo_jax.model.model import Model
from yolo_jax.networks.blocks import prepare_to_infer
from yolo_jax.networks.darknet import load_weights
from yolo_jax.networks.yolov3 import NETWORKS, create_network
from yolo_jax.training import distributed


class Turns(Callback):
    """Lets `fit` take one step at a time, and looks at its loss as a progress bar does.

    Args:
        second: the other process of the run, which is told of each turn.
    """

    def __init__(self, second: subprocess.Popen | None) -> None:
        super().__init__()
        self._go, self._done = Semaphore(0), Semaphore(0)
        self._second = second

    def on_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Waits for its turn."""
        self._go.acquire()

    def on_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Ends its turn, when the step is done."""
        assert logs is not None
        float(logs["loss"])
        self._done.release()

    def take(self) -> None:
        """Lets a step be taken, and waits for its end."""
        if self._second is not None:
            assert self._second.stdin is not None
            self._second.stdin.write(b"\n")
            self._second.stdin.flush()
        self._go.release()
        self._done.acquire()


class TurnsOfTheFirst(Callback):
    """Has the second process take a step when the first does: it would be ahead by half of one."""

    def on_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Waits to be told."""
        if not sys.stdin.readline():
            os._exit(0)  # the first has ended


def join_processes(options: argparse.Namespace) -> subprocess.Popen | None:
    """Makes one run of two processes; the first starts the second, and returns it."""
    address, second = options.join, None
    if address is None:
        address = f"127.0.0.1:{free_port()}"
        command = [sys.executable, "-m", "experiments.benchmarks.sides.yolo_jax", *sys.argv[1:]]
        second = subprocess.Popen([*command, "--join", address], stdin=subprocess.PIPE, stdout=2)
    distributed.start(address, 2, int(options.join is not None))
    return second


def train(options: argparse.Namespace) -> None:
    """Serves steps of `fit`: SGD with momentum, from uint8 images to new weights."""
    second = join_processes(options) if options.processes > 1 else None
    given = inputs.inputs_of(options)
    network = create_network(options.network, options.classes)
    image = Input((options.side, options.side, 3), name="image", dtype=jnp.uint8)
    model = Model(image, list(apply(network, image)))
    loss = DetectionLoss(NETWORKS[options.network][1], options.classes)
    model.compile(
        optax.sgd(1e-3, momentum=0.9),
        detection(loss),
        parallel=options.strategy,
        devices=jax.devices()[: options.devices],
    )
    # Of which each process takes its own rows.
    batch = given.image, {"boxes": given.boxes, "classes": given.classes}
    rows = itertools.repeat(batch)
    if options.join is not None:
        model.fit(rows, steps_per_epoch=10**6, verbose=0, callbacks=[TurnsOfTheFirst()])
    turns = Turns(second)

    def answer() -> None:
        try:
            _serve(turns.take)
        finally:
            os._exit(0)  # `fit` would wait for its next turn

    Thread(target=answer, daemon=True).start()
    model.fit(rows, steps_per_epoch=10**6, verbose=0, callbacks=[turns])


def inference(options: argparse.Namespace) -> Callable[[], object]:
    """Returns the network's forward pass."""
    given = inputs.inputs_of(options)
    network = create_network(options.network, options.classes)
    graphdef, state = nnx.split(prepare_to_infer(network))
    run = jax.jit(lambda state, image: nnx.merge(graphdef, state, copy=True)(image))
    return lambda: jax.block_until_ready(run(state, given.image))


def detecting(options: argparse.Namespace) -> Callable[[], object]:
    """Returns what finds the objects of photographs, as `yolo_jax.load` does."""
    network = create_network(options.network, options.classes)
    if options.weights is not None:
        load_weights(options.weights, network)
    names, shape = [str(i) for i in range(options.classes)], (options.side, options.side)
    model = YOLO(Detector(network, NETWORKS[options.network][1], names, shape))
    paths = sorted(options.photos.glob("*.jpg"))
    return lambda: model.detect(paths, batch_size=options.batch)


def loss_alone(options: argparse.Namespace) -> Callable[[], object]:
    """Returns loss and gradients of the heads, from padded boxes."""
    given = inputs.inputs_of(options)
    loss = DetectionLoss(NETWORKS[options.network][1], options.classes)
    generator = np.random.default_rng(0)
    heads = [
        jnp.asarray(generator.normal(size=(*grid.shape[:3], grid.shape[3] * grid.shape[4])), "f4")
        for grid in given.grids
    ]

    def total(heads: Sequence[jax.Array], boxes: jax.Array, classes: jax.Array) -> jax.Array:
        return loss(heads, boxes, classes).total().mean()

    run = jax.jit(jax.grad(total))
    boxes, classes = jnp.asarray(given.boxes), jnp.asarray(given.classes)
    return lambda: jax.block_until_ready(run(heads, boxes, classes))


def _serve(work: Callable[[], object]) -> None:
    device = jax.devices()[0]

    def most_held() -> int:
        return device.memory_stats()["peak_bytes_in_use"]

    has_memory = device.platform != "cpu"
    serve(
        work,
        device_memory=most_held if has_memory else None,
        jax=jax.__version__,
        device=device.device_kind,
    )


def main() -> None:
    """Serves one kind of work."""
    keep_freed_memory()
    use_compilation_cache()
    works = {"infer": inference, "loss": loss_alone, "detect": detecting}
    options = inputs.parse_arguments(["train", *works])
    if options.work == "train":
        train(options)
    else:
        _serve(works[options.work](options))


if __name__ == "__main__":
    main()
