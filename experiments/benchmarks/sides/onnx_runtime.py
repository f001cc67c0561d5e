"""ONNX Runtime with PyTorch's network, batch normalisation folded: a side of `bench infer`.

Runs in `.venv-bench`, and knows nothing of yolo_jax.
"""
# pyright: reportMissingImports=false

import os
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from experiments.benchmarks.sides import inputs, photos
from experiments.benchmarks.sides.pytorch_networks import folded_network
from experiments.benchmarks.sides.serving import serve


class FromPixels(nn.Module):
    """A network from uint8 images, channels last, to heads, channels last."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> list[Tensor]:
        """Returns the raw heads, coarse to fine, [b, gh, gw, 3·(5+C)]."""
        heads = self.network(image.permute(0, 3, 1, 2).float().div(255))
        return [head.permute(0, 2, 3, 1) for head in heads]


def session_of(options) -> onnxruntime.InferenceSession:
    """Returns the network in ONNX Runtime, optimised as far as it goes, on all cores."""
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    settings.intra_op_num_threads = os.cpu_count() or 1
    network = FromPixels(folded_network(options)).eval()
    example = torch.zeros((options.batch, options.side, options.side, 3), dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        torch.onnx.export(network, (example,), path, dynamo=True, verbose=False)
        return onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])


def main() -> None:
    """Serves inference from images, or detection from photographs."""
    options = inputs.parse_arguments(["infer", "detect"])
    session = session_of(options)
    name = session.get_inputs()[0].name

    def run(image: np.ndarray) -> list[np.ndarray]:
        return [np.asarray(head) for head in session.run(None, {name: image})]

    if options.work == "detect":
        work = photos.detecting(options.photos, run, options.network, options.batch, options.side)
    else:
        image = inputs.inputs_of(options).image

        def work() -> list[np.ndarray]:
            return run(image)

    serve(work, onnxruntime=onnxruntime.__version__, torch=torch.__version__)


if __name__ == "__main__":
    main()
