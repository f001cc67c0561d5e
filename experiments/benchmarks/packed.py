"""A packed set of 100,000 images: from its start to the first batch, and memory over a pass.

The images are 64 small JPEGs again and again, each with its own boxes. Started in a process of its
own, so that neither what made the set nor an earlier benchmark counts.

Command: yolo-jax bench packed
Hardware: 2 CPU cores, 2 minutes, 0.5 GB of disk.
"""

import argparse
import io
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from yolo_jax.core.types import Annotation, Dataset
from yolo_jax.data.pipeline import Loader
from yolo_jax.data.readers.array_record import read_array_record
from yolo_jax.data.writers.array_record import write_array_record

SIDE, FILES, CLASSES, BATCH = 160, 64, 80, 64


def main() -> None:
    """Makes the set, or reads the one that `--read` names."""
    parser = argparse.ArgumentParser(prog="yolo-jax bench packed", description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read is not None:
        measure(options.read, options.workers)
        return
    with tempfile.TemporaryDirectory() as folder:
        packed = Path(folder) / "packed"
        write_array_record(repeated(options.images), packed)
        size = sum(file.stat().st_size for file in packed.iterdir()) / 1e6
        print(f"{options.images} images in {size:.0f} MB", flush=True)
        command = [sys.executable, "-m", "experiments.benchmarks.packed", "--read", str(packed)]
        subprocess.run([*command, "--workers", str(options.workers)], check=True)


def repeated(images: int) -> Dataset:
    """Returns a data set of a few files in memory, each of which stands for many images."""
    generator = np.random.default_rng(0)
    files = []
    for _ in range(FILES):
        noise = generator.integers(0, 255, (12, 16, 3), np.uint8)
        stream = io.BytesIO()
        Image.fromarray(noise).resize((SIDE, SIDE)).save(stream, "JPEG")
        files.append(stream.getvalue())

    def annotation(number: int) -> Annotation:
        boxes = int(generator.integers(0, 15))
        corner = generator.uniform(0, SIDE / 2, (boxes, 2))
        size = generator.uniform(2, SIDE / 2, (boxes, 2))
        return Annotation(
            image_id=number,
            path=Path(f"{number:012d}.jpg"),
            width=SIDE,
            height=SIDE,
            boxes=np.concatenate([corner, corner + size], axis=1).astype(np.float32),
            classes=generator.integers(0, CLASSES, boxes).astype(np.int32),
            crowd=np.zeros(boxes, bool),
        )

    names = tuple(f"class {number}" for number in range(CLASSES))
    annotations = tuple(map(annotation, range(images)))
    return Dataset(annotations, names, Path("made"), lambda one: files[one.image_id % FILES])


def measure(packed: Path, workers: int) -> None:
    """Prints the time to the first batch, and how much memory grows from there over a pass."""
    start = time.perf_counter()
    dataset, _ = read_array_record(packed)
    loader = Loader(
        dataset, batch_size=BATCH, image_shape=(SIDE, SIDE), shuffle=True, workers=workers
    )
    batches = loader.one_pass()
    next(batches)
    print(f"start to first batch: {time.perf_counter() - start:.1f} s, {workers} workers")
    first = most = _resident()
    start, number = time.perf_counter(), 1
    for number, _ in enumerate(batches, 2):
        if number % 50 == 0:
            most = max(most, _resident())
    seconds = time.perf_counter() - start
    print(f"a pass of {number} batches: {number * BATCH / seconds:.0f} images/s")
    print(f"resident memory: {first:.0f} MB at the first batch, {most - first:.0f} MB more at most")


def _resident() -> float:
    """Returns the MB of this process and its workers."""
    own = psutil.Process()
    return sum(one.memory_info().rss for one in (own, *own.children(recursive=True))) / 1e6


if __name__ == "__main__":
    main()
