import copy
import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from yolo_jax.data.readers.coco import read_coco

TREES = Path(__file__).parents[2] / "experiments" / "data" / "tree_crowns"
GOOD = {
    "images": [
        {"id": 7, "file_name": "images/a.png", "width": 40, "height": 30, "source": "north"},
        {"id": 3, "file_name": "images/b.png", "width": 20, "height": 20},
    ],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 90, "bbox": [5, 6, 10, 4]},
        {"id": 2, "image_id": 7, "category_id": 4, "bbox": [0, 0, 8.5, 8], "iscrowd": 1},
    ],
    "categories": [{"id": 90, "name": "brush"}, {"id": 4, "name": "cat"}],
}


@pytest.fixture
def write(tmp_path):
    (tmp_path / "set" / "images").mkdir(parents=True)
    for name, size in (("set/images/a", (40, 30)), ("set/images/b", (20, 20)), ("out", (9, 9))):
        Image.new("RGB", size).save(tmp_path / f"{name}.png")

    def write(change=lambda content: None):
        content = copy.deepcopy(GOOD)
        change(content)
        (tmp_path / "set" / "coco.json").write_text(json.dumps(content))
        return tmp_path / "set" / "coco.json"

    return write


def test_good_file(write):
    dataset, problems = read_coco(write(), strict=True)
    assert problems == ()
    assert dataset.class_names == ("cat", "brush")
    first, second = dataset.annotations
    assert (first.image_id, first.width, first.height, first.source) == (7, 40, 30, "north")
    assert first.path.is_file()
    np.testing.assert_array_equal(first.boxes, [[5, 6, 15, 10], [0, 0, 8.5, 8]])
    np.testing.assert_array_equal(first.classes, [1, 0])
    np.testing.assert_array_equal(first.crowd, [False, True])
    assert (second.image_id, second.boxes.shape, second.source) == (3, (0, 4), "")


def test_shipped_trees():
    dataset, problems = read_coco(TREES / "train.json", strict=True)
    assert problems == ()
    assert (len(dataset.annotations), dataset.class_names) == (40, ("Tree",))
    assert sum(len(annotation.boxes) for annotation in dataset.annotations) == 667
    assert {annotation.source for annotation in dataset.annotations} == {"SOAP", "YELL"}
    assert sum(len(annotation.boxes) == 0 for annotation in dataset.annotations) == 2


def image_with(**fields):
    return lambda content: content["images"][1].update(fields)


def box_with(**fields):
    return lambda content: content["annotations"][0].update(fields)


