"""yolo_jax's Loader, as a side: decode and letterbox; one thread."""

import argparse
from collections.abc import Iterator

import numpy as np
from PIL import Image

from experiments.benchmarks.sides.reading import BATCH, BOXES, SIDE, parse_arguments, serve_reader
from yolo_jax.core.types import Annotation, Batch, Dataset
from yolo_jax.data.pipeline import Loader


def batches(options: argparse.Namespace) -> Iterator[Batch]:
    """Yields the loader's batches for ever."""
    with Image.open(options.paths[0]) as image:
        width, height = image.size
    generator = np.random.default_rng(0)
    annotations = []
    for number, path in enumerate(options.paths):
        corners = generator.uniform(0, 0.5, (BOXES, 2))
        boxes = np.concatenate([corners, corners + 0.3], axis=1) * [width, height, width, height]
        classes, crowd = np.zeros(BOXES, np.int32), np.zeros(BOXES, bool)
        annotations.append(Annotation(number, path, width, height, boxes, classes, crowd))
    dataset = Dataset(annotations, ("tree",), options.folder)
    shape = (SIDE, SIDE)
    return Loader(dataset, batch_size=BATCH, image_shape=shape, shuffle=True, threads=1).batches()


def main() -> None:
    """Serves the reader."""
    serve_reader(batches, parse_arguments())


if __name__ == "__main__":
    main()
