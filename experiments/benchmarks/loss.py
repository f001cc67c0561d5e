"""Loss and gradient from padded boxes, by number of classes, beside PyTorch's from dense grids.

PyTorch's is plain and vectorised, and has its grids ready. The first table sets ours against
writing the heads' gradient and nothing else.

Command: yolo-jax bench loss
Hardware: 2 CPU cores, about 3 minutes.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.sides.turns import Case, Side, measure, save
from yolo_jax.core.anchors import YOLOV3
from yolo_jax.detection.loss import DetectionLoss

SIDE, BATCH, BOXES = 416, 8, 50


def main() -> None:
    """Prints milliseconds an image for each number of classes."""
    parser = argparse.ArgumentParser(prog="yolo-jax bench loss", description=__doc__)
    parser.add_argument("--classes", type=int, nargs="+", default=[1, 20, 80])
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--turns", type=int, default=15, help="beside PyTorch")
    parser.add_argument("--json", type=Path, help="write machine, medians and ratios")
    options = parser.parse_args()
    print(f"YOLOv3's three heads at {SIDE}², batch {BATCH}, {BOXES} boxes an image, ms an image;")
    print(f"median (least) of {options.repeats} runs on {jax.devices()[0].device_kind}")
    print(f"{'classes':>7s}  {'loss + gradient':>16s}  {'writing zeros':>16s}  difference")
    for classes in options.classes:
        heads, boxes, labels = example(classes)
        loss = DetectionLoss(YOLOV3, classes)

        def total(heads, boxes, labels, loss=loss):
            return loss(heads, boxes, labels).total().mean()

        def zeros(heads):
            return jax.tree.map(jnp.zeros_like, heads)

        measured = milliseconds(
            jax.jit(jax.value_and_grad(total)), heads, boxes, labels, repeats=options.repeats
        )
        written = milliseconds(jax.jit(zeros), heads, repeats=options.repeats)
        shown = [f"{np.median(each):.3f} ({each.min():.3f})" for each in (measured, written)]
        difference = np.median(measured) - np.median(written)
        print(f"{classes:7d}  {shown[0]:>16s}  {shown[1]:>16s}  {difference:.3f}")
    save(options.json, [beside_pytorch(classes, options.turns) for classes in (20, 80)])


def beside_pytorch(classes: int, turns: int) -> Case:
    """Measures loss and gradient of a batch beside PyTorch's, eager and compiled."""
    arguments = ["loss", "--batch", BATCH, "--side", SIDE, "--classes", classes, "--boxes", BOXES]
    sides = {
        "yolo_jax, padded boxes": Side("yolo_jax", arguments, peer=False),
        "PyTorch, dense": Side("pytorch", arguments, peer=True),
        "PyTorch, torch.compile": Side("pytorch", [*arguments, "--compile"], peer=True),
    }
    return measure(f"loss_{classes}", sides, turns)


def example(classes: int) -> tuple[list[jax.Array], jax.Array, jax.Array]:
    """Returns random heads, and boxes of all sizes with random classes."""
    generator = np.random.default_rng(0)
    heads = [
        jnp.asarray(generator.normal(size=(BATCH, *grid, 3 * (5 + classes))), jnp.float32)
        for grid in YOLOV3.grid_shapes((SIDE, SIDE))
    ]
    size = generator.uniform(8, 200, (BATCH, BOXES, 2))
    corner = generator.uniform(0, SIDE - size)
    boxes = jnp.asarray(np.concatenate([corner, corner + size], axis=-1), jnp.float32)
    return heads, boxes, jnp.asarray(generator.integers(0, classes, (BATCH, BOXES)), jnp.int32)


def milliseconds(function: Callable, *arguments: object, repeats: int) -> np.ndarray:
    """Returns the time of each call, compiled before, in ms an image."""
    jax.block_until_ready(function(*arguments))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append((time.perf_counter() - start) * 1000 / BATCH)
    return np.asarray(times)


if __name__ == "__main__":
    main()
