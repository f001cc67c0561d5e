"""A training step beside PyTorch's: YOLOv3 and YOLOv3-tiny at 416², SGD with momentum.

Both start from the same uint8 images on the host and end with new weights, in float32 on a CPU and
bfloat16 on a GPU. PyTorch has its dense targets ready; ours are matched to the anchors within the
step. The better of eager and compiled PyTorch counts.

Command: yolo-jax bench step
Hardware: 2 CPU cores, about 15 minutes. With a GPU, and JAX for it: --cases yolov3_b64 tiny_b256
"""

from experiments.benchmarks.sides import beside_pytorch

CASES = {"yolov3_b2": ("yolov3", 2), "yolov3_b4": ("yolov3", 4), "tiny_b8": ("tiny", 8)}
GPU_CASES = {"yolov3_b64": ("yolov3", 64), "tiny_b256": ("tiny", 256)}

if __name__ == "__main__":
    beside_pytorch.main("step", __doc__, "train", CASES, turns=9, gpu_cases=GPU_CASES)
