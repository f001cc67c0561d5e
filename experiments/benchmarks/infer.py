"""Inference beside PyTorch's: YOLOv3 and YOLOv3-tiny at 416², batch normalisation folded.

From the same uint8 images to raw heads, float32. The better of eager and compiled PyTorch counts.

Command: yolo-jax bench infer
Hardware: 2 CPU cores, about 5 minutes.
"""

from experiments.benchmarks.sides import beside_pytorch

CASES = {
    "yolov3_b1": ("yolov3", 1),
    "yolov3_b2": ("yolov3", 2),
    "tiny_b1": ("tiny", 1),
    "tiny_b8": ("tiny", 8),
}

if __name__ == "__main__":
    beside_pytorch.main("infer", __doc__, "infer", CASES, turns=15)
