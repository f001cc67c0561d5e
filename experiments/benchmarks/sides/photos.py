"""Photographs to boxes around a peer's network: read, letterbox, decode, suppress, as its users do.

OpenCV and NumPy alone; only what is above the least score is decoded. Its settings are those that
detection here has by default.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from experiments.benchmarks.sides import inputs

CONF, IOU, MOST = 0.25, 0.45, 100
_GREY = 128
Heads = Sequence[np.ndarray]


def letterboxed(path: Path, side: int) -> tuple[np.ndarray, float, tuple[int, int]]:
    """Returns a photograph in a grey square, RGB, its scale there and its corner."""
    image = cv2.imread(str(path))
    assert image is not None
    height, width = image.shape[:2]
    scale = min(side / width, side / height)
    size = (int(width * scale), int(height * scale))
    left, top = (side - size[0]) // 2, (side - size[1]) // 2
    canvas = np.full((side, side, 3), _GREY, np.uint8)
    resized = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    canvas[top : top + size[1], left : left + size[0]] = cv2.cvtColor(resized, cv2.COLOR_BGR2RGB)
    return canvas, scale, (left, top)


def boxes_of(heads: Heads, network: str, side: int) -> np.ndarray:
    """Returns what is found in one image, [n, 6]: xyxy px of the input, score, class.

    Args:
        heads: raw, coarse to fine, each [gh, gw, 3·(5+C)].
        network: whose anchors count.
        side: of the input, px.
    """
    boxes, scores, classes = [], [], []
    anchors, masks = inputs.ANCHORS[network], inputs.MASKS[network]
    for head, mask in zip(heads, masks, strict=True):
        rows, columns = head.shape[:2]
        raw = head.reshape(rows, columns, 3, -1)
        objectness = _sigmoid(raw[..., 4])
        row, column, anchor = np.nonzero(objectness > CONF)
        seen = raw[row, column, anchor]
        score = objectness[row, column, anchor, None] * _sigmoid(seen[:, 5:])
        centre = (_sigmoid(seen[:, :2]) + np.stack([column, row], 1)) * (side / rows)
        half = np.exp(seen[:, 2:4]) * anchors[list(mask)][anchor] / 2
        which, label = np.nonzero(score > CONF)
        boxes.append(np.concatenate([centre - half, centre + half], 1)[which])
        scores.append(score[which, label])
        classes.append(label)
    box, score, label = (np.concatenate(part) for part in (boxes, scores, classes))
    if not len(box):
        return np.zeros((0, 6), np.float32)
    xywh = np.concatenate([box[:, :2], box[:, 2:] - box[:, :2]], 1)
    kept = cv2.dnn.NMSBoxesBatched(xywh.tolist(), score.tolist(), label.tolist(), CONF, IOU)
    kept = np.asarray(kept, int).reshape(-1)[:MOST]
    return np.concatenate([box[kept], score[kept, None], label[kept, None]], 1)


def detecting(
    folder: Path, run: Callable[[np.ndarray], Heads], network: str, batch: int, side: int
) -> Callable[[], list[np.ndarray]]:
    """Returns what finds the objects of a folder's photographs, a batch at a time.

    Args:
        folder: of JPEGs.
        run: uint8 images [b, side, side, 3] to heads, each [b, gh, gw, 3·(5+C)].
        network: whose anchors count.
        batch: photographs at once.
        side: of the input, px.
    """
    paths = sorted(folder.glob("*.jpg"))

    def detect() -> list[np.ndarray]:
        found = []
        for start in range(0, len(paths), batch):
            fitted = [letterboxed(path, side) for path in paths[start : start + batch]]
            heads = run(np.stack([image for image, _, _ in fitted]))
            for row, (_, scale, corner) in enumerate(fitted):
                boxes = boxes_of([head[row] for head in heads], network, side)
                boxes[:, :4] = (boxes[:, :4] - np.tile(corner, 2)) / scale
                found.append(boxes)
        return found

    return detect


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))
