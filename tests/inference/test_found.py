import sys

import numpy as np
import pytest

from yolo_jax.core.draw import colour_of
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


def test_small_images_are_enlarged_for_their_labels():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    none = np.zeros((0, 4)), np.zeros(0), np.zeros(0, int)
    drawn = Found(*none, NAMES, image).plot()
    assert drawn.shape == (180, 270, 3)
    np.testing.assert_array_equal(drawn[::9, ::9], image)
    one = Found(np.asarray([[10, 10, 20, 15.0]]), np.ones(1), np.zeros(1, int), NAMES, image)
    assert tuple(one.plot()[15 * 9, 15 * 9]) == colour_of(0)  # its lower edge
    large = np.zeros((1, 256, 3), np.uint8)
    assert Found(*none, NAMES, large).plot().shape == large.shape
