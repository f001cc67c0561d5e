"""yolo_jax's own work, as a side like the others."""

import argparse
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from experiments.benchmarks.sides import inputs
from experiments.benchmarks.sides.serving import serve
from yolo_jax.cli import use_compilation_cache
from yolo_jax.detection.loss import DetectionLoss
from yolo_jax.model.graph import Input, apply
from yolo_jax.model.losses import detection
from yolo_jax.model.model import Model
from yolo_jax.networks.blocks import fold_batch_norm
from yolo_jax.networks.yolov3 import NETWORKS, create_network


def training(options: argparse.Namespace) -> Callable[[], object]:
    """Returns a step of `fit`: SGD with momentum, from uint8 images to new weights."""
    given = _inputs(options)
    network = create_network(options.network, options.classes)
    image = Input((options.side, options.side, 3), name="image", dtype=jnp.uint8)
    model = Model(image, list(apply(network, image)))
    loss = DetectionLoss(NETWORKS[options.network][1], options.classes)
    model.compile(optax.sgd(1e-3, momentum=0.9), detection(loss), devices=jax.devices()[:1])
    targets = {"boxes": given.boxes, "classes": given.classes}
    return lambda: model.train_on_batch(given.image, targets)


def inference(options: argparse.Namespace) -> Callable[[], object]:
    """Returns the network's forward pass."""
    given = _inputs(options)
    network = create_network(options.network, options.classes)
    graphdef, state = nnx.split(fold_batch_norm(network))
    run = jax.jit(lambda state, image: nnx.merge(graphdef, state, copy=True)(image))
    return lambda: jax.block_until_ready(run(state, given.image))


def loss_alone(options: argparse.Namespace) -> Callable[[], object]:
    """Returns loss and gradients of the heads, from padded boxes."""
    given = _inputs(options)
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


def _inputs(options: argparse.Namespace) -> inputs.Inputs:
    return inputs.make_inputs(
        options.network,
        batch=options.batch,
        side=options.side,
        num_classes=options.classes,
        count=options.boxes,
    )


def main() -> None:
    """Serves one kind of work."""
    use_compilation_cache()
    works = {"train": training, "infer": inference, "loss": loss_alone}
    options = inputs.parse_arguments(works)
    serve(works[options.work](options), jax=jax.__version__)


if __name__ == "__main__":
    main()
