"""A server of a tiny network with random weights: run, it serves until a signal ends it."""

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from child_processes import ended, wait_for
from flax import nnx

from yolo_jax.core.allocator import keep_freed_memory
from yolo_jax.core.anchors import TINY
from yolo_jax.detection.detector import Detector
from yolo_jax.detection.nms import Suppression
from yolo_jax.inference.yolo import YOLO
from yolo_jax.networks.yolov3 import TinyYOLOv3
from yolo_jax.serve.limits import Limits
from yolo_jax.serve.server import serve

CONF = 0.2
NAMES = ("ash", "birch", "cedar")
LIMITS = Limits(body=1_000_000, pixels=2_000_000, concurrency=2, waiting=8, seconds=2)


def tiny_model() -> YOLO:
    """Returns the same network at each call."""
    return YOLO(Detector(TinyYOLOv3(3, rngs=nnx.Rngs(1)), TINY, NAMES, (64, 64)))


@contextmanager
def served(
    arguments: Sequence[str], log: Path, **options: object
) -> Iterator[tuple[subprocess.Popen, int]]:
    """Starts Python with arguments that serve, and yields its process and its port."""
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, *arguments], stdout=file, stderr=subprocess.STDOUT, **options
        )
    with ended(process):
        wait_for("serving", process, log)
        found = re.search(r"serving .* at http://127\.0\.0\.1:(\d+)", log.read_text())
        assert found, log.read_text()
        yield process, int(found[1])


if __name__ == "__main__":
    keep_freed_memory()  # as the command does
    serve(
        tiny_model(), "tiny", host="127.0.0.1", port=0, limits=LIMITS, suppression=Suppression(CONF)
    )
