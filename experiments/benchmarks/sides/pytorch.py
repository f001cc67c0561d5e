"""PyTorch's work, channels last, with keras-yolo3's loss: a side.

Runs in `.venv-bench`, and knows nothing of yolo_jax. On a GPU, where there is one, the network
computes in bfloat16 (autocast) and the loss in float32, as ours do.
"""
# pyright: reportMissingImports=false

import argparse
import os
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.benchmarks.sides import inputs, photos
from experiments.benchmarks.sides.pytorch_networks import NETWORKS, folded_network
from experiments.benchmarks.sides.serving import serve

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Loss(nn.Module):
    """keras-yolo3's loss from dense grids, vectorised; see the design's words for it."""

    def __init__(self, sizes: list[np.ndarray], side: int, ignore_thresh: float = 0.5) -> None:
        super().__init__()
        self.sizes = _tensors(sizes)
        self.side, self.ignore_thresh = side, ignore_thresh

    def forward(self, heads: list[Tensor], grids: list[Tensor], boxes: Tensor) -> Tensor:
        """Returns the batch's mean loss.

        Args:
            heads: [b, 3·(5+C), gh, gw].
            grids: [b, gh, gw, 3, 5+C] of 0–1.
            boxes: of each scale's true boxes, xyxy px [b, t, 4]; rows without a box are 0.
        """
        scales = zip(heads, grids, boxes, self.sizes, strict=True)
        return sum((self._scale(*scale) for scale in scales), torch.zeros((), device=DEVICE))

    def _scale(self, head: Tensor, true: Tensor, boxes: Tensor, sizes: Tensor) -> Tensor:
        batch, height, width = true.shape[:3]
        raw = head.permute(0, 2, 3, 1).reshape(batch, height, width, 3, -1)
        shape = torch.tensor([width, height], device=head.device)
        cells = torch.stack(
            torch.meshgrid(
                torch.arange(width, device=head.device),
                torch.arange(height, device=head.device),
                indexing="xy",
            ),
            -1,
        )
        cells = cells[:, :, None]
        with torch.no_grad():
            centre = (raw[..., :2].sigmoid() + cells) / shape * self.side
            half = raw[..., 2:4].exp() * sizes / 2
            found = torch.cat([centre - half, centre + half], -1).reshape(batch, -1, 4)
            best = _iou(found, boxes).amax(-1).reshape(batch, height, width, 3)
            ignore = (best < self.ignore_thresh).float()
        mask = true[..., 4]
        weight = (mask * (2 - true[..., 2] * true[..., 3]))[..., None]
        offset = true[..., :2] * shape - cells
        wanted = torch.log((true[..., 2:4] * self.side / sizes).clamp_min(1e-9))
        wanted = torch.where(mask[..., None] > 0, wanted, 0.0)
        bce = functional.binary_cross_entropy_with_logits
        objectness = bce(raw[..., 4], mask, reduction="none")
        total = (
            (weight * bce(raw[..., :2], offset, reduction="none")).sum()
            + (weight * 0.5 * (wanted - raw[..., 2:4]).square()).sum()
            + (mask * objectness + (1 - mask) * ignore * objectness).sum()
            + (mask[..., None] * bce(raw[..., 5:], true[..., 5:], reduction="none")).sum()
        )
        return total / batch


def _iou(found: Tensor, true: Tensor) -> Tensor:
    """Returns IoU [b, n, t] of xyxy boxes [b, n, 4] and [b, t, 4]."""
    low = torch.maximum(found[:, :, None, :2], true[:, None, :, :2])
    high = torch.minimum(found[:, :, None, 2:], true[:, None, :, 2:])
    both = (high - low).clamp_min(0).prod(-1)
    areas = [(each[..., 2:] - each[..., :2]).prod(-1) for each in (found, true)]
    return both / (areas[0][:, :, None] + areas[1][:, None] - both + 1e-9)


