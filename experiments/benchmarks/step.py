"""A training step beside PyTorch's: YOLOv3 and YOLOv3-tiny at 416², SGD with momentum.

Both start from the same uint8 images on the host and end with new weights, in float32 on a CPU and
bfloat16 on a GPU. PyTorch has its dense targets ready; ours are matched to the anchors within the
step. The better of eager and compiled PyTorch counts.

Command: yolo-jax bench step
Hardware: 2 CPU cores, about 15 minutes. With a GPU, and JAX for it: --cases yolov3_b64 tiny_b256
"""

import argparse
from pathlib import Path

from experiments.benchmarks.sides.turns import Side, measure, save

CASES = {"yolov3_b2": ("yolov3", 2), "yolov3_b4": ("yolov3", 4), "tiny_b8": ("tiny", 8)}
GPU_CASES = {"yolov3_b64": ("yolov3", 64), "tiny_b256": ("tiny", 256)}


def main() -> None:
    """Prints a table for each case."""
    parser = argparse.ArgumentParser(prog="yolo-jax bench step", description=__doc__)
    every = CASES | GPU_CASES
    parser.add_argument("--cases", nargs="+", choices=list(every), default=list(CASES))
    parser.add_argument("--side", type=int, default=416)
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--json", type=Path, help="write machine, medians and ratios")
    options = parser.parse_args()
    measured = []
    for case in options.cases:
        network, batch = every[case]
        arguments = ["train", "--network", network, "--batch", batch, "--side", options.side]
        sides = {
            "yolo_jax": Side("yolo_jax", arguments, peer=False),
            "PyTorch": Side("pytorch", arguments, peer=True),
            "PyTorch, torch.compile": Side("pytorch", [*arguments, "--compile"], peer=True),
        }
        measured.append(measure(case, sides, options.turns))
    save(options.json, measured)


if __name__ == "__main__":
    main()
