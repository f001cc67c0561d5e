"""Every format to every other: boxes within 0.01 px, images byte for byte."""

import contextlib
import io
import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from yolo_jax.convert import WRITERS
from yolo_jax.core.types import Annotation, Dataset
from yolo_jax.data.images import ImageError, load_image
from yolo_jax.data.readers import read_dataset
from yolo_jax.data.writers.array_record import write_array_record
from yolo_jax.data.writers.coco import write_coco
from yolo_jax.data.writers.keras_yolo3 import write_keras_yolo3
from yolo_jax.data.writers.voc import write_voc
from yolo_jax.data.writers.yolo import write_yolo

TREES = Path(__file__).parents[3] / "experiments" / "data" / "tree_crowns"
OWN = [write_coco, write_voc, write_yolo, write_keras_yolo3]
NO_CROWDS = ("yolo", "keras_yolo3")


@pytest.fixture(scope="module")
def trees():
    """Five of the shipped images, their boxes moved by parts of a pixel, and one of no box."""
    dataset, _ = read_dataset(TREES, split="train")
    chosen = [a for a in dataset.annotations if len(a.boxes) > 3][:5]
    chosen.append(next(a for a in dataset.annotations if not len(a.boxes)))
    random = np.random.default_rng(0)
    moved = tuple(
        replace(a, boxes=(a.boxes * 0.98 + random.random(a.boxes.shape)).astype(np.float32))
        for a in chosen
    )
    return replace(dataset, annotations=moved)


def annotation(path, boxes=((1, 2, 30, 20),), **fields):
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    fields = {
        "classes": np.zeros(len(boxes), np.int32),
        "crowd": np.zeros(len(boxes), bool),
    } | fields
    return Annotation(fields.pop("image_id", 0), path, 40, 30, boxes, **fields)


@pytest.fixture
def images(tmp_path):
    """Makes image files, and returns their paths."""

    def images(*names):
        for number, name in enumerate(names):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            picture = Image.new("RGB", (40, 30), (number, 0, 0))
            picture.save(tmp_path / name, format="PNG")
        return [tmp_path / name for name in names]

    return images


def encoded(dataset, annotation):
    return dataset.read(annotation) if dataset.read else annotation.path.read_bytes()


@pytest.mark.parametrize(("first", "second"), [*itertools.product(WRITERS, WRITERS)])
def test_any_to_any(trees, tmp_path, first, second):
    WRITERS[first](trees, tmp_path / "first")
    between, problems = read_dataset(tmp_path / "first", strict=True)
    assert problems == ()
    WRITERS[second](between, tmp_path / "second")
    result, problems = read_dataset(tmp_path / "second", strict=True)
    assert problems == ()
    assert result.class_names == trees.class_names
    assert len(result.annotations) == len(trees.annotations)
    by_content = {encoded(result, a): a for a in result.annotations}
    for before in trees.annotations:
        after = by_content[before.path.read_bytes()]
        assert (after.width, after.height) == (before.width, before.height)
        assert len(after.boxes) == len(before.boxes)
        assert after.boxes.dtype == np.float32
        np.testing.assert_allclose(after.boxes, before.boxes, atol=0.01, rtol=0)
        np.testing.assert_array_equal(after.classes, before.classes)
    assert load_image(result, result.annotations[0]).shape[2] == 3


@pytest.mark.parametrize("to", WRITERS)
def test_crowds_sources_and_ids_are_kept_or_said_to_be_lost(images, tmp_path, to):
    crowd = annotation(
        *images("a.png"),
        boxes=[(1, 2, 30, 20), (3, 4, 5.5, 6)],
        classes=np.asarray([2, 1], np.int32),
        crowd=np.asarray([False, True]),
        source="north",
        image_id=7,
    )
    dataset = Dataset((crowd,), ("zebra", "ant", "no"), tmp_path / "x.json")
    lost = "\n".join(WRITERS[to](dataset, tmp_path / "out"))
    result, _ = read_dataset(tmp_path / "out", strict=True)
    (after,) = result.annotations
    assert result.class_names == dataset.class_names  # in this order, used or not
    assert ("1 crowd regions: left out" in lost) == (to in NO_CROWDS)
    kept = [False] if to in NO_CROWDS else [False, True]
    np.testing.assert_array_equal(after.crowd, kept)
    np.testing.assert_array_equal(after.classes, [2] if to in NO_CROWDS else [2, 1])
    assert ("which source an image is of: north" in lost) == (after.source != "north")
    assert ("image ids" in lost) == (after.image_id != 7)
    assert ("keras-yolo3's own program" in lost) is False
    if to in ("coco", "array_record"):
        assert lost == ""


def test_lines_that_keras_yolo3_itself_cannot_read_are_said(images, tmp_path):
    broken = annotation(*images("a.png"), boxes=[(1, 2, 3, 4), (1, 2.5, 30, 20)])
    lost = write_keras_yolo3(Dataset((broken,), ("a",)), tmp_path / "out")
    assert lost == ["1 boxes have decimals, which keras-yolo3's own program cannot read"]
    line = (tmp_path / "out" / "annotations.txt").read_text()
    assert line == "images/a.png 1,2,3,4,0 1,2.5,30,20,0\n"


