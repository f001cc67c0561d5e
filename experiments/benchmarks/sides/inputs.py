"""The same inputs for every side, from NumPy alone, which all of their environments have."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# Width and height of YOLOv3's anchors, px; small to large. Tiny has its own six.
ANCHORS = {
    "yolov3": np.array(
        [[10, 13], [16, 30], [33, 23], [30, 61], [62, 45], [59, 119], [116, 90], [156, 198],
         [373, 326]], np.float32
    ),
    "tiny": np.array([[10, 14], [23, 27], [37, 58], [81, 82], [135, 169], [344, 319]], np.float32),
}  # fmt: skip
MASKS = {"yolov3": ((6, 7, 8), (3, 4, 5), (0, 1, 2)), "tiny": ((3, 4, 5), (1, 2, 3))}


@dataclass(frozen=True)
class Inputs:
    """A batch, and its dense grids for those who take them.

    Attributes:
        image: [b, side, side, 3] uint8.
        boxes: [b, t, 4] xyxy px float32.
        classes: [b, t] int32.
        grids: of each scale, coarse to fine, [b, side/stride, side/stride, 3, 5+C] float32.
        scale_boxes: of each scale its own boxes among `boxes`, the others' rows 0.
        sizes: of each scale its anchors, px.
    """

    image: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    grids: list[np.ndarray]
    scale_boxes: list[np.ndarray]
    sizes: list[np.ndarray]


def make_inputs(network: str, *, batch: int, side: int, num_classes: int, count: int) -> Inputs:
    """Draws images of noise, and boxes of all sizes with targets as keras-yolo3 lays them out."""
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (batch, side, side, 3), np.uint8)
    size = np.exp(generator.uniform(np.log(8), np.log(side * 0.9), (batch, count, 2)))
    low = generator.uniform(0, 1, (batch, count, 2)) * (side - size)
    boxes = np.concatenate([low, low + size], -1).astype(np.float32)
    classes = generator.integers(0, num_classes, (batch, count)).astype(np.int32)
    anchors, masks = ANCHORS[network], MASKS[network]
    grids, scale_boxes = [], []
    both = np.minimum(size[:, :, None], anchors).prod(-1)
    union = size.prod(-1)[:, :, None] + anchors.prod(-1) - both
    best = np.argmax(both / union, -1)
    for scale, mask in enumerate(masks):
        cells = side // (32 >> scale)
        grid = np.zeros((batch, cells, cells, 3, 5 + num_classes), np.float32)
        own = np.zeros_like(boxes)
        for row, box in np.argwhere(np.isin(best, mask)):
            centre, extent = low[row, box] + size[row, box] / 2, size[row, box]
            column, line = np.minimum((centre / side * cells).astype(int), cells - 1)
            target = grid[row, line, column, mask.index(best[row, box])]
            target[:5] = *(centre / side), *(extent / side), 1
            target[5 + classes[row, box]] = 1
            own[row, box] = boxes[row, box]
        grids.append(grid)
        scale_boxes.append(own)
    return Inputs(image, boxes, classes, grids, scale_boxes, [anchors[list(m)] for m in masks])


def parse_arguments(works: Iterable[str], arguments: Sequence[str] | None = None) -> Namespace:
    """Returns what a side was started with."""
    parser = ArgumentParser()
    parser.add_argument("work", choices=list(works))
    parser.add_argument("--network", choices=list(ANCHORS), default="yolov3")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--side", type=int, default=416)
    parser.add_argument("--classes", type=int, default=80)
    parser.add_argument("--boxes", type=int, default=8)
    parser.add_argument("--devices", type=int, default=1, help="of ours, simulated on the CPU")
    parser.add_argument("--strategy", default="pmap", help="of ours, by which they share a batch")
    parser.add_argument("--processes", type=int, default=1, choices=[1, 2], help="of ours")
    parser.add_argument("--join", help="HOST:PORT of the first of these processes, by the second")
    parser.add_argument("--compile", action="store_true", help="PyTorch's torch.compile")
    parser.add_argument("--photos", type=Path, help="folder of JPEGs, for detection")
    parser.add_argument("--weights", type=Path, help="Darknet's, for detection; none: drawn ones")
    return parser.parse_args(arguments)


def inputs_of(options: Namespace) -> Inputs:
    """Returns the inputs that a side was started for."""
    return make_inputs(
        options.network,
        batch=options.batch,
        side=options.side,
        num_classes=options.classes,
        count=options.boxes,
    )
