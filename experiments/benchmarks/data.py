"""Images a second of one worker: the loader's, keras-yolo3's, and a PyTorch DataLoader's.

Each decodes the same JPEGs, of COCO's size and of twice that, and letterboxes them to 416². The
loader's work ends at uint8 canvases, since colours are changed on the device; the others' includes
the change of hue, saturation and value, as it does where they are used. Repetitions take turns.

Command: yolo-jax bench data
Hardware: 2 CPU cores, 3 minutes. For the DataLoader: pip install -r requirements-bench.txt
"""

import argparse
import dataclasses
import importlib
import importlib.util
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from PIL import Image

from yolo_jax.core.types import Annotation, Dataset
from yolo_jax.data.images import decode_image, decode_to_fit
from yolo_jax.data.letterbox import letterbox, letterbox_bicubic
from yolo_jax.data.pipeline import Loader

SHIPPED = Path(__file__).parents[1] / "data" / "tree_crowns" / "images"
SIZES = ((640, 480), (1280, 960))
SIDE, BATCH, BOXES = 416, 16, 8
# Gives 157 kB at 640×480, which is the mean of COCO's files.
QUALITY = 85
# Files stand for so many images each: to shuffle 64, Grain takes 0.4 ms an index; of 4000, 0.01 ms.
TIMES = 64
# More than either reader has ready when it is not asked for any.
BATCHES_AHEAD = 4
# In which the reader whose turn it was fills up what it keeps ready, at nobody's cost.
SETTLE_SECONDS = 0.5


def main() -> None:
    """Prints a table for each question."""
    parser = argparse.ArgumentParser(prog="yolo-jax bench data", description=__doc__)
    parser.add_argument("--images", type=int, default=64, help="files of each size")
    parser.add_argument("--batches", type=int, default=12, help=f"of {BATCH}, timed at a time")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            dataset = make_images(Path(folder), size, options.images)
            measure_loading(dataset, options.batches, options.repeats)
            measure_steps(dataset, options.repeats)


def make_images(folder: Path, size: tuple[int, int], number: int) -> Dataset:
    """Writes JPEGs of (width, height) px, cut from squares of the shipped tiles."""
    width, height = size
    tiles = [np.asarray(Image.open(path)) for path in sorted(SHIPPED.glob("*.jpg"))]
    tiles = [tile for tile in tiles if tile.shape == (400, 400, 3)]
    generator = np.random.default_rng(0)
    corners = generator.uniform(0, 0.5, (number, BOXES, 2))
    boxes = np.concatenate([corners, corners + 0.3], axis=2) * [width, height, width, height]
    annotations = []
    for index in range(number):
        rows = [
            np.concatenate([tiles[i] for i in generator.integers(len(tiles), size=4)], axis=1)
            for _ in range(3)
        ]
        path = folder / f"{index}.jpg"
        Image.fromarray(np.concatenate(rows)[:height, :width]).save(path, quality=QUALITY)
        classes, crowd = np.zeros(BOXES, np.int32), np.zeros(BOXES, bool)
        annotations.append(Annotation(index, path, width, height, boxes[index], classes, crowd))
    return Dataset(annotations, ("tree",), folder)


def measure_loading(dataset: Dataset, batches: int, repeats: int) -> None:
    """Prints images a second of one worker of each reader, and the loader's ratio to them."""
    annotations = list(dataset.annotations) * TIMES
    paths = [annotation.path for annotation in annotations]
    dataset = dataclasses.replace(dataset, annotations=annotations)
    loader = Loader(dataset, batch_size=BATCH, image_shape=(SIDE, SIDE), shuffle=True, threads=1)
    readers: dict[str, Iterator[Any]] = {"yolo_jax's Loader": loader.batches()}
    if importlib.util.find_spec("torch") is None:
        print("PyTorch is not installed: .venv/bin/pip install -r requirements-bench.txt")
    else:
        readers["PyTorch DataLoader, OpenCV"] = torch_batches(OpenCVImages(paths))
        planes = OpenCVImages(paths, planes=True)
        readers["the same, to planes (CHW), as Ultralytics"] = torch_batches(planes)
    readers["keras-yolo3's way"] = keras_yolo3_batches(paths)
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in readers}
    for _, (name, reader) in itertools.product(range(repeats), readers.items()):
        figures[name].append(rate_and_cost(reader, 1 if "keras" in name else batches))
    width, height = annotations[0].width, annotations[0].height
    kilobytes = np.mean([path.stat().st_size for path in set(paths)]) / 1000
    print(
        f"\n{width}×{height} JPEGs of {kilobytes:.0f} kB to {SIDE}², one worker, {repeats} turns;"
    )
    print("of each figure how many times better ours is. A loaded machine spoils CPU time less.")
    print(f"  {'':41s}  {'images a second, median':>23s}  {'ms of CPU an image, least':>25s}")
    ours = np.array(figures["yolo_jax's Loader"])
    for name, found in figures.items():
        rate, faster = np.median([row[0] for row in found]), np.median((ours / found)[:, 0])
        cost = min(row[1] for row in found)
        cheaper = cost / ours[:, 1].min()
        print(f"  {name:41s}  {rate:16.0f} {faster:6.2f}  {cost:18.2f} {cheaper:6.2f}")


