"""The pictures and figures that a run folder holds."""

import csv
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from yolo_jax.core.draw import colour_of, contact_sheet, draw_boxes
from yolo_jax.core.types import Batch, Dataset, Detections
from yolo_jax.data.images import read_image
from yolo_jax.evaluation.average_precision import AveragePrecision
from yolo_jax.evaluation.curves import plot_history, plot_precision_recall

# Light blue and red: what is seen on foliage and on bare ground alike.
_TRUE, _FOUND = colour_of(4), colour_of(0)
_LINE = 2  # px


def save_batch_picture(batch: Batch, augment: Callable[..., tuple], seed: int, path: Path) -> None:
    """Draws a training batch as the network sees it: augmented, with its boxes."""
    keys = jax.random.split(jax.random.key(seed), len(batch.image))
    images, boxes, classes = jax.device_get(
        jax.jit(augment)(keys, batch.image, batch.boxes, batch.classes)
    )
    pictures = []
    for image, box, index in zip(images, boxes, classes, strict=True):
        kept = index >= 0
        colours = [colour_of(int(i)) for i in index[kept]]
        pictures.append(draw_boxes((image * 255).astype(np.uint8), box[kept], colours, width=_LINE))
    Image.fromarray(contact_sheet(pictures, columns=4)).save(path, quality=92)


def save_held_out_pictures(
    dataset: Dataset, found: Mapping[int, Detections], threshold: float, folder: Path
) -> None:
    """Draws the held-out images of each source: true boxes blue, detections red with scores."""
    folder.mkdir(parents=True, exist_ok=True)
    for source in sorted({annotation.source for annotation in dataset.annotations}):
        pictures = []
        for annotation in dataset.annotations:
            if annotation.source != source:
                continue
            image = read_image(annotation.path)
            zoom = max(1, round(400 / max(image.shape[:2])))
            image = image.repeat(zoom, axis=0).repeat(zoom, axis=1)
            true = annotation.boxes * zoom
            image = draw_boxes(image, true, [_TRUE] * len(true), width=_LINE)
            detections = found[annotation.image_id]
            sure = detections.scores >= threshold
            labels = [f"{score:.2f}" for score in detections.scores[sure]]
            boxes = np.asarray(detections.boxes)[sure] * zoom
            colours = [_FOUND] * len(boxes)
            pictures.append(draw_boxes(image, boxes, colours, labels, width=_LINE))
        sheet = contact_sheet(pictures, columns=min(5, len(pictures)))
        Image.fromarray(sheet).save(folder / f"{source.lower() or 'all'}.jpg", quality=90)


def save_curves(history: Path, results: Mapping[str, AveragePrecision], folder: Path) -> None:
    """Draws the losses by epoch, which `CSVLogger` wrote to `history`, and precision by recall."""
    with history.open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = {name: [float(row[name]) for row in rows] for name in rows[0]}
    plot_history(columns.pop("epoch"), columns, folder / "losses.png")
    plot_precision_recall(results, folder / "precision_recall.png")


def metrics(results: Mapping[str, AveragePrecision]) -> dict[str, object]:
    """Returns the figures of `all`, and of each source; None where there was nothing to find."""

    def known(value: float) -> float | None:
        return None if math.isnan(value) else value

    def figures(result: AveragePrecision) -> dict[str, object]:
        named = result.per_class.items()
        return {
            "AP": known(result.ap),
            "AP50": known(result.ap50),
            "AP75": known(result.ap75),
            "per_class": {n: {"AP": known(a), "AP50": known(b)} for n, (a, b) in named},
        }

    sources = {name: figures(result) for name, result in results.items() if name != "all"}
    return figures(results["all"]) | {"sources": sources}


def save_json(path: Path, content: object) -> None:
    """Writes JSON, whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=2) + "\n")
    partial.replace(path)
