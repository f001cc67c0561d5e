"""Inference beside PyTorch's and ONNX Runtime's: YOLOv3 and YOLOv3-tiny at 416², float32.

First the network alone, from the same uint8 images to raw heads, batch normalisation folded. Then
from photographs to boxes: JPEGs of 640×480 are read, letterboxed, looked at, and what overlaps is
suppressed; tiny has its official weights, YOLOv3 those that it begins with, by which it finds
nothing. Of PyTorch, eager and compiled, and ONNX Runtime the fastest counts.

Command: yolo-jax bench infer
Hardware: 2 CPU cores, about 12 minutes.
"""

import argparse
import tempfile
from pathlib import Path

from experiments.benchmarks.data import make_images
from experiments.benchmarks.sides.turns import Side, measure, save
from yolo_jax.networks.pretrained import fetch_pretrained

NETWORKS = {
    "yolov3_b1": ("yolov3", 1),
    "yolov3_b2": ("yolov3", 2),
    "tiny_b1": ("tiny", 1),
    "tiny_b8": ("tiny", 8),
}
PHOTOS = {f"photos_{name}": case for name, case in NETWORKS.items()}
NUMBER = {"yolov3": 4, "tiny": 16}  # photographs a turn
SIZE = (640, 480)


def main() -> None:
    """Prints a table for each case."""
    parser = argparse.ArgumentParser(prog="yolo-jax bench infer", description=__doc__)
    every = [*NETWORKS, *PHOTOS]
    parser.add_argument("--cases", nargs="+", choices=every, default=every)
    parser.add_argument("--side", type=int, default=416)
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--json", type=Path, help="write machine, medians and ratios")
    options = parser.parse_args()
    measured = []
    with tempfile.TemporaryDirectory() as name:
        for case in options.cases:
            network, batch = (NETWORKS | PHOTOS)[case]
            arguments = ["--network", network, "--batch", batch, "--side", options.side]
            if case in PHOTOS:
                folder = photographs(Path(name) / network, NUMBER[network])
                arguments = ["detect", *arguments, "--photos", folder]
                arguments += ["--weights", fetch_pretrained()] if network == "tiny" else []
            else:
                arguments = ["infer", *arguments]
            sides = {
                "yolo_jax": Side("yolo_jax", arguments, peer=False),
                "PyTorch": Side("pytorch", arguments, peer=True),
                "PyTorch, torch.compile": Side("pytorch", [*arguments, "--compile"], peer=True),
                "ONNX Runtime": Side("onnx_runtime", arguments, peer=True),
            }
            measured.append(measure(case, sides, options.turns))
    save(options.json, measured)


def photographs(folder: Path, number: int) -> Path:
    """Returns a folder of photographs, which it makes once."""
    if not folder.is_dir():
        folder.mkdir()
        make_images(folder, SIZE, number)
    return folder


if __name__ == "__main__":
    main()
