"""What lies behind the held-out figures: a file and pictures that a run leaves."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from yolo_jax.core.types import Annotation, Dataset, Detections
from yolo_jax.evaluation.average_precision import coco_average_precision, per_source
from yolo_jax.report.details import save_details


def test_curves_confusions_and_examples_are_left(tmp_path: Path):
    """Two ashes of which one is found, one oak that is taken for an ash; nobody has an elm."""
    box = np.asarray([[5, 5, 25, 25]], np.float32)
    records = []
    for number, kind in enumerate([0, 0, 1]):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (30, 30), (0, 90, 0)).save(path)
        one = np.asarray([kind]), np.zeros(1, bool)
        records.append(Annotation(number, path, 30, 30, box, *one, source="ab"[number // 2]))
    dataset = Dataset(tuple(records), ("ash", "oak", "elm"))
    taken = Detections(box, np.asarray([0.8]), np.asarray([0]))
    nothing = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
    found = {0: taken, 1: nothing, 2: taken}
    whole, sources = coco_average_precision(dataset, found), per_source(dataset, found)
    save_details(dataset, found, whole, sources, 0.3, tmp_path)
    left = json.loads((tmp_path / "held_out.json").read_text())
    assert left["confusion"] == [[1, 0, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    # Of equal scores the first counts first: precision 1 up to recall one half, then nothing.
    assert left["precision"]["classes"]["ash"] == [1.0] * 26 + [0] * 25
    assert left["precision"]["classes"]["elm"] == [None] * 51
    assert left["precision"]["all"][0] == pytest.approx(0.5)
    assert sorted(left["precision"]["sources"]) == ["a", "b"]
    assert [(one["name"], one["f1"]) for one in left["worst"]] == [("2.png", 0), ("1.png", 0)]
    assert [(one["name"], one["right"]) for one in left["best"]] == [("0.png", 1)]
    with Image.open(tmp_path / left["best"][0]["picture"]) as picture:
        assert picture.size == (390, 390)  # enlarged by a whole number to about 400
