"""Suppression of one image's detections by kind: milliseconds, from the decoded predictions.

The predictions are those of heads that were drawn: of YOLOv3 at 416² with 80 classes, 10,647 boxes,
with as many objects as it says, each seen by the three boxes of a cell, and noise. At a least score
of 0.001, as for average precision, the most detections are found, 100.

Command: yolo-jax bench nms
Hardware: 2 CPU cores, a minute.
"""

import argparse
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from yolo_jax.core.anchors import YOLOV3
from yolo_jax.detection.decode import Predictions, decode
from yolo_jax.detection.nms import Suppression, non_max_suppression

SIDE, CLASSES = 416, 80
CASES = {
    "greedy, score 0.25": Suppression(0.25),
    "greedy, score 0.001": Suppression(0.001),
    "greedy, classes together": Suppression(0.25, class_agnostic=True),
    "soft, score 0.25": Suppression(0.25, kind="soft"),
    "fusion, score 0.25": Suppression(0.25, kind="fusion"),
}


def main() -> None:
    """Prints milliseconds by kind, of few and of many objects."""
    parser = argparse.ArgumentParser(prog="yolo-jax bench nms", description=__doc__)
    parser.add_argument("--batch", type=int, default=1, help="images at once (default 1)")
    parser.add_argument("--repeats", type=int, default=50)
    options = parser.parse_args()
    print(
        f"{options.batch} × YOLOv3's predictions at {SIDE}², {CLASSES} classes; ms, median (least)"
    )
    for objects in (5, 60):
        predictions = jax.block_until_ready(drawn(objects, options.batch))
        for name, how in CASES.items():
            run = jax.jit(partial(non_max_suppression, how=how))
            found = int((run(predictions).classes >= 0).sum())
            times = milliseconds(run, predictions, options.repeats)
            shown = f"{np.median(times):.2f} ({times.min():.2f})"
            print(f"{objects:3d} objects  {name:26s}{found:5d} found  {shown:>14s}", flush=True)


def drawn(objects: int, batch: int) -> Predictions:
    """Returns the predictions of heads with some objects, each seen by a cell, and noise."""
    generator = np.random.default_rng(0)
    heads = []
    for rows, columns in YOLOV3.grid_shapes((SIDE, SIDE)):
        head = generator.normal(0, 1, (batch, rows, columns, 3, 5 + CLASSES)).astype(np.float32)
        head[..., 4:] -= 5
        for _ in range(-(-objects // 3)):
            seen = head[:, generator.integers(rows), generator.integers(columns)]
            seen[..., 4] += 6
            seen[..., 5 + generator.integers(CLASSES)] += 8
        heads.append(jnp.asarray(head))
    return jax.jit(partial(decode, anchors=YOLOV3))(heads)


def milliseconds(run, predictions: Predictions, repeats: int) -> np.ndarray:
    """Returns what each run of a compiled program took."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(run(predictions))
        times.append((time.perf_counter() - start) * 1e3)
    return np.asarray(times)


if __name__ == "__main__":
    main()
