"""Bad records by kind, images as they are, and the figures; on real files."""

import json
import logging
import shutil
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from yolo_jax.core.anchors import TINY, YOLOV3, AnchorSet
from yolo_jax.core.types import Annotation, Dataset
from yolo_jax.data.doctor import Kind, Problem, held_back, report
from yolo_jax.data.doctor import findings as f
from yolo_jax.data.doctor.scan import scan_images
from yolo_jax.data.doctor.statistics import (
    box_sizes,
    class_counts,
    clustered,
    fit_anchors,
    quantiles,
)
from yolo_jax.data.readers import read_dataset

SHAPE = (416, 416)


def picture(path, size=(60, 40), seed=0):
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def annotation(path, image_id=0, boxes=((1, 1, 20, 20),), size=(60, 40), classes=None):
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    classes = np.zeros(len(boxes)) if classes is None else classes
    return Annotation(
        image_id,
        Path(path),
        *size,
        boxes,
        np.asarray(classes, np.int32),
        np.zeros(len(boxes), bool),
    )


def part(name, annotations, classes=("a",), problems=()):
    dataset = Dataset(tuple(annotations), classes, Path(f"{name or 'all'}.json"))
    return f.Part(name, dataset, problems, scan_images(dataset, SHAPE, 2))


def find_problems(parts, max_boxes):
    return f.by_kind(chain(*f.find_problems(parts, max_boxes)))


def kinds(found):
    return {kind: len(problems) for kind, problems in found.items()}


def cut_short(path):
    path.write_bytes(path.read_bytes()[:600])


DAMAGE = {
    "cut short": (cut_short, "it is damaged or cut short"),
    "empty": (lambda path: path.write_bytes(b""), "it is not an image of a known format"),
    "text": (lambda path: path.write_text("<html>404"), "it is not an image of a known format"),
    "gone": (lambda path: path.unlink(), "No such file"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "it is a directory"),
}


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("case", DAMAGE)
def test_unreadable_images(tmp_path, case, suffix):
    damage, said = DAMAGE[case]
    path = picture(tmp_path / f"x.{suffix}")
    damage(path)
    whole = annotation(picture(tmp_path / "y.png", seed=1), 1)
    parts = [part("", [annotation(path), whole])]
    found = find_problems(parts, None)
    assert kinds(found) == {Kind.UNREADABLE: 1}
    assert said in found[Kind.UNREADABLE][0].reason
    assert found[Kind.UNREADABLE][0].record == f"image 0 (x.{suffix})"
    assert f.cleaned(parts)[0].annotations == (whole,)


def test_another_size(tmp_path):
    path = picture(tmp_path / "x.jpg", (40, 60))
    parts = [part("", [annotation(path)])]
    found = find_problems(parts, None)
    assert kinds(found) == {Kind.OTHER_SIZE: 1}
    assert "it has 40×60 px and its record says 60×40" in found[Kind.OTHER_SIZE][0].reason
    assert f.cleaned(parts)[0].annotations == ()


