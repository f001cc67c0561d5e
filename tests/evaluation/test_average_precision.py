import contextlib
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from yolo_jax.core.types import Annotation, Dataset, Detections
from yolo_jax.evaluation.average_precision import coco_average_precision, per_source
from yolo_jax.evaluation.curves import plot_history, plot_precision_recall


def annotation(image_id, boxes, classes, crowd=None, source=""):
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    return Annotation(
        image_id=image_id,
        path=Path(f"{image_id}.jpg"),
        width=200,
        height=200,
        boxes=boxes,
        classes=np.asarray(classes, np.int64),
        crowd=np.zeros(len(boxes), bool) if crowd is None else np.asarray(crowd, bool),
        source=source,
    )


def detections(boxes, scores, classes):
    return Detections(
        np.asarray(boxes, np.float32).reshape(-1, 4), np.asarray(scores), np.asarray(classes)
    )


def random_boxes(generator, count):
    corner = generator.uniform(0, 140, (count, 2))
    return np.hstack([corner, corner + generator.uniform(10, 60, (count, 2))])


@pytest.fixture(scope="module")
def crowded():
    """Twelve images of two sources: three classes, crowds, an empty image, jittered detections."""
    generator = np.random.default_rng(0)
    annotations, found = [], {}
    for image_id in range(12):
        count = 0 if image_id == 5 else int(generator.integers(1, 9))
        boxes, classes = random_boxes(generator, count), generator.integers(0, 3, count)
        crowd = generator.random(count) < 0.15
        annotations.append(annotation(image_id, boxes, classes, crowd, "ab"[image_id % 2]))
        extra = random_boxes(generator, 3)
        jittered = np.concatenate([boxes + generator.normal(0, 4, boxes.shape), extra])
        labels = np.concatenate([classes, generator.integers(0, 3, 3)])
        found[image_id] = detections(jittered, generator.random(len(labels)), labels)
    return Dataset(tuple(annotations), ("ash", "birch", "cedar")), found


def pycocotools_stats(dataset, found, folder):
    """Scores by files, as COCO's own users do."""
    truth = {
        "images": [{"id": a.image_id} for a in dataset.annotations],
        "categories": [{"id": i, "name": n} for i, n in enumerate(dataset.class_names)],
        "annotations": [],
    }
    results = []

    def xywh(box):
        x1, y1, x2, y2 = map(float, box)
        return [x1, y1, x2 - x1, y2 - y1]

    for a in dataset.annotations:
        for box, index, crowd in zip(a.boxes, a.classes, a.crowd, strict=True):
            x, y, w, h = xywh(box)
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1,
                    "image_id": a.image_id,
                    "category_id": int(index),
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": int(crowd),
                }
            )
        for box, score, index in zip(*found[a.image_id], strict=True):
            results.append(
                {
                    "image_id": a.image_id,
                    "category_id": int(index),
                    "bbox": xywh(box),
                    "score": float(score),
                }
            )
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "results.json").write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(folder / "truth.json"))
        scorer = COCOeval(coco, coco.loadRes(str(folder / "results.json")), "bbox")
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    return scorer.stats


def test_equals_a_run_of_pycocotools(crowded, tmp_path, capsys):
    result = coco_average_precision(*crowded)
    assert capsys.readouterr().out == ""
    stats = pycocotools_stats(*crowded, tmp_path)
    assert 0.1 < stats[0] < 0.9
    np.testing.assert_allclose((result.ap, result.ap50, result.ap75), stats[:3], rtol=1e-12)
    ap, ap50 = np.mean(list(result.per_class.values()), axis=0)
    np.testing.assert_allclose((ap, ap50), stats[:2], rtol=1e-12)
    assert result.precision.mean() == pytest.approx(result.ap50)


def test_each_source_is_scored_by_itself(crowded):
    dataset, found = crowded
    results = per_source(dataset, found)
    assert set(results) == {"a", "b"}
    part = Dataset(dataset.annotations[1::2], dataset.class_names)
    assert results["b"].ap == coco_average_precision(part, found).ap


def test_perfect_detections_score_one():
    boxes = [[10, 10, 50, 60], [80, 20, 120, 90]]
    dataset = Dataset((annotation(0, boxes, [0, 1]), annotation(7, boxes[:1], [1])), ("x", "y"))
    found = {0: detections(boxes, [0.9, 0.8], [0, 1]), 7: detections(boxes[:1], [0.7], [1])}
    result = coco_average_precision(dataset, found)
    assert (result.ap, result.ap50, result.ap75) == pytest.approx((1, 1, 1))
    assert result.precision == pytest.approx(np.ones(101))


def test_a_crowd_is_neither_target_nor_error():
    """Detections inside a crowd cost nothing, and a crowd that nothing finds costs nothing."""
    boxes = [[10, 10, 40, 40], [100, 100, 190, 190], [0, 100, 90, 190]]
    found = {0: detections([[105, 105, 150, 150], boxes[0]], [0.9, 0.5], [0, 0])}

    def score(crowd):
        dataset = Dataset((annotation(0, boxes, [0, 0, 0], crowd),), ("tree",))
        return coco_average_precision(dataset, found).ap

    assert score([False, True, True]) == pytest.approx(1)
    assert score([False, False, False]) < 0.5


def test_an_image_without_objects_counts_its_false_detections():
    box = [[10, 10, 40, 40]]
    dataset = Dataset((annotation(0, box, [0]), annotation(1, [], [])), ("tree",))
    true = detections(box, [0.5], [0])
    assert coco_average_precision(dataset, {0: true}).ap == pytest.approx(1)
    false = detections(box, [0.9], [0])
    assert coco_average_precision(dataset, {0: true, 1: false}).ap == pytest.approx(0.5)


def test_nothing_found_scores_zero():
    dataset = Dataset((annotation(0, [[10, 10, 40, 40]], [0]),), ("tree",))
    assert coco_average_precision(dataset, {}).ap == 0
    assert coco_average_precision(dataset, {0: detections([], [], [])}).ap == 0


def test_nothing_to_find_is_no_score():
    """A class without true boxes has NaN and is left out of the mean; so is an empty data set."""
    box = [[10, 10, 40, 40]]
    found = {0: detections(box * 2, [0.9, 0.8], [0, 1])}
    result = coco_average_precision(Dataset((annotation(0, box, [0]),), ("x", "y")), found)
    assert result.ap == pytest.approx(1)
    assert all(math.isnan(value) for value in result.per_class["y"])
    empty = coco_average_precision(Dataset((annotation(0, [], []),), ("x", "y")), found)
    assert math.isnan(empty.ap)
    assert np.isnan(empty.precision).all()
    assert math.isnan(coco_average_precision(Dataset((), ("x",)), {}).ap)


def test_figures_are_drawn(crowded, tmp_path):
    result = coco_average_precision(*crowded)
    plot_precision_recall([("all", result)], tmp_path / "curve.png")
    history = {"loss": [9.0, 4.0, 2.0], "val_loss": [9.5, 5.0, 4.0], "xy_loss": [3.0, 2.0, 1.0]}
    plot_history([0, 1, 2], history, tmp_path / "losses.png")
    for name in ("curve.png", "losses.png"):
        with Image.open(tmp_path / name) as figure:
            assert np.asarray(figure.convert("L")).std() > 10
