"""The pictures and figures that a run folder holds."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Array, Key, UInt8
from PIL import Image

from yolo_jax.core.draw import colour_of, contact_sheet, draw_boxes
from yolo_jax.core.json_files import known
from yolo_jax.core.types import Annotation, Batch, Dataset, Detections
from yolo_jax.data.images import load_image
from yolo_jax.evaluation.average_precision import AveragePrecision
from yolo_jax.evaluation.curves import plot_history, plot_precision_recall

# Light blue and red: what is seen on foliage and on bare ground alike.
_TRUE, _FOUND = colour_of(4), colour_of(0)
_LINE = 2  # px
_SIDE = 400  # px: smaller images are enlarged to about this, those of more than twice it reduced
_SHEET, _COLUMNS = 40, 5  # pictures on a sheet: JPEG ends at 65,535 px
_LONGEST_NAME = 100


def save_batch_picture(
    batch: Batch, augment: Callable[..., tuple], keys: Key[Array, "b"], path: Path
) -> None:
    """Draws a training batch as the network sees it: augmented by a row's key, with its boxes."""
    augmented = jax.jit(augment)(keys, batch.image, batch.boxes, batch.classes, batch.mix)
    images, boxes, classes = jax.device_get(augmented)[:3]
    pictures = []
    for image, box, index in zip(images, boxes, classes, strict=True):
        kept = index >= 0
        colours = [colour_of(int(i)) for i in index[kept]]
        pictures.append(draw_boxes((image * 255).astype(np.uint8), box[kept], colours, width=_LINE))
    Image.fromarray(contact_sheet(pictures, columns=4)).save(path, quality=92)


def save_held_out_pictures(
    dataset: Dataset, found: Mapping[int, Detections], threshold: float, folder: Path
) -> None:
    """Draws held-out images of each source on a sheet: true boxes blue, detections red with scores.

    A source of more images than a sheet holds is shown by every second, third … of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sources = sorted({annotation.source for annotation in dataset.annotations})
    for source, name in zip(sources, _file_names(sources), strict=True):
        own = [annotation for annotation in dataset.annotations if annotation.source == source]
        own = own[:: -(-len(own) // _SHEET)]
        pictures = [held_out_picture(dataset, one, found[one.image_id], threshold) for one in own]
        sheet = contact_sheet(pictures, columns=min(_COLUMNS, len(pictures)))
        Image.fromarray(sheet).save(folder / f"{name}.jpg", quality=90)


def held_out_picture(
    dataset: Dataset,
    annotation: Annotation,
    found: Detections,
    threshold: float,
    longest: int = 2 * _SIDE,
) -> UInt8[np.ndarray, "h w 3"]:
    """Draws an image: true boxes blue, detections red with their scores, and classes if several.

    Args:
        dataset: that the image is of.
        annotation: of the image.
        found: detections, without padding, in pixels of the image.
        threshold: least score of those that are drawn.
        longest: side of the picture, px; larger images are reduced, small ones enlarged.
    """
    image = load_image(dataset, annotation)
    longer = max(image.shape[:2])
    zoom = float(max(1, round(_SIDE / longer)))
    if longer > longest:
        zoom = longest / longer
    size = [max(1, round(side * zoom)) for side in image.shape[1::-1]]
    # Small images keep their pixels, as squares.
    how = Image.Resampling.NEAREST if zoom >= 1 else Image.Resampling.BOX
    image = np.asarray(Image.fromarray(image).resize((size[0], size[1]), how))
    true = annotation.boxes * zoom
    image = draw_boxes(image, true, [_TRUE] * len(true), width=_LINE)
    sure = found.scores >= threshold
    labels = [f"{score:.2f}" for score in found.scores[sure]]
    if len(names := dataset.class_names) > 1:
        kinds = np.asarray(found.classes)[sure]
        labels = [f"{names[kind]} {label}" for kind, label in zip(kinds, labels, strict=True)]
    boxes = np.asarray(found.boxes)[sure] * zoom
    return draw_boxes(image, boxes, [_FOUND] * len(boxes), labels, width=_LINE)


def _file_names(sources: Sequence[str]) -> list[str]:
    """Returns a name for each source that any file system takes, no two alike."""
    names: list[str] = []
    for source in sources:
        plain = re.sub(r"\W+", "_", source.lower())[:_LONGEST_NAME] or "all"
        taken = sum(re.fullmatch(rf"{re.escape(plain)}(_\d+)?", name) is not None for name in names)
        names.append(f"{plain}_{taken + 1}" if taken else plain)
    return names


def save_curves(
    history: Sequence[Mapping[str, float]],
    results: Sequence[tuple[str, AveragePrecision]],
    folder: Path,
) -> None:
    """Draws the losses by epoch, of a run's history, and precision by recall."""
    columns = {name: [row[name] for row in history] for name in history[0]}
    plot_history(columns.pop("epoch"), columns, folder / "losses.png")
    plot_precision_recall(results, folder / "precision_recall.png")


def metrics(whole: AveragePrecision, sources: Mapping[str, AveragePrecision]) -> dict[str, object]:
    """Returns the figures of all, and of each source; None where there was nothing to find."""

    def figures(result: AveragePrecision) -> dict[str, object]:
        named = result.per_class.items()
        return {
            **{name: known(value) for name, value in result.figures.items()},
            "per_class": {n: {"AP": known(a), "AP50": known(b)} for n, (a, b) in named},
        }

    return figures(whole) | {"sources": {name: figures(part) for name, part in sources.items()}}
