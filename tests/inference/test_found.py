import sys

import numpy as np
import pytest

from yolo_jax.inference.found import Found

NAMES = ("ash", "birch", "cedar")


def found(count=2):
    """Returns a detection of the last class, and one of the first."""
    return Found(
        np.asarray([[1, 2, 30, 35], [5, 6, 40, 39]], np.float32)[:count],
        np.asarray([0.75, 0.5], np.float32)[:count],
        np.asarray([2, 0], np.int32)[:count],
        NAMES,
        np.zeros((40, 60, 3), np.uint8),
    )


def test_supervision_takes_what_was_found():
    supervision = pytest.importorskip("supervision", reason="supervision is not installed")
    detections = found().to_supervision()
    np.testing.assert_array_equal(detections.xyxy, found().boxes)
    np.testing.assert_array_equal(detections.confidence, [0.75, 0.5])
    assert detections.class_id.tolist() == [2, 0]
    assert detections["class_name"].tolist() == ["cedar", "ash"]
    assert detections[detections.confidence > 0.6]["class_name"].tolist() == ["cedar"]
    nothing = found(0).to_supervision()
    assert nothing.is_empty()
    assert len(supervision.Detections.merge([detections, nothing])) == 2
    drawn = supervision.BoxAnnotator().annotate(found().pixels.copy(), detections)
    assert supervision.LabelAnnotator().annotate(drawn, detections).any()


def test_supervision_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)  # as if it were not installed
    message = r"to_supervision needs supervision: pip install supervision"
    with pytest.raises(ValueError, match=message):
        found().to_supervision()
