"""All figures of detections on a data set, and the forms that they are left in."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from yolo_jax.core.json_files import known
from yolo_jax.core.types import Dataset, Detections
from yolo_jax.evaluation.average_precision import (
    AveragePrecision,
    coco_average_precision,
    per_source,
)
from yolo_jax.evaluation.confidence import THRESHOLDS, ByConfidence, Operation, by_confidence
from yolo_jax.evaluation.matches import confusion_matrix, match_dataset
from yolo_jax.evaluation.overlaps import MATCH_IOU, NOTHING, find_overlaps
from yolo_jax.evaluation.tide import Tide, find_errors
from yolo_jax.evaluation.voc import VOCAveragePrecision, voc_average_precision

SHOWN_SCORE = 0.25  # least score of what `yolo-jax detect` shows


@dataclass(frozen=True)
class Scores:
    """All figures of detections on a data set.

    Attributes:
        class_names: name of each class index.
        coco: by COCO's rules.
        sources: the same of each source of the images.
        voc: by VOC's rules.
        confidence: precision, recall and F1 by confidence, of all classes.
        class_confidence: the same of each.
        tide: what is wrong, and what it costs.
        confusion: what was taken for what, at `SHOWN_SCORE`; see `confusion_matrix`.
        boxes: true boxes of each class.
        detections: of each class.
    """

    class_names: tuple[str, ...]
    coco: AveragePrecision
    sources: dict[str, AveragePrecision]
    voc: VOCAveragePrecision
    confidence: ByConfidence
    class_confidence: list[ByConfidence]
    tide: Tide
    confusion: Int[np.ndarray, "c+1 c+1"]
    boxes: Int[np.ndarray, "c"]
    detections: Int[np.ndarray, "c"]

    def figures(self) -> dict[str, Any]:
        """Returns what JSON holds; None where there was nothing to find."""
        return {
            "COCO": _known(self.coco.figures),
            "VOC": _known(self.voc.figures),
            "confidence": {
                "iou": MATCH_IOU,
                "best_F1": _operation(self.confidence.best),
                "shown": _operation(at_shown(self.confidence)),
                "thresholds": THRESHOLDS.tolist(),
                **{
                    name: [known(value) for value in getattr(self.confidence, name).tolist()]
                    for name in ("precision", "recall", "f1")
                },
            },
            "TIDE": {
                "AP50": known(self.tide.ap50),
                "errors": {name: int(each.sum()) for name, each in self.tide.counts.items()},
                "dAP50": _known(
                    {
                        **self.tide.rises,
                        "false_positives": self.tide.false_positives,
                        "false_negatives": self.tide.false_negatives,
                    }
                ),
            },
            "confusion": {"confidence": SHOWN_SCORE, "matrix": self.confusion.tolist()},
            "per_class": {row.pop("class"): row for row in self.rows()},
            "sources": {name: _known(part.figures) for name, part in self.sources.items()},
        }

    def rows(self) -> list[dict[str, Any]]:
        """Returns a row of figures for each class; None where there was nothing to find."""
        rows = []
        for index, name in enumerate(self.class_names):
            ap, ap50 = self.coco.per_class[name]
            curve = self.class_confidence[index]
            shown = at_shown(curve)
            found = {
                "AP": ap,
                "AP50": ap50,
                "VOC_AP11": float(self.voc.eleven_points[index]),
                "VOC_AP_area": float(self.voc.area[index]),
                f"precision_at_{SHOWN_SCORE}": shown.precision,
                f"recall_at_{SHOWN_SCORE}": shown.recall,
                f"F1_at_{SHOWN_SCORE}": shown.f1,
                "best_F1": curve.best.f1,
                "best_F1_confidence": curve.best.confidence,
            }
            counts = {"boxes": int(self.boxes[index]), "detections": int(self.detections[index])}
            errors = {kind: int(each[index]) for kind, each in self.tide.counts.items()}
            rows.append({"class": name, **counts, **_known(found), **errors})
        return rows


def score_detections(dataset: Dataset, detections: Mapping[int, Detections]) -> Scores:
    """Scores the detections of a data set's images; an image without an entry has none.

    Args:
        dataset: true boxes; crowd regions are neither target nor error.
        detections: by image_id, xyxy in pixels of the original image, without padding, of the data
            set's classes.
    """
    classes = len(dataset.class_names)
    detections = {
        one.image_id: detections.get(one.image_id, NOTHING) for one in dataset.annotations
    }
    overlaps = find_overlaps(dataset, detections)
    confidence, class_confidence = by_confidence(overlaps, classes)
    matches = match_dataset(dataset, detections, SHOWN_SCORE)
    return Scores(
        dataset.class_names,
        coco_average_precision(dataset, detections),
        per_source(dataset, detections),
        voc_average_precision(overlaps, classes),
        confidence,
        class_confidence,
        find_errors(overlaps, classes),
        confusion_matrix(matches, classes),
        overlaps.positives(classes),
        np.bincount(overlaps.found, minlength=classes),
    )


def at_shown(curve: ByConfidence) -> Operation:
    """Returns the figures at `SHOWN_SCORE`."""
    place = round(SHOWN_SCORE * 100)
    return Operation(
        SHOWN_SCORE, *(float(each[place]) for each in (curve.precision, curve.recall, curve.f1))
    )


def _known(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: known(value) for name, value in values.items()}


def _operation(operation: Operation) -> dict[str, float | None]:
    return _known(operation._asdict())
