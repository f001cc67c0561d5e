from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from yolo_jax.core.types import Annotation, Dataset, Detections
from yolo_jax.evaluation.average_precision import coco_average_precision, per_source
from yolo_jax.report.pictures import metrics, save_curves, save_held_out_pictures
from yolo_jax.run_folder import RunFolder


def annotated(folder: Path, number: int, source: str, side: int = 30) -> Annotation:
    path = folder / f"{number}.png"
    if not path.is_file():
        Image.new("RGB", (side, side), (0, 90, 0)).save(path)
    return Annotation(
        image_id=number,
        path=path,
        width=side,
        height=side,
        boxes=np.asarray([[5, 5, 25, 25]], np.float32),
        classes=np.zeros(1, np.int32),
        crowd=np.zeros(1, bool),
        source=source,
    )


FOUND = Detections(np.asarray([[5, 5, 25, 24.0]]), np.asarray([0.9]), np.zeros(1, np.int32))
NOTHING = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int32))


def test_sources_of_any_names_have_a_picture_each(tmp_path: Path):
    sources = ["", "all", "Plot", "plot", "site/7", "site:7", "x" * 300]
    records = tuple(annotated(tmp_path, i, source) for i, source in enumerate(sources))
    dataset = Dataset(records, ("tree",))
    folder = tmp_path / "held_out"
    save_held_out_pictures(dataset, dict.fromkeys(range(len(records)), FOUND), 0.3, folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["all.jpg", "all_2.jpg", "plot.jpg", "plot_2.jpg", "site_7.jpg", "site_7_2.jpg"]
        + ["x" * 100 + ".jpg"]
    )


def test_many_images_and_large_ones_make_a_picture_that_jpeg_holds(tmp_path: Path):
    annotated(tmp_path, 0, "s", side=3000)
    large = annotated(tmp_path, 0, "s", side=3000)
    records = [large, *(annotated(tmp_path, 1, "s") for _ in range(1999))]
    dataset = Dataset(tuple(records), ("tree",))
    save_held_out_pictures(dataset, {0: FOUND, 1: NOTHING}, 0.3, tmp_path / "held_out")
    with Image.open(tmp_path / "held_out" / "s.jpg") as sheet:
        # Forty cells of 800 px and 6 px of gap, five in a row.
        assert sheet.size == (5 * 806 + 6, 8 * 806 + 6)


def test_a_source_called_all_is_not_the_whole(tmp_path: Path):
    records = tuple(annotated(tmp_path, i, source) for i, source in enumerate(["all", "b", ""]))
    dataset = Dataset(records, ("tree",))
    found = {0: FOUND, 1: NOTHING, 2: NOTHING}
    whole, sources = coco_average_precision(dataset, found), per_source(dataset, found)
    figures = metrics(whole, sources)
    assert figures["AP50"] == pytest.approx(34 / 101)  # one of three: recall 0 to 0.33
    assert isinstance(by_source := figures["sources"], dict)
    values = {name: part["AP50"] for name, part in by_source.items()}
    assert values == {"all": pytest.approx(1), "b": 0}


def test_curves_of_epochs_that_lack_a_value(tmp_path: Path):
    run = RunFolder(tmp_path)
    run.history_file.write_text("epoch,loss,val_loss\n0,3.0,NA\n1,2.0,2.5\n")
    dataset = Dataset((annotated(tmp_path, 0, ""),), ("tree",))
    save_curves(run.history(), [("all", coco_average_precision(dataset, {0: FOUND}))], tmp_path)
    for name in ("losses.png", "precision_recall.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.width > 300
