"""Detections in COCO's results format.

Source: https://cocodataset.org/#format-results.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from yolo_jax.core.boxes import box_xyxy_to_xywh
from yolo_jax.core.types import Detections


def coco_results(
    detections: Mapping[int, Detections], category_ids: Sequence[int | None]
) -> list[dict[str, Any]]:
    """Returns an entry a detection, whose `bbox` is xywh in pixels of the image.

    Numbers are written to the last bit, so that what is scored from the file is what was found.

    Args:
        detections: by image_id, without padding.
        category_ids: id of each class index; what is of a class without one is left out.
    """
    return [
        {"image_id": image_id, "category_id": category_ids[index], "bbox": box, "score": score}
        for image_id, found in detections.items()
        for box, score, index in zip(
            box_xyxy_to_xywh(np.asarray(found.boxes, np.float64).reshape(-1, 4)).tolist(),
            np.asarray(found.scores).tolist(),
            np.asarray(found.classes).tolist(),
            strict=True,
        )
        if category_ids[index] is not None
    ]
