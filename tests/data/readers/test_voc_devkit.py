"""Several years of Pascal VOC read as one data set."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_voc_folders import thing, xml

from yolo_jax.data.readers import read_dataset, split_names
from yolo_jax.data.readers.voc import VOC_CLASSES
from yolo_jax.data.readers.voc_devkit import read_voc_devkit


def add_year(devkit: Path, folder: str, lists: dict[str, str], thing_of: dict[str, str]) -> None:
    """Writes a folder like VOC2007: its lists, and of each image the object in it."""
    root = devkit / folder
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / name).mkdir(parents=True)
    for stem, content in thing_of.items():
        Image.new("RGB", (40, 30)).save(root / "JPEGImages" / f"{stem}.jpg")
        (root / "Annotations" / f"{stem}.xml").write_text(xml(content, filename=f"{stem}.jpg"))
    for name, stems in lists.items():
        text = "".join(f"{stem}\n" for stem in stems)
        (root / "ImageSets" / "Main" / f"{name}.txt").write_text(text)


@pytest.fixture
def devkit(tmp_path: Path) -> Path:
    """Two years, both with images a and b; of 2007 b is the test."""
    path = tmp_path / "VOCdevkit"
    add_year(path, "VOC2007", {"trainval": "a", "test": "b"}, {"a": thing(), "b": thing("cat")})
    difficult = thing("dog", (1, 1, 40, 30), difficult=1)
    lists = {"train": "a", "val": "b", "trainval": "ab"}
    add_year(path, "VOC2012", lists, {"a": thing("cow"), "b": difficult})
    return path


def test_years_with_the_same_file_names_are_one_set(devkit: Path):
    dataset, problems = read_dataset(devkit, split="2007_trainval+2012_trainval", strict=True)
    assert problems == ()
    assert dataset.class_names == VOC_CLASSES
    assert [
        (a.image_id, a.source, a.path.relative_to(devkit).as_posix()) for a in dataset.annotations
    ] == [
        (0, "VOC2007", "VOC2007/JPEGImages/a.jpg"),
        (1, "VOC2012", "VOC2012/JPEGImages/a.jpg"),
        (2, "VOC2012", "VOC2012/JPEGImages/b.jpg"),
    ]
    names = [[VOC_CLASSES[i] for i in a.classes] for a in dataset.annotations]
    assert names == [["dog"], ["cow"], ["dog"]]
    assert [a.crowd.tolist() for a in dataset.annotations] == [[False], [False], [True]]
    np.testing.assert_array_equal(dataset.annotations[2].boxes, [[0, 0, 40, 30]])
    assert "truncated of 2 objects (2012_trainval)" in dataset.not_kept


def test_a_single_split(devkit: Path):
    dataset, _ = read_dataset(devkit, split="2007_test")
    assert [(a.image_id, a.source, a.path.name) for a in dataset.annotations] == [
        (0, "VOC2007", "b.jpg")
    ]
    # `trainval` is left out where it has the images of others.
    assert split_names(devkit) == ["2007_trainval", "2007_test", "2012_train", "2012_val"]


def test_which_split(devkit: Path):
    with pytest.raises(ValueError, match=r"say which one .* as in 2007_trainval\+2007_test"):
        read_voc_devkit(devkit)
    for split in ("2008_train", "trainval", "2007_trainval+", "2007_"):
        with pytest.raises(
            FileNotFoundError, match=r"there is no split .*it has \['2007_trainval'"
        ):
            read_voc_devkit(devkit, split)
    with pytest.raises(FileNotFoundError, match=r"no split .*2007.*/val\.txt; there are"):
        read_voc_devkit(devkit, "2007_val")
    with pytest.raises(ValueError, match=r"1 images are in two splits of .*VOC2012.*a\.jpg"):
        read_voc_devkit(devkit, "2012_train+2012_trainval")


def test_years_of_other_classes_need_a_file_of_them(devkit: Path, tmp_path: Path):
    add_year(devkit, "own", {"train": "c"}, {"c": thing("ant")})
    split = "own_train+2012_val"
    with pytest.raises(ValueError, match=r"VOC2012 has the classes .*own_train.*give a file of"):
        read_voc_devkit(devkit, split)
    (tmp_path / "names").write_text("ant\ncow\ndog\n")
    dataset, _ = read_voc_devkit(devkit, split, class_names_file=tmp_path / "names")
    assert [a.classes.tolist() for a in dataset.annotations] == [[0], [2]]


def test_bad_records_of_every_year_are_told(devkit: Path):
    for image in ("VOC2007/JPEGImages/b.jpg", "VOC2012/JPEGImages/a.jpg"):
        (devkit / image).unlink()
    with (devkit / "VOC2007/ImageSets/Main/test.txt").open("a") as file:
        file.write("a\n")
    dataset, problems = read_voc_devkit(devkit, "2007_test+2012_trainval")
    assert [a.image_id for a in dataset.annotations] == [0, 1]
    assert [problem.file.name for problem in problems] == ["b.xml", "a.xml"]
