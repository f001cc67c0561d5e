import copy
import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from yolo_jax.data.doctor import check_trainable
from yolo_jax.data.readers.coco import category_ids, read_coco

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


def test_an_image_is_sought_in_cocos_folders_and_beside_the_file(write, tmp_path):
    content = write().read_text()
    images = tmp_path / "set" / "images"
    file = tmp_path / "coco" / "annotations" / "instances_val.json"
    places = [tmp_path / "coco" / name for name in ("val", "images/val", "annotations")]
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
    file.write_text(content.replace("images/", ""))
    for place in places:
        (images / "a.png").rename(place / "a.png")
        dataset, (problem,) = read_coco(file)
        assert [annotation.path for annotation in dataset.annotations] == [place / "a.png"]
        shown = " or ".join(map(str, places))
        assert problem.reason == f"there is no such image file in {shown}; skipped"
        (place / "a.png").rename(images / "a.png")


def box_with(**fields):
    return lambda content: content["annotations"][0].update(fields)


BAD_IMAGES = {
    "missing file": (image_with(file_name="images/c.png"), "image 3 (images/c.png)", "no such"),
    "climbs out": (image_with(file_name="../out.png"), "image 3 (../out.png)", "lies outside"),
    "absolute": (image_with(file_name="/etc/hostname"), "(/etc/hostname)", "lies outside"),
    "same id": (image_with(id=7), "image 7 (images/b.png)", "that of an image before it"),
    "negative id": (image_with(id=-1), "image -1", "its id is -1, not a whole number"),
    "id over 32 bits": (image_with(id=2**31), "image 2147483648", "0 to 2147483647"),
    "id true": (image_with(id=True), "image True", "its id is True, not a whole number"),
    "width true": (image_with(width=True), "image 3", "(True, 20), not two whole numbers"),
    "no text": (image_with(file_name=None), "image 3 (None)", "file_name is None, not a text"),
    "directory": (image_with(file_name="images"), "image 3 (images)", "its file is a directory"),
    "empty name": (image_with(file_name=""), "image 3 ()", "its file is a directory"),
    "nul": (image_with(file_name="a\0b.png"), "image 3", "'a\\x00b.png' is not a path"),
    "surrogate": (image_with(file_name="\ud800.png"), "image 3", "'\\ud800.png' is not a path"),
    "long name": (image_with(file_name="x" * 300), "image 3", "cannot be sought: File name too"),
    "no size": (image_with(width=0), "image 3", "is (0, 20), not two whole numbers of px, 1 to"),
    "huge": (image_with(width=2**31), "image 3", "(2147483648, 20), not two whole numbers"),
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
    assert str(problems[0]).isprintable()  # a lone surrogate, for one, would break the log
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
    "true": (box_with(bbox=[True, 2, 3, 4]), "its bbox is [True, 2, 3, 4], not four finite"),
    "digits": (box_with(bbox=[0, 0, 10**400, 4]), "not four finite numbers"),
    "crowd": (box_with(iscrowd="no"), "its iscrowd is 'no', not 0 or 1"),
    "category true": (box_with(category_id=True), "category True is not among"),
    "category list": (box_with(category_id=[4]), "category [4] is not among"),
    "image 7.0": (box_with(image_id=7.0), "the file has no such image as 7.0"),
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


def with_box(**fields):
    return lambda content: content["annotations"].append(
        {"id": 9, "image_id": 7, "category_id": 90, "bbox": [5.0, 6, 10, 4], **fields}
    )


def test_an_annotation_given_twice_is_one_box(write, caplog):
    path = write(with_box())
    with caplog.at_level(logging.WARNING):
        dataset, problems = read_coco(path)
    np.testing.assert_array_equal(dataset.annotations[0].boxes, [[5, 6, 15, 10], [0, 0, 8.5, 8]])
    np.testing.assert_array_equal(dataset.annotations[0].crowd, [False, True])
    assert [str(problem) for problem in problems] == [
        f"{path}: image 7 (images/a.png): annotations[2] (id 9) doubles annotations[0] (id 1): the "
        "same category and bbox; skipped"
    ]
    assert str(problems[0]) in caplog.text
    with pytest.raises(ValueError, match=r"1 bad records:\n.*annotations\[2\] \(id 9\) doubles"):
        read_coco(path, strict=True)


def test_each_double_is_reported(write):
    def change(content):
        content["annotations"] = [copy.deepcopy(GOOD["annotations"][0]) for _ in range(9)]
        del content["annotations"][4]["id"]
        content["annotations"] += [{**GOOD["annotations"][0], "image_id": 3}] * 2

    dataset, problems = read_coco(write(change))
    assert [len(annotation.boxes) for annotation in dataset.annotations] == [1, 1]
    assert [problem.record for problem in problems] == [
        *["image 7 (images/a.png)"] * 8,
        "image 3 (images/b.png)",
    ]
    assert "annotations[4] doubles annotations[0] (id 1): the" in problems[3].reason
    assert "annotations[10] (id 1) doubles annotations[9] (id 1): the" in problems[8].reason


@pytest.mark.parametrize(
    "other", [{"category_id": 4}, {"bbox": [5.01, 6, 10, 4]}, {"image_id": 3}, {"iscrowd": 1}]
)
def test_what_is_alike_is_no_double(write, other):
    dataset, problems = read_coco(write(with_box(**other)), strict=True)
    assert problems == ()
    assert sum(len(annotation.boxes) for annotation in dataset.annotations) == 3


def test_true_is_not_image_1(write):
    def change(content):
        content["images"][0]["id"] = 1
        content["annotations"][0]["image_id"] = True
        content["annotations"][1]["image_id"] = 1

    dataset, problems = read_coco(write(change))
    assert [len(annotation.boxes) for annotation in dataset.annotations] == [1, 0]
    assert [problem.reason for problem in problems] == [
        "the file has no such image as True; skipped"
    ]


def test_category_true(write):
    with pytest.raises(ValueError, match=r"categories\[1\]: its id is True, not a whole number"):
        read_coco(write(lambda content: content["categories"][1].update(id=True)))


def test_no_categories(write):
    with pytest.raises(ValueError, match=r"coco\.json has no categories"):
        read_coco(write(lambda content: content["categories"].clear()))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not JSON in UTF-8: Expecting value"),
        (b"[" * 100_000, "is not COCO JSON: its lists and objects nest too deep"),
        (b'{"images": [], "info": "\xe9"}', "is not JSON in UTF-8: 'utf-8' codec"),
        (json.dumps(GOOD).encode("utf-16"), "is not JSON in UTF-8: 'utf-8' codec"),
        (b"1" * 5000, "is not JSON in UTF-8: Exceeds the limit"),
    ],
)
def test_content_that_cannot_be_read(tmp_path, content, said):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ValueError, match=said) as raised:
        read_coco(tmp_path / "x.json")
    assert str(raised.value).startswith(str(tmp_path / "x.json"))


