"""keras-yolo3's way of reading, as a side: Pillow's bicubic, matplotlib's colours.

Source: keras-yolo3's `get_random_data` and `data_generator`, of images that fill the canvas.
"""

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from PIL import Image

from experiments.benchmarks.sides.reading import BATCH, SIDE, parse_arguments, serve_reader


def batches(options: argparse.Namespace) -> Iterator[np.ndarray]:
    """Yields batches of 0–1, [b, 416, 416, 3] float64, for ever."""
    generator, stream = np.random.default_rng(0), itertools.cycle(options.paths)
    while True:
        yield np.array([read(path, generator) for path in itertools.islice(stream, BATCH)])


def read(path: Path, generator: np.random.Generator) -> np.ndarray:
    """Returns an image of 0–1, [416, 416, 3] float64."""
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


def main() -> None:
    """Serves the reader."""
    serve_reader(batches, parse_arguments())


if __name__ == "__main__":
    main()
