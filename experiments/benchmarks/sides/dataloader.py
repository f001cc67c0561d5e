"""A PyTorch DataLoader over OpenCV, as a side: decode, letterbox, recolour; one worker process.

Runs in `.venv-bench`, and knows nothing of yolo_jax.
"""
# pyright: reportMissingImports=false

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from torch.utils import data

from experiments.benchmarks.sides.reading import BATCH, BOXES, SIDE, parse_arguments, serve_reader

cv2.setNumThreads(1)  # one worker is measured


class OpenCVImages(data.Dataset):
    """A data set of images and boxes, all its work by OpenCV.

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
        assert image is not None  # the benchmark's own
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


def batches(options: argparse.Namespace) -> Iterator[Any]:
    """Yields a DataLoader's batches for ever, from one worker process."""
    images = OpenCVImages(options.paths, planes=options.planes)
    loader = data.DataLoader(
        images, batch_size=BATCH, shuffle=True, num_workers=1, drop_last=True,
        persistent_workers=True,
    )  # fmt: skip
    while True:
        yield from loader


def main() -> None:
    """Serves the reader."""
    serve_reader(batches, parse_arguments())


if __name__ == "__main__":
    main()