def test_pycocotools_reads_what_is_written(trees, tmp_path):
    write_coco(trees, tmp_path / "out")
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(tmp_path / "out" / "annotations.json")
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == ["Tree"]
    assert sorted(coco.getImgIds()) == sorted(a.image_id for a in trees.annotations)
    for before in trees.annotations:
        (image,) = coco.loadImgs(before.image_id)
        file = tmp_path / "out" / image["file_name"]
        assert file.read_bytes() == before.path.read_bytes()
        boxes = coco.loadAnns(coco.getAnnIds(imgIds=before.image_id, iscrowd=False))
        assert len(boxes) == len(before.boxes)
        for record, (x0, y0, x1, y1) in zip(boxes, before.boxes, strict=True):
            np.testing.assert_allclose(record["bbox"], [x0, y0, x1 - x0, y1 - y0], atol=0.01)
            assert record["area"] == pytest.approx((x1 - x0) * (y1 - y0), abs=0.1)
            assert record["id"] > 0


def test_voc_counts_pixels_from_1(images, tmp_path):
    write_voc(Dataset((annotation(*images("a.png"), source="a\0b"),), ("a",)), tmp_path / "out")
    text = (tmp_path / "out" / "Annotations" / "a.xml").read_text()
    for part in ("<xmin>2<", "<ymin>3<", "<xmax>30<", "<ymax>20<", "<database>a_b<"):
        assert part in text


@pytest.mark.parametrize("write", OWN)
def test_names_stay_unique_and_can_be_listed(images, tmp_path, write):
    paths = images(
        "x/a.png", "y/a.png", "y/A.PNG", "x/a_2.jpg", "a b\n .png", "1,2,3,4,5.bmp", "bare"
    )
    dataset = Dataset(tuple(annotation(p, image_id=i) for i, p in enumerate(paths)), ("a",))
    write(dataset, tmp_path / "out")
    result, problems = read_dataset(tmp_path / "out", strict=True)
    assert problems == ()
    assert sorted(a.path.name for a in result.annotations) == sorted(
        ["a.png", "a_2.png", "A_3.PNG", "a_2_2.jpg", "a b_.png", "1,2,3,4,5.bmp", "bare.png"]
    )
    contents = {a.path.read_bytes() for a in result.annotations}
    assert contents == {path.read_bytes() for path in paths}


@pytest.mark.parametrize("write", [*OWN, write_array_record])
def test_only_into_a_new_folder(images, tmp_path, write):
    dataset = Dataset((annotation(*images("a.png")),), ("a",))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    with pytest.raises(ValueError, match=f"{tmp_path}/full is not empty; name a new folder"):
        write(dataset, tmp_path / "full")
    with pytest.raises(ValueError, match="is a file; name a new folder"):
        write(dataset, tmp_path / "full" / "mine")
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["mine"]
    (tmp_path / "empty").mkdir()
    write(dataset, tmp_path / "empty")
    write(dataset, tmp_path / "new" / "er")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "empty", "full", "new"]


@pytest.mark.parametrize("write", [*OWN, write_array_record])
def test_nothing_stays_of_what_fails(images, tmp_path, write):
    good, gone = annotation(*images("a.png")), annotation(tmp_path / "gone.png", image_id=1)
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        write(Dataset((good, gone), ("a",)), tmp_path / "out")
    with pytest.raises(ValueError, match="x has no images to"):
        write(Dataset((), ("a",), Path("x")), tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("write", [write_voc, write_yolo, write_keras_yolo3])
@pytest.mark.parametrize("names", [("a", "a"), ("a\nb",), ("",), (" a",), ("\ud800",)])
def test_class_names_that_cannot_be_listed(images, tmp_path, write, names):
    dataset = Dataset((annotation(*images("a.png")),), names, Path("set.json"))
    with pytest.raises(ValueError, match=r"set\.json: (the class name|two classes)"):
        write(dataset, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_name_without_a_suffix_needs_an_image(tmp_path):
    (tmp_path / "text").write_text("x")
    dataset = Dataset((annotation(tmp_path / "text"),), ("a",))
    with pytest.raises(ImageError, match="text is not an image of a known format"):
        write_coco(dataset, tmp_path / "out")


def test_yolo_for_ultralytics(images, tmp_path):
    """Both names are there that Ultralytics asks for, and an image of no object has a file too."""
    paths = images("a.png", "b.png")
    dataset = Dataset(
        (annotation(paths[0]), annotation(paths[1], boxes=(), image_id=1)), ("yes", "007")
    )
    write_yolo(dataset, tmp_path / "out")
    text = (tmp_path / "out" / "data.yaml").read_text()
    assert "train: images\nval: images\nnc: 2\nnames:\n  0: 'yes'\n  1: '007'\n" in text
    assert (tmp_path / "out" / "labels" / "b.txt").read_text() == ""
    assert (tmp_path / "out" / "labels" / "a.txt").read_text() == (
        "0 0.38750000 0.36666667 0.72500000 0.60000000\n"
    )


def test_coco_has_sources_where_there_are_any(images, tmp_path):
    paths = images("a.png", "b.png")
    pair = annotation(paths[0], source="north"), annotation(paths[1], image_id=1)
    write_coco(Dataset(pair, ("a",)), tmp_path / "out")
    content = json.loads((tmp_path / "out" / "annotations.json").read_text())
    assert [image.get("source") for image in content["images"]] == ["north", None]
