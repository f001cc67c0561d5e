"""What all readers of images have in common, from the standard library and NumPy alone."""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from experiments.benchmarks.sides.serving import serve

SIDE, BATCH, BOXES = 416, 16, 8
# Files stand for so many images each: to shuffle 64, Grain takes 0.4 ms an index; of 4000, 0.01 ms.
TIMES = 64
# More than any reader has ready when it is not asked for any.
BATCHES_AHEAD = 4


def parse_arguments() -> argparse.Namespace:
    """Returns what a reader was started with; `paths` are the folder's images, many times over."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--batches", type=int, default=12, help="of a turn")
    parser.add_argument("--planes", action="store_true", help="leave pixels as [3, h, w]")
    options = parser.parse_args()
    options.paths = sorted(options.folder.glob("*.jpg")) * TIMES
    return options


def serve_reader(
    batches: Callable[[argparse.Namespace], Iterator[Any]], options: argparse.Namespace
) -> None:
    """Serves turns of `options.batches` batches; what is ready from before does not count."""
    stream = batches(options)

    def read(count: int) -> None:
        for _ in range(count):
            next(stream)

    ahead = min(BATCHES_AHEAD, options.batches)
    serve(lambda: read(options.batches), before=lambda: read(ahead))
