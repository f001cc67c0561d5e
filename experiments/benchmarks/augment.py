"""Augmentation on the device, in milliseconds an image, beside a computation that stays the same.

Command: yolo-jax bench augment
Hardware: 2 CPU cores, about a minute.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from yolo_jax.data.augment import ALONE, COPY, MIXUP, MOSAIC, Augment

SIDE, BATCH, BOXES = 416, 8, 50
KERAS_YOLO3 = {"scale": (0.25, 2.0), "aspect_jitter": 0.3, "hsv": (0.1, 1.5, 1.5)}
# What is timed: the options, and how the groups are mixed.
CASES: dict[str, tuple[Augment, list[int]]] = {
    "flip": (Augment(), [ALONE]),
    "flip, jitter": (Augment(scale=(0.25, 2.0), aspect_jitter=0.3), [ALONE]),
    "flip, jitter, HSV": (Augment(**KERAS_YOLO3), [ALONE]),
    "  and mosaic, of all": (Augment(**KERAS_YOLO3, mosaic=1.0), [MOSAIC]),
    "  and mosaic, of none": (Augment(**KERAS_YOLO3, mosaic=0.5), [ALONE]),
    "  and mixup": (Augment(**KERAS_YOLO3, mixup=1.0), [MIXUP]),
    "  and copies": (Augment(**KERAS_YOLO3, copy=1.0), [COPY]),
    "  and all three": (
        Augment(**KERAS_YOLO3, mosaic=0.5, mixup=0.25, copy=0.25),
        [ALONE, MOSAIC, MIXUP, COPY],
    ),
}


def main() -> None:
    """Prints the least and the median time of each case."""
    parser = argparse.ArgumentParser(prog="yolo-jax bench augment", description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    repeats = parser.parse_args().repeats
    # On a busy machine this tells how fast it was meanwhile; the cases take turns with it.
    matrix = jnp.ones((1024, 1024))
    runs: dict[str, Callable] = {
        "product of 1024² (a call)": partial(jax.jit(jnp.dot), matrix, matrix)
    }
    runs |= {
        name: partial(_compiled(augment), *example(augment, mixes))
        for name, (augment, mixes) in CASES.items()
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            jax.block_until_ready(run())
            if turn:  # the first compiles
                times[name].append((time.perf_counter() - start) * 1000)
    print(f"{SIDE}², batch {BATCH}, {BOXES} boxes an image, on {jax.devices()[0].device_kind};")
    print(f"ms an image, {repeats} turns")
    print(f"{'':26s} {'least':>7s} {'median':>7s}")
    for name, found in times.items():
        images = BATCH if name in CASES else 1
        print(f"{name:26s} {min(found) / images:7.2f} {np.median(found) / images:7.2f}")


def example(augment: Augment, mixes: list[int]) -> tuple[jax.Array, ...]:
    """Returns keys, images, boxes, classes and mixes of a batch of noise."""
    generator = np.random.default_rng(0)
    group = (BATCH, augment.group)
    image = generator.integers(0, 256, (*group, SIDE, SIDE, 3), np.uint8)
    size = generator.uniform(8, 100, (*group, BOXES, 2))
    corner = generator.uniform(0, SIDE - size)
    boxes = np.concatenate([corner, corner + size], axis=-1).astype(np.float32)
    classes = generator.integers(0, 80, (*group, BOXES)).astype(np.int32)
    arrays = [image, boxes, classes]
    if augment.group == 1:
        arrays = [part[:, 0] for part in arrays]
    keys = jax.random.split(jax.random.key(0), BATCH)
    return keys, *map(jnp.asarray, arrays), jnp.asarray(mixes * (BATCH // len(mixes)))


def _compiled(augment: Augment) -> Callable:
    return jax.jit(partial(augment, output_shape=(SIDE, SIDE)))


if __name__ == "__main__":
    main()