BAD_IMAGES = {
    "missing file": (image_with(file_name="images/c.png"), "image 3 (images/c.png)", "no such"),
    "climbs out": (image_with(file_name="../out.png"), "image 3 (../out.png)", "lies outside"),
    "absolute": (image_with(file_name="/etc/hostname"), "(/etc/hostname)", "lies outside"),
    "same id": (image_with(id=7), "image 7 (images/b.png)", "that of an image before it"),
    "negative id": (image_with(id=-1), "image -1", "its id is -1, not a whole number"),
    "id over 32 bits": (image_with(id=2**31), "image 2147483648", "0 to 2147483647"),
    "no size": (image_with(width=0), "image 3", "is (0, 20), not two whole numbers of px above"),
    "no field": (lambda c: c["images"][1].pop("height"), "images[1]", "lacks the fields ['height"),
    "not an object": (lambda c: c["images"].append(5), "images[2]", "it is 5, not an object"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_bad_image_is_skipped_and_reported(write, case, caplog):
    change, record, reason = BAD_IMAGES[case]
    path = write(change)
    with caplog.at_level(logging.WARNING):
        dataset, problems = read_coco(path)
    assert [a.image_id for a in dataset.annotations if a.source == "north"] == [7]
    assert len(problems) == 1
    assert problems[0].file == path
    assert record in problems[0].record
    assert reason in problems[0].reason
    assert str(problems[0]) in caplog.text
    with pytest.raises(ValueError) as error:
        read_coco(path, strict=True)
    assert str(problems[0]) in str(error.value)


def test_boxes_of_a_skipped_image_are_not_reported_again(write):
    dataset, problems = read_coco(write(lambda c: c["images"][0].update(file_name="gone.png")))
    assert [problem.record for problem in problems] == ["image 7 (gone.png)"]
    assert [annotation.image_id for annotation in dataset.annotations] == [3]


BAD_BOXES = {
    "outside": (box_with(bbox=[50, 2, 5, 5]), "[50, 2, 5, 5] lies outside the image of 40×30 px"),
    "no width": (box_with(bbox=[1, 2, 0, 5]), "no width or no height"),
    "negative": (box_with(bbox=[9, 9, 4, -5]), "no width or no height"),
    "nan": (box_with(bbox=[1, 2, float("nan"), 5]), "[1, 2, nan, 5], not four finite numbers"),
    "infinite": (box_with(bbox=[1, 2, float("inf"), 5]), "not four finite numbers"),
    "three": (box_with(bbox=[1, 2, 3]), "not four finite numbers"),
    "words": (box_with(bbox=["a", 2, 3, 4]), "not four finite numbers"),
    "null": (box_with(bbox=None), "its bbox is None, not four finite numbers"),
    "category": (box_with(category_id=5), "category 5 is not among the file's ([4, 90])"),
    "no image": (box_with(image_id=8), "the file has no such image"),
    "list as image": (box_with(image_id=[7]), "the file has no such image"),
    "no field": (lambda c: c["annotations"][0].pop("bbox"), "lacks the fields ['bbox']"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_BOXES)
def test_bad_box_is_skipped_and_reported(write, case):
    change, reason = BAD_BOXES[case]
    path = write(change)
    dataset, problems = read_coco(path)
    assert len(dataset.annotations) == 2
    np.testing.assert_array_equal(dataset.annotations[0].boxes, [[0, 0, 8.5, 8]])
    assert len(problems) == 1
    assert problems[0].record.startswith(("annotation 1 of image", "annotations[0]"))
    assert reason in str(problems[0])
    with pytest.raises(ValueError, match="1 bad records"):
        read_coco(path, strict=True)


def test_box_partly_outside(write):
    dataset, problems = read_coco(write(box_with(bbox=[-0.5, 25, 10, 5.9])), strict=True)
    assert problems == ()
    np.testing.assert_allclose(dataset.annotations[0].boxes[0], [0, 25, 9.5, 30])
    dataset, problems = read_coco(write(box_with(bbox=[35, 25, 6, 2])))
    np.testing.assert_allclose(dataset.annotations[0].boxes[0], [35, 25, 40, 27])
    assert "sticks out of the image of 40×30 px; clipped" in str(problems[0])


def test_strict_shows_the_first_ten_and_the_count(write):
    def change(content):
        bad = [{"id": n, "image_id": 7, "category_id": 1, "bbox": [0, 0, 2, 2]} for n in range(14)]
        content["annotations"] = bad

    with pytest.raises(ValueError) as error:
        read_coco(write(change), strict=True)
    assert str(error.value).startswith("14 bad records")
    assert str(error.value).count("category 1 is not among") == 10


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_file_without_a_list(write, key):
    with pytest.raises(
        ValueError, match=rf"coco\.json is not COCO JSON: it lacks the list '{key}'"
    ):
        read_coco(write(lambda content: content.pop(key)))


def test_file_that_is_no_coco(write):
    path = write()
    path.write_text("[]")
    with pytest.raises(ValueError, match="is not COCO JSON"):
        read_coco(path)
    path.write_text("{'images'")
    with pytest.raises(ValueError, match=r"coco\.json is not JSON"):
        read_coco(path)
    with pytest.raises(FileNotFoundError, match=r"gone\.json"):
        read_coco(path.with_name("gone.json"))


def test_categories_must_be_sure(write):
    twice = write(lambda content: content["categories"].append({"id": 4, "name": "dog"}))
    with pytest.raises(ValueError, match=r"categories\[2\]: its id 4 is that of a category before"):
        read_coco(twice)
    with pytest.raises(ValueError, match=r"categories\[0\]: it lacks the fields \['name'\]$"):
        read_coco(write(lambda content: content["categories"][0].pop("name")))


def test_no_usable_image(write):
    with pytest.raises(ValueError, match="has no usable image"):
        read_coco(write(lambda content: content["images"].clear()))