def test_a_path_that_is_no_file(tmp_path):
    with pytest.raises(ValueError, match=f"{tmp_path} is a directory, not a COCO JSON file"):
        read_coco(tmp_path)
    with pytest.raises(ValueError, match=r"x{300} cannot be opened: File name too long"):
        read_coco(tmp_path / ("x" * 300))
    with pytest.raises(ValueError, match=r"a\\x00b' is not a path that a file can have"):
        read_coco(tmp_path / "a\0b")


def test_an_image_file_in_a_loop_of_links(write):
    path = write(image_with(file_name="images/loop.png"))
    (path.parent / "images" / "loop.png").symlink_to("loop.png")
    _, problems = read_coco(path)
    assert [problem.record for problem in problems] == ["image 3 (images/loop.png)"]


def test_a_folder_without_its_images_is_said_soon(write):
    """The annotations of images that are all bad are not sought one by one in a list of them."""

    def change(content):
        content["images"] = [
            {"id": n, "file_name": f"gone/{n}.png", "width": 9, "height": 9} for n in range(20_000)
        ]
        content["annotations"] = [
            {"id": n, "image_id": n % 20_000, "category_id": 4, "bbox": [0, 0, 2, 2]}
            for n in range(60_000)
        ]

    with pytest.raises(ValueError, match="has no usable image, of 20000 that it lists"):
        read_coco(write(change))


def test_a_set_without_a_box_cannot_be_trained_on(write):
    check_trainable(read_coco(write())[0])
    check_trainable(read_coco(TREES / "train.json")[0])
    crowds = read_coco(write(lambda content: content["annotations"].pop(0)))[0]
    with pytest.raises(
        ValueError, match=r"coco\.json cannot be trained on: of its 2 images none .*1"
    ):
        check_trainable(crowds)
    none = read_coco(write(lambda content: content["annotations"].clear()))[0]
    with pytest.raises(ValueError, match="none has a box to learn .0 crowd boxes"):
        check_trainable(none)


def test_areas_are_those_of_the_file_where_it_states_them(write):
    def given(*areas):
        records = [
            {"image_id": 7, "category_id": 4, "bbox": [1 + i, 1, 3, 4]} | area
            for i, area in enumerate(areas)
        ]
        path = write(lambda content: content.update(annotations=records))
        return read_coco(path)[0].annotations[0].areas

    unstated = ({}, {"area": "large"}, {"area": -1}, {"area": None})
    np.testing.assert_array_equal(given({"area": 12.5}, *unstated), [12.5, *[np.nan] * 4])
    assert given(*unstated) is None
    assert category_ids(write()) == {"cat": 4, "brush": 90}
