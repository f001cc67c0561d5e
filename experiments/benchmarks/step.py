"""A training step beside PyTorch's: YOLOv3 and YOLOv3-tiny at 416², SGD with momentum, float32.

Both start from the same uint8 images and end with new weights. PyTorch has its dense targets ready;
ours are matched to the anchors within the step. The better of eager and compiled PyTorch counts.

Command: yolo-jax bench step
Hardware: 2 CPU cores, about 15 minutes.
"""

import argparse
from pathlib import Path

from experiments.benchmarks.sides.turns import Case, Side, measure, save

CASES = {"yolov3_b2": ("yolov3", 2), "yolov3_b4": ("yolov3", 4), "tiny_b8": ("tiny", 8)}


def main() -> None:
    """Prints a table for each case."""
    parser = argparse.ArgumentParser(prog="yolo-jax bench step", description=__doc__)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--side", type=int, default=416)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--json", type=Path, help="write machine, medians and ratios")
    options = parser.parse_args()
    save(options.json, [run(name, options.side, options.turns) for name in options.cases])


def run(name: str, side: int, turns: int) -> Case:
    """Measures a case."""
    network, batch = CASES[name]
    arguments = ["train", "--network", network, "--batch", batch, "--side", side]
    sides = {
        "yolo_jax": Side("yolo_jax", arguments, peer=False),
        "PyTorch": Side("pytorch", arguments, peer=True),
        "PyTorch, torch.compile": Side("pytorch", [*arguments, "--compile"], peer=True),
    }
    return measure(name, sides, turns)


if __name__ == "__main__":
    main()
