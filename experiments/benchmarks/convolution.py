"""Every convolution of YOLOv3 (batch 2) and YOLOv3-tiny (batch 8) at 416², in each way.

Inference is the forward pass of one image, with kernels transformed beforehand. With --write the
table that the networks choose by is made anew: of each shape the simplest way that is within a
twentieth of the fastest.

Command: yolo-jax bench convolution
Hardware: 2 CPU cores, about 10 minutes.
"""

import argparse
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from yolo_jax.networks import blocks, convolution, cpu_table, winograd
from yolo_jax.networks.yolov3 import NETWORKS

SIDE, CLASSES, NEAR = 416, 80, 1.05
BATCHES = {"yolov3": 2, "tiny": 8}
PARTS = ("forward", "kernel gradient", "input gradient", "inference, one")
# Kernel shape, stride, and shape of the inputs.
Shape = tuple[tuple[int, int, int, int], int, tuple[int, int, int, int]]
TABLE_HEAD = '''\
"""In which way a CPU convolves fastest; made by `yolo-jax bench convolution --write`."""

# (kernel size, stride, channels, filters): ways of the forward pass, of the gradients of the kernel
# and of the inputs, and of the forward pass in inference.
WAYS: dict[tuple[int, int, int, int], tuple[str, str, str, str]] = {
'''


def main() -> None:
    """Prints ms of each way, and GFLOP/s (as multiplied the usual way) of the fastest."""
    parser = argparse.ArgumentParser(prog="yolo-jax bench convolution", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="make networks/cpu_table.py anew")
    options = parser.parse_args()
    names = list(convolution.CPU_WAYS)
    print(f"ms, least of {options.repeats}: {' / '.join(names)}, then GFLOP/s of the fastest")
    totals: dict[tuple[int, int, int, int], np.ndarray] = defaultdict(
        lambda: np.zeros((len(PARTS), len(names)))
    )
    for shape, count in shapes_of_networks().items():
        times = measure(shape, options.repeats)
        (size, _, channels, filters), stride, (batch, height, width, _) = shape
        totals[size, stride, channels, filters] += count * times
        flops = 2e-6 * batch * size**2 * channels * filters * height * width / stride**2
        print(f"{size}×{size} {channels}→{filters}, {stride}, {batch}×{height}² ×{count}")
        for part, row in zip(PARTS, times, strict=True):
            cells = " / ".join(f"{ms:7.1f}" for ms in row)
            images = 1 if part == PARTS[-1] else batch
            print(f"  {part:16s}{cells} {flops * images / batch / row.min():6.0f}", flush=True)
    table = {key: tuple(names[_choose(row)] for row in times) for key, times in totals.items()}
    print("all of both networks, ms:")
    for index, part in enumerate(PARTS):
        rows = np.array([times[index] for times in totals.values()])
        best = sum(row[_choose(row)] for row in rows)
        print(f"  {part:16s}by XLA {rows[:, 0].sum():.0f}, by the table {best:.0f}")
    if options.write:
        lines = [f"    {key}: {value!r},\n" for key, value in sorted(table.items())]
        text = TABLE_HEAD + "".join(lines).replace("'", '"') + "}\n"
        Path(cpu_table.__file__).write_text(text)


def _choose(times: np.ndarray) -> int:
    """Returns the first of the ways, simplest first, that is about as fast as any."""
    return int(np.argmax(times <= NEAR * times.min()))


def shapes_of_networks() -> Counter[Shape]:
    """Returns the convolutions of both networks, and how often each is there."""
    found: Counter[Shape] = Counter()

    def record(inputs: jax.Array, kernel: jax.Array, stride: int, padding: convolution.Padding):
        found[cast(Shape, (kernel.shape, stride, inputs.shape))] += 1
        return convolution.forward_by_xla(inputs, kernel, stride, padding)

    def run(kind: Callable, batch: int) -> None:
        network = kind(CLASSES, rngs=nnx.Rngs(0))
        network.eval()
        network(jnp.zeros((batch, SIDE, SIDE, 3)))

    with mock.patch.object(blocks, "conv2d", record):
        for name, (kind, _) in NETWORKS.items():
            jax.eval_shape(partial(run, kind, BATCHES[name]))
    return found


def measure(shape: Shape, repeats: int) -> np.ndarray:
    """Returns least ms [part, way]; ∞: not possible."""
    kernel_shape, stride, inputs_shape = shape
    padding = convolution.darknet_padding(kernel_shape[0], stride)
    generator = np.random.default_rng(0)
    inputs = jnp.asarray(generator.normal(size=inputs_shape), jnp.float32)
    kernel = jnp.asarray(generator.normal(size=kernel_shape), jnp.float32)
    grad = convolution.forward_by_xla(inputs, kernel, stride, padding)
    times = np.full((len(PARTS), len(convolution.CPU_WAYS), repeats), np.inf)
    runs = {}
    for column, (name, ways) in enumerate(convolution.CPU_WAYS.items()):
        tile = convolution.WINOGRAD_TILES.get(name)
        if tile is not None and (kernel_shape[0], stride) != (3, 1):
            continue
        forward, *gradients = (jax.jit(partial(w, stride=stride, padding=padding)) for w in ways)
        runs[0, column] = partial(forward, inputs, kernel)
        for row, gradient in enumerate(gradients, 1):
            runs[row, column] = partial(gradient, inputs, kernel, grad)
        infer, ready = forward, kernel
        if tile is not None:
            infer = jax.jit(partial(winograd.convolve_transformed, padding=padding, tile=tile))
            ready = winograd.transform_kernel(kernel, tile)
        runs[3, column] = partial(infer, inputs[:1], ready)
    for repeat in range(-1, repeats):  # the first compiles
        for place, run in runs.items():
            start = time.perf_counter()
            jax.block_until_ready(run())
            if repeat >= 0:
                times[*place, repeat] = (time.perf_counter() - start) * 1000
    return times.min(axis=2)


if __name__ == "__main__":
    main()
