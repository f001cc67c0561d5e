"""A training step beside PyTorch's: YOLOv3 and YOLOv3-tiny at 416², SGD with momentum, float32.

Both start from the same uint8 images and end with new weights. PyTorch has its dense targets ready;
ours are matched to the anchors within the step. The better of eager and compiled PyTorch counts.

Command: yolo-jax bench step
Hardware: 2 CPU cores, about 15 minutes.
"""

from experiments.benchmarks.sides import beside_pytorch

CASES = {"yolov3_b2": ("yolov3", 2), "yolov3_b4": ("yolov3", 4), "tiny_b8": ("tiny", 8)}

if __name__ == "__main__":
    beside_pytorch.main("step", __doc__, "train", CASES, turns=9)