def rate_and_cost(reader: Iterator[Any], batches: int) -> tuple[float, float]:
    """Returns a reader's images a second, and ms of CPU an image, of this process and its children.

    What it has ready from before does not count.
    """
    time.sleep(SETTLE_SECONDS)
    for _ in range(BATCHES_AHEAD if batches > 1 else 0):
        next(reader)
    start, used = time.perf_counter(), cpu_seconds()
    for _ in range(batches):
        next(reader)
    images = batches * BATCH
    return images / (time.perf_counter() - start), (cpu_seconds() - used) * 1000 / images


def cpu_seconds() -> float:
    """Returns the CPU time that this process and its children have had."""
    times = [child.cpu_times() for child in psutil.Process().children()]
    return time.process_time() + sum(each.user + each.system for each in times)


def keras_yolo3_batches(paths: Sequence[Path]) -> Iterator[np.ndarray]:
    """Yields what keras-yolo3's generator does of images that fill the canvas.

    Source: keras-yolo3's `get_random_data` and `data_generator`.
    """
    generator, stream = np.random.default_rng(0), itertools.cycle(paths)
    while True:
        chosen = itertools.islice(stream, BATCH)
        yield np.array([keras_yolo3_image(path, generator) for path in chosen])


def keras_yolo3_image(path: Path, generator: np.random.Generator) -> np.ndarray:
    """Returns an image of 0–1, [416, 416, 3] float64: Pillow's bicubic, matplotlib's colours."""
    image = Image.open(path)
    scale = min(SIDE / image.width, SIDE / image.height)
    width, height = int(image.width * scale), int(image.height * scale)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    canvas = Image.new("RGB", (SIDE, SIDE), (128, 128, 128))
    canvas.paste(image, ((SIDE - width) // 2, (SIDE - height) // 2))
    hsv = rgb_to_hsv(np.array(canvas) / 255.0)
    hsv[..., 0] = (hsv[..., 0] + generator.uniform(-0.1, 0.1)) % 1
    hsv[..., 1:] = np.clip(hsv[..., 1:] * generator.uniform(1, 1.5, 2), 0, 1)
    return hsv_to_rgb(hsv)


class OpenCVImages:
    """A PyTorch data set of images and boxes, all its work by OpenCV.

    Args:
        paths: of the images.
        planes: copy the pixels to [3, h, w], as Ultralytics does, whose recolouring by tables
            this is too; otherwise they stay [h, w, 3], as OpenCV has them.
    """

    def __init__(self, paths: Sequence[Path], *, planes: bool = False) -> None:
        self.paths, self.planes = [str(path) for path in paths], planes
        self.generator = np.random.default_rng(0)

    def __len__(self) -> int:
        """Returns the images of a pass."""
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns RGB pixels, boxes and classes; the DataLoader makes tensors of them."""
        image = cv2.imread(self.paths[index])
        assert image is not None  # this file's own
        scale = min(SIDE / image.shape[1], SIDE / image.shape[0])
        width, height = int(image.shape[1] * scale), int(image.shape[0] * scale)
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        top, left = (SIDE - height) // 2, (SIDE - width) // 2
        below, right = SIDE - height - top, SIDE - width - left
        grey = (114, 114, 114)
        image = cv2.copyMakeBorder(image, top, below, left, right, cv2.BORDER_CONSTANT, value=grey)
        image = self._recoloured(image)
        if self.planes:
            image = np.ascontiguousarray(image.transpose(2, 0, 1))
        return image, np.zeros((BOXES, 4), np.float32), np.zeros(BOXES, np.int32)

    def _recoloured(self, image: np.ndarray) -> np.ndarray:
        gains = self.generator.uniform(-1, 1, 3) * (0.015, 0.7, 0.4) + 1
        hue, saturation, value = cv2.split(cv2.cvtColor(image, cv2.COLOR_BGR2HSV))
        steps = np.arange(256)
        tables = [(steps * gains[0]) % 180, *(np.clip(steps * gain, 0, 255) for gain in gains[1:])]
        planes = zip((hue, saturation, value), tables, strict=True)
        hsv = cv2.merge([cv2.LUT(plane, table.astype(np.uint8)) for plane, table in planes])
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def torch_batches(images: OpenCVImages) -> Iterator[Any]:
    """Yields a DataLoader's batches for ever, from one worker process."""
    # PyTorch is no dependency: it may be missing.
    data = importlib.import_module("torch.utils.data")
    # Spawned, since JAX's threads do not outlive a fork; this module makes OpenCV use one thread.
    loader = data.DataLoader(
        images,
        batch_size=BATCH,
        shuffle=True,
        num_workers=1,
        drop_last=True,
        persistent_workers=True,
        multiprocessing_context="spawn",
    )
    while True:
        yield from loader


def measure_steps(dataset: Dataset, repeats: int) -> None:
    """Prints what each step of the loader's work takes on one core, and Pillow's in its place."""
    shape, paths = (SIDE, SIDE), [annotation.path for annotation in dataset.annotations]
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
