"""Images a second of one worker: the loader's, keras-yolo3's, and a PyTorch DataLoader's.

Each decodes the same JPEGs, of COCO's size and of twice that, and letterboxes them to 416². The
loader's work ends at uint8 canvases, since colours are changed on the device; the others' includes
the change of hue, saturation and value, as it does where they are used.

Command: yolo-jax bench data
Hardware: 2 CPU cores, 4 minutes.
"""

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from experiments.benchmarks.sides.reading import BATCH, SIDE
from experiments.benchmarks.sides.turns import Case, Side, measure, save
from yolo_jax.data.images import decode_image, decode_to_fit
from yolo_jax.data.letterbox import letterbox, letterbox_bicubic

SHIPPED = Path(__file__).parents[1] / "data" / "tree_crowns" / "images"
SIZES = ((640, 480), (1280, 960))
# Gives 157 kB at 640×480, which is the mean of COCO's files.
QUALITY = 85


def main() -> None:
    """Prints a table for each question."""
    parser = argparse.ArgumentParser(prog="yolo-jax bench data", description=__doc__)
    parser.add_argument("--images", type=int, default=64, help="files of each size")
    parser.add_argument("--batches", type=int, default=12, help=f"of {BATCH}, timed at a time")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write machine, medians and ratios")
    options = parser.parse_args()
    cases = []
    for size in SIZES:
        with tempfile.TemporaryDirectory() as name:
            paths = make_images(Path(name), size, options.images)
            cases += measure_loading(Path(name), size, options.batches, options.turns)
            measure_steps(paths, options.turns)
    save(options.json, cases)


def make_images(folder: Path, size: tuple[int, int], number: int) -> list[Path]:
    """Writes JPEGs of (width, height) px, cut from squares of the shipped tiles."""
    width, height = size
    tiles = [np.asarray(Image.open(path)) for path in sorted(SHIPPED.glob("*.jpg"))]
    tiles = [tile for tile in tiles if tile.shape == (400, 400, 3)]
    generator = np.random.default_rng(0)
    paths = []
    for index in range(number):
        rows = [
            np.concatenate([tiles[i] for i in generator.integers(len(tiles), size=4)], axis=1)
            for _ in range(3)
        ]
        paths.append(folder / f"{index:04d}.jpg")
        Image.fromarray(np.concatenate(rows)[:height, :width]).save(paths[-1], quality=QUALITY)
    return paths


def measure_loading(folder: Path, size: tuple[int, int], batches: int, turns: int) -> list[Case]:
    """Measures the loader beside a DataLoader, and beside keras-yolo3's way."""
    print(f"\n{size[0]}×{size[1]} JPEGs to {SIDE}², one worker, {batches * BATCH} images a turn")
    arguments = [folder, "--batches", batches]
    with_planes = Side("dataloader", [*arguments, "--planes"], peer=True)
    fast = {
        "yolo_jax's Loader": Side("loader", arguments, peer=False),
        "PyTorch DataLoader, OpenCV": Side("dataloader", arguments, peer=True),
        "the same, to planes (CHW)": with_planes,
    }
    cases = [measure(f"data_{size[0]}", fast, turns)]
    few = [folder, "--batches", 1]
    slow = {
        "yolo_jax's Loader": Side("loader", few, peer=False),
        "keras-yolo3's way": Side("keras_yolo3", few, peer=False),
    }
    return [*cases, measure(f"data_{size[0]}_keras_yolo3", slow, turns)]


def measure_steps(paths: list[Path], repeats: int) -> None:
    """Prints what each step of the loader's work takes on one core, and Pillow's in its place."""
    shape = (SIDE, SIDE)
    files = [path.read_bytes() for path in paths]
    # One of each is as good as all, which would fill the memory.
    small, whole = decode_to_fit(files[0], paths[0], shape), decode_image(files[0], paths[0])
    steps: dict[str, Callable[[int], Any]] = {
        "read the file": lambda i: paths[i].read_bytes(),
        "decode, reduced where it shrinks by 2": lambda i: decode_to_fit(files[i], paths[i], shape),
        "letterbox": lambda _: letterbox(small.pixels, shape, original=small.original),
        "Pillow: decode": lambda i: decode_image(files[i], paths[i]),
        "Pillow: letterbox, bicubic": lambda _: letterbox_bicubic(whole, shape),
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _, (name, step) in itertools.product(range(repeats), steps.items()):
        start = time.perf_counter()
        for index in range(len(files)):
            step(index)
        times[name].append((time.perf_counter() - start) * 1000 / len(files))
    print("  steps, ms an image, median (least):")
    for name, found in times.items():
        print(f"    {name:40s} {np.median(found):6.3f} ({min(found):.3f})")


if __name__ == "__main__":
    main()