def training(options: argparse.Namespace) -> Callable[[], object]:
    """Returns a training step: SGD with momentum, from uint8 images to new weights."""
    given = inputs.inputs_of(options)
    model = NETWORKS[options.network](options.classes)
    model = model.to(DEVICE, memory_format=torch.channels_last)
    loss = Loss(given.sizes, options.side)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    image = _on_host(given.image)
    grids, boxes = _tensors(given.grids), _tensors(given.scale_boxes)

    def objective(image: Tensor) -> Tensor:
        with _autocast():
            heads = model(_to_unit(image))
        return loss([head.float() for head in heads], grids, boxes)

    if options.compile:
        objective = torch.compile(objective)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        value = objective(image.to(DEVICE, non_blocking=True))
        value.backward()
        optimizer.step()
        return value.item()

    return step


def inference(options: argparse.Namespace) -> Callable[[], object]:
    """Returns the network's forward pass, batch normalisation folded."""
    run = compiled_network(options)
    image = _on_host(inputs.inputs_of(options).image)

    @torch.inference_mode()
    def infer() -> list[Tensor]:
        with _autocast():
            found = run(_to_unit(image.to(DEVICE, non_blocking=True)))
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        return found

    return infer


def detection(options: argparse.Namespace) -> Callable[[], object]:
    """Returns what finds the objects of photographs."""
    model = compiled_network(options)

    @torch.inference_mode()
    def run(image: np.ndarray) -> list[np.ndarray]:
        with _autocast():
            heads = model(_to_unit(torch.from_numpy(image).to(DEVICE)))
        return [head.permute(0, 2, 3, 1).float().cpu().numpy() for head in heads]

    return photos.detecting(options.photos, run, options.network, options.batch, options.side)


def compiled_network(options: argparse.Namespace) -> Callable[[Tensor], list[Tensor]]:
    """Returns the network in channels last, by torch.compile where that is asked for."""
    model = folded_network(options).to(DEVICE, memory_format=torch.channels_last)
    # Kernels laid out beforehand for the library that takes them, as ours are.
    torch._inductor.config.freezing = True
    return torch.compile(model) if options.compile else model


def loss_alone(options: argparse.Namespace) -> Callable[[], object]:
    """Returns loss and gradients of the heads."""
    given = inputs.inputs_of(options)
    loss = Loss(given.sizes, options.side)
    call = torch.compile(loss) if options.compile else loss
    grids, boxes = _tensors(given.grids), _tensors(given.scale_boxes)
    torch.manual_seed(0)
    heads = [
        torch.randn(*grid.shape[:3], grid.shape[3] * grid.shape[4], device=DEVICE).permute(
            0, 3, 1, 2
        )
        for grid in grids
    ]

    def step() -> tuple[Tensor, ...]:
        leaves = [head.detach().requires_grad_() for head in heads]
        return torch.autograd.grad(call(leaves, grids, boxes), leaves)

    return step


def _tensors(arrays: Iterable[np.ndarray]) -> list[Tensor]:
    return [torch.from_numpy(array).to(DEVICE) for array in arrays]


def _on_host(image: np.ndarray) -> Tensor:
    """Returns images on the host, from where every step takes them; pinned for a GPU."""
    found = torch.from_numpy(image)
    return found.pin_memory() if DEVICE.type == "cuda" else found


def _autocast() -> torch.autocast:
    return torch.autocast(DEVICE.type, torch.bfloat16, enabled=DEVICE.type == "cuda")


def _to_unit(image: Tensor) -> Tensor:
    return image.permute(0, 3, 1, 2).float().div(255)  # channels last as it stands


def main() -> None:
    """Serves one kind of work."""
    works = {"train": training, "infer": inference, "loss": loss_alone, "detect": detection}
    options = inputs.parse_arguments(works)
    torch.set_num_threads(os.cpu_count() or 1)
    torch.manual_seed(0)
    device: str = "cpu"
    memory: Callable[[], int] | None = None
    if DEVICE.type == "cuda":
        torch.backends.cudnn.benchmark = True
        device, memory = torch.cuda.get_device_name(), torch.cuda.max_memory_allocated
    work = works[options.work](options)
    serve(work, device_memory=memory, torch=torch.__version__, device=device)


if __name__ == "__main__":
    main()
