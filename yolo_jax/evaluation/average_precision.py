"""Average precision by COCO's rules, through pycocotools."""

import contextlib
import dataclasses
import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from yolo_jax.core.boxes import box_xyxy_to_xywh
from yolo_jax.core.types import Annotation, Dataset, Detections

_AREAS = {"s": 1, "m": 2, "l": 3}  # their places in COCOeval's results; 0 is of all


@dataclass(frozen=True)
class AveragePrecision:
    """COCO's figures; NaN where there is no true box to find.

    Attributes:
        figures: the twelve of COCO's summary by name: AP, mean over IoU .50:.05:.95, and at one IoU
            AP50, AP75; of small (< 32² px), medium and large (> 96² px) objects APs, APm, APl; the
            mean recall of the best 1, 10 and 100 detections of a class in an image AR1, AR10,
            AR100, and of all 100 by size ARs, ARm, ARl.
        per_class: (AP, AP50) by class name.
        precision: at IoU .50 by recall 0:.01:1, mean over the classes that have true boxes.
        class_precision: the same by class name; NaN of a class without true boxes.
    """

    figures: dict[str, float]
    per_class: dict[str, tuple[float, float]]
    precision: Float[np.ndarray, "101"]
    class_precision: dict[str, Float[np.ndarray, "101"]]

    @property
    def ap(self) -> float:
        """Returns the mean over IoU .50:.05:.95."""
        return self.figures["AP"]

    @property
    def ap50(self) -> float:
        """Returns the figure at IoU .50."""
        return self.figures["AP50"]

    @property
    def ap75(self) -> float:
        """Returns the figure at IoU .75."""
        return self.figures["AP75"]


def coco_average_precision(
    dataset: Dataset, detections: Mapping[int, Detections]
) -> AveragePrecision:
    """Scores the detections of a data set's images; an image without an entry has none.

    Args:
        dataset: true boxes; crowd regions are neither target nor error.
        detections: by image_id, xyxy in pixels of the original image, without padding.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        truth = _ground_truth(dataset)
        rows = _result_rows(dataset, detections)
        found = truth.loadRes(rows) if len(rows) else _no_detections(dataset)
        scorer = COCOeval(truth, found, "bbox")
        scorer.evaluate()
        scorer.accumulate()
    # −1 stands where a class has no true boxes.
    by_area, recall = (
        np.where(values < 0, np.nan, values)
        for values in (np.asarray(scorer.eval[name]) for name in ("precision", "recall"))
    )
    by_area = by_area[..., -1]  # of 100 detections
    precision = by_area[:, :, :, 0]
    return AveragePrecision(
        figures=_figures(by_area, recall),
        per_class={
            name: (mean_known(precision[:, :, index]), mean_known(precision[0, :, index]))
            for index, name in enumerate(dataset.class_names)
        },
        precision=np.asarray([mean_known(row) for row in precision[0]]),
        class_precision=dict(zip(dataset.class_names, precision[0].T, strict=True)),
    )


def _figures(
    precision: Float[np.ndarray, "iou recall class area"],
    recall: Float[np.ndarray, "iou class area limit"],
) -> dict[str, float]:
    """Returns COCO's summary, in its order, by the definitions of `COCOeval.summarize`."""
    whole = precision[..., 0]
    return {
        "AP": mean_known(whole),
        "AP50": mean_known(whole[0]),
        "AP75": mean_known(whole[5]),
        **{f"AP{name}": mean_known(precision[..., area]) for name, area in _AREAS.items()},
        **{
            f"AR{most}": mean_known(recall[:, :, 0, place])
            for place, most in enumerate((1, 10, 100))
        },
        **{f"AR{name}": mean_known(recall[:, :, area, -1]) for name, area in _AREAS.items()},
    }


def per_source(
    dataset: Dataset, detections: Mapping[int, Detections]
) -> dict[str, AveragePrecision]:
    """Scores each named source of the images by itself."""
    sources = sorted({annotation.source for annotation in dataset.annotations} - {""})
    return {
        source: coco_average_precision(
            _part(dataset, lambda annotation, source=source: annotation.source == source),
            detections,
        )
        for source in sources
    }


def _part(dataset: Dataset, chosen: Callable[[Annotation], bool]) -> Dataset:
    annotations = tuple(annotation for annotation in dataset.annotations if chosen(annotation))
    return dataclasses.replace(dataset, annotations=annotations)


def mean_known(values: np.ndarray) -> float:
    """Returns the mean of what is not NaN; NaN of nothing."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def figure_text(value: float) -> str:
    """Returns a figure as tables and pictures have it; a dash where it is of nothing."""
    return "–" if math.isnan(value) else f"{value:.3f}"


def _index(dataset: Dataset) -> Any:
    """Returns COCO's index of images and classes, without boxes."""
    coco: Any = COCO()  # its stubs know nothing of data that come from no file
    coco.dataset = {
        "images": [
            {"id": a.image_id, "width": a.width, "height": a.height} for a in dataset.annotations
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate(dataset.class_names)],
        "annotations": [],
    }
    return coco


def _ground_truth(dataset: Dataset) -> Any:
    coco = _index(dataset)
    for annotation in dataset.annotations:
        boxes = box_xyxy_to_xywh(annotation.boxes.astype(np.float64))
        areas = own = boxes[:, 2] * boxes[:, 3]
        if annotation.areas is not None:
            areas = np.where(np.isnan(annotation.areas), own, annotation.areas)
        columns = (boxes, areas, annotation.classes, annotation.crowd)
        for box, area, index, crowd in zip(*columns, strict=True):
            coco.dataset["annotations"].append(
                {
                    # COCO takes the id 0 for "no match".
                    "id": len(coco.dataset["annotations"]) + 1,
                    "image_id": annotation.image_id,
                    "category_id": int(index),
                    "bbox": box.tolist(),
                    "area": float(area),
                    "iscrowd": int(crowd),
                }
            )
    coco.createIndex()
    return coco


def _no_detections(dataset: Dataset) -> Any:
    coco = _index(dataset)
    coco.createIndex()
    return coco


def _result_rows(
    dataset: Dataset, detections: Mapping[int, Detections]
) -> Float[np.ndarray, "n 7"]:
    """Returns pycocotools' rows: image, x, y, w, h, score, class."""
    rows = [np.zeros((0, 7))]
    for annotation in dataset.annotations:
        found = detections.get(annotation.image_id)
        if found is not None and len(found.scores):
            boxes = box_xyxy_to_xywh(np.asarray(found.boxes, np.float64))
            image = np.full((len(boxes), 1), annotation.image_id)
            scores = np.asarray(found.scores, np.float64)[:, None]
            rows.append(np.hstack([image, boxes, scores, np.asarray(found.classes)[:, None]]))
    return np.concatenate(rows)