def test_an_image_turned_by_exif_has_the_size_that_is_seen(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(picture(tmp_path / "x.png", (40, 60))).save(tmp_path / "x.jpg", exif=exif)
    assert find_problems([part("", [annotation(tmp_path / "x.jpg")])], None) == {}


def test_16_bits_and_contrast(tmp_path):
    grey = np.arange(2400, dtype=np.uint16).reshape(40, 60)
    Image.fromarray(grey * 27).save(tmp_path / "full.png")
    Image.fromarray(grey // 8).save(tmp_path / "dark.png")
    Image.new("RGB", (60, 40), (10, 200, 30)).save(tmp_path / "flat.png")
    names = ("full.png", "dark.png", "flat.png")
    parts = [part("", [annotation(tmp_path / n, i) for i, n in enumerate(names)])]
    assert find_problems(parts, None) == {}
    full, dark, flat = (scanned.contrast for scanned in parts[0].scans)
    assert full > 200
    assert dark < 2
    assert flat == 0


def test_doubles_in_a_set(tmp_path):
    first = picture(tmp_path / "a.png")
    for name in ("b", "c"):
        shutil.copy(first, tmp_path / f"{name}.png")
    other = annotation(tmp_path / "c.png", 2, [(2, 2, 9, 9)])
    parts = [part("", [annotation(first), annotation(tmp_path / "b.png", 1), other])]
    found = find_problems(parts, None)
    assert kinds(found) == {Kind.DOUBLE_IMAGE: 2}
    assert [p.reason for p in found[Kind.DOUBLE_IMAGE]] == [
        "its file is that of image 0 (a.png)",
        "its file is that of image 0 (a.png), and its boxes are others",
    ]
    assert [a.image_id for a in f.cleaned(parts)[0].annotations] == [0]


def test_doubles_of_images_that_go_stay(tmp_path):
    """The first of two is of another size than its record: the second is the one to keep."""
    first = picture(tmp_path / "a.png")
    shutil.copy(first, tmp_path / "b.png")
    wrong = annotation(first, 0, size=(50, 40))
    parts = [part("", [wrong, annotation(tmp_path / "b.png", 1)])]
    assert kinds(find_problems(parts, None)) == {Kind.OTHER_SIZE: 1}
    assert [a.image_id for a in f.cleaned(parts)[0].annotations] == [1]


@pytest.mark.parametrize("order", [("train", "val"), ("val", "train")])
def test_an_image_in_two_splits_leaves_training(tmp_path, order):
    images = [annotation(picture(tmp_path / f"{i}.png", seed=i), i) for i in range(2)]
    shown = {"train": images, "val": images[:1]}
    parts = [part(name, shown[name]) for name in order]
    found = find_problems(parts, None)
    assert kinds(found) == {Kind.IN_TWO_SPLITS: 1}
    assert str(found[Kind.IN_TWO_SPLITS][0]) == (
        "train.json: image 0 (0.png): its file is that of image 0 (0.png) in val"
    )
    left = {p.name: len(d.annotations) for p, d in zip(parts, f.cleaned(parts), strict=True)}
    assert left == {"train": 1, "val": 1}


def test_class_names_max_boxes_and_nothing_to_learn(tmp_path):
    path = picture(tmp_path / "a.png")
    crowded = annotation(path, boxes=[(1, 1, 9, 9), (2, 2, 9, 9)])
    bare = annotation(picture(tmp_path / "b.png", seed=1), boxes=[])
    found = find_problems([part("train", [bare]), part("val", [crowded], ("b",))], 1)
    assert kinds(found) == {Kind.NOTHING: 1, Kind.CLASS_NAMES: 1, Kind.CROWDED: 1}
    assert list(found) == sorted(found, key=list(Kind).index)
    assert found[Kind.CROWDED][0].reason == "it has 2 boxes, of which training keeps the first 1"
    assert find_problems([part("val", [crowded])], 2) == {}


def coco(folder, boxes, image="x.png"):
    content = {
        "images": [{"id": 5, "file_name": image, "width": 60, "height": 40}],
        "annotations": [
            {"id": i, "image_id": 5, "category_id": c, "bbox": b} for i, (c, b) in enumerate(boxes)
        ],
        "categories": [{"id": 1, "name": "a"}],
    }
    good = {"id": 6, "file_name": "good.png", "width": 60, "height": 40}
    content["images"].append(good)
    (folder / "a.json").write_text(json.dumps(content))
    return folder / "a.json"


def yolo(folder, boxes):
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    shutil.move(folder / "x.png", folder / "images" / "x.png")
    lines = [
        f"{c - 1} {(x + w / 2) / 60} {(y + h / 2) / 40} {w / 60} {h / 40}"
        for c, (x, y, w, h) in boxes
    ]
    (folder / "labels" / "x.txt").write_text("\n".join(lines))
    (folder / "data.yaml").write_text("train: images\nnames: [a]\n")
    return folder


def voc(folder, boxes):
    (folder / "good.png").unlink()
    (folder / "classes.txt").write_text("a\n")
    shown = "".join(
        f"<object><name>{'a' if c == 1 else 'z'}</name><bndbox><xmin>{x + 1}</xmin><ymin>{y + 1}"
        f"</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>"
        for c, (x, y, w, h) in boxes
    )
    (folder / "x.xml").write_text(f"<annotation><filename>x.png</filename>{shown}</annotation>")
    return folder


def keras(folder, boxes):
    (folder / "classes.txt").write_text("a\n")
    shown = " ".join(f"{x},{y},{x + w},{y + h},{c - 1}" for c, (x, y, w, h) in boxes)
    (folder / "annotations.txt").write_text(f"x.png {shown}\n")
    return folder


GOOD = (1, (2, 2, 9, 9))
BAD = {
    Kind.OUTSIDE: (1, (70, 2, 9, 9)),
    Kind.NO_SIZE: (1, (2, 2, 0, 9)),
    Kind.STICKS_OUT: (1, (50, 2, 20, 9)),
    Kind.UNKNOWN_CLASS: (9, (2, 2, 8, 8)),
    Kind.DOUBLE_BOX: GOOD,
}


@pytest.mark.parametrize("write", [coco, yolo, voc, keras])
@pytest.mark.parametrize("kind", BAD)
def test_kinds_of_what_readers_report(tmp_path, write, kind):
    """Every reader's own words for a box that is wrong are known."""
    for name in ("x", "good"):
        picture(tmp_path / f"{name}.png")
    _, problems = read_dataset(write(tmp_path, [GOOD, BAD[kind]]))
    assert {problem.kind for problem in problems} == {kind}


@pytest.mark.parametrize("damage", ["gone", "text"])
def test_images_that_readers_miss(tmp_path, damage):
    picture(tmp_path / "good.png")
    picture(tmp_path / "x.png")
    file = coco(tmp_path, [GOOD], "gone.png")
    if damage == "text":
        (tmp_path / "x.png").write_text("no image")
        file = yolo(tmp_path, [GOOD])
        shutil.move(tmp_path / "good.png", tmp_path / "images")
    _, problems = read_dataset(file)
    assert [problem.kind for problem in problems] == [Kind.UNREADABLE]


def test_warnings_are_held_back_unless_an_error_ends_all(caplog):
    problems = [Problem(Path("a.json"), "image 3", "bad")]
    with caplog.at_level(logging.WARNING):
        with held_back():
            report(problems, strict=False)
        assert not caplog.records
        with pytest.raises(ValueError, match="no image"), held_back():
            report(problems, strict=False)
            raise ValueError("no image is left")
        assert [record.getMessage() for record in caplog.records] == [
            "1 bad records:\na.json: image 3: bad"
        ]
        report(problems, strict=False)
        assert len(caplog.records) == 2


def test_box_sizes_are_those_that_the_network_sees():
    first = annotation("a", boxes=[(0, 0, 30, 40)], size=(60, 40))
    second = annotation("b", boxes=[(0, 0, 10, 10), (0, 0, 1, 2)], size=(100, 200))
    crowd = Annotation(
        3, Path("c"), 9, 9, np.ones((1, 4), np.float32), np.zeros(1, int), np.ones(1, bool)
    )
    found = box_sizes(Dataset((first, second, crowd), ("a",)), (416, 416))
    assert found.sizes == pytest.approx(np.array([[208, 277], [20.8, 20.8], [2.08, 4.16]]), abs=0.4)
    assert found.place.tolist() == [[0, 0], [1, 0], [1, 1]]
    assert found.per_image.tolist() == [1, 2, 0]


def test_class_counts():
    first = Dataset(
        (annotation("a", boxes=[(0, 0, 1, 1)] * 3, classes=[0, 2, 2]),), ("x", "y", "z")
    )
    second = Dataset((annotation("b", boxes=[(0, 0, 1, 1)], classes=[0]),), ("z",))
    assert class_counts({"train": first, "val": second}) == {
        "x": {"train": 1, "val": 0},
        "y": {"train": 0, "val": 0},
        "z": {"train": 2, "val": 1},
    }


def test_anchor_fit_by_hand():
    anchors = AnchorSet(((10, 10), (40, 40)), ((1,),), (16,))
    # IoUs of sizes: 1 with the first, which no scale has; 0.5, not above it; 0.25 / 1 = 0.25; 1.
    sizes = np.array([[10, 10], [40, 20], [80, 80], [40, 40]], np.float32)
    fit = fit_anchors(sizes, anchors)
    assert fit is not None
    assert fit.mean_iou == pytest.approx((1 + 0.5 + 0.25 + 1) / 4)
    assert (fit.recall, fit.unlearnt) == (0.25, 0.25)
    assert fit_anchors(np.zeros((0, 2), np.float32), anchors) is None


def test_clustered_anchors_fit_better():
    sizes = np.random.default_rng(0).uniform(5, 60, (300, 2)).astype(np.float32)
    for anchors in (TINY, YOLOV3):
        found = clustered(sizes, anchors)
        before, after = fit_anchors(sizes, anchors), found and fit_anchors(sizes, found)
        assert found is not None
        assert before is not None
        assert after is not None
        assert after.mean_iou > before.mean_iou + 0.1
        assert found.masks == anchors.masks
    assert clustered(sizes[:5], TINY) is None


def test_quantiles():
    assert quantiles([]) is None
    assert quantiles([1, 2, 3]) == {
        "least": 1, "lower_quartile": 1.5, "median": 2, "upper_quartile": 2.5, "greatest": 3,
    }  # fmt: skip
