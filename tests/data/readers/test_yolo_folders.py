import logging

import numpy as np
import pytest
from PIL import Image

from yolo_jax.data.readers.yolo import read_yolo


@pytest.fixture
def folder(tmp_path):
    """Images a (a box), b (no labels) in train and c in val, each 40×20 px."""
    root = tmp_path / "set"
    for name in ("train/a", "train/b", "val/c"):
        for kind in ("images", "labels"):
            (root / kind / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 20)).save(root / "images" / f"{name}.jpg")
    (root / "labels/train/a.txt").write_text("1 0.5 0.5 0.25 0.5\n")
    (root / "labels/val/c.txt").write_text("0 0.5 0.5 1 1\n")
    write_yaml(root)
    return root


def write_yaml(folder, **changes):
    fields = {"train": "images/train", "val": "images/val", "nc": 2, "names": "[cat, no]"} | changes
    text = "".join(f"{key}: {value}\n" for key, value in fields.items() if value is not None)
    (folder / "data.yaml").write_text(text, encoding="utf-8")


def names_of(dataset):
    return [annotation.path.name for annotation in dataset.annotations]


def test_a_split(folder):
    dataset, problems = read_yolo(folder, "train", strict=True)
    assert problems == ()
    assert dataset.class_names == ("cat", "no")
    first, second = dataset.annotations
    assert (first.image_id, first.path, first.width, first.height) == (
        0,
        folder / "images/train/a.jpg",
        40,
        20,
    )
    np.testing.assert_array_equal(first.boxes, [[15, 5, 25, 15]])
    np.testing.assert_array_equal(first.classes, [1])
    assert (second.image_id, second.boxes.shape) == (1, (0, 4))
    assert names_of(read_yolo(folder / "data.yaml", "val")[0]) == ["c.jpg"]


def test_names_as_lines_with_numbers(folder):
    write_yaml(folder, names="\n  1: dog\n  0: cat")
    assert read_yolo(folder, "val")[0].class_names == ("cat", "dog")
    write_yaml(folder, names="\n  1: dog\n  2: cat")
    with pytest.raises(ValueError, match=r"names has the indices \['1', '2'\]; expected 0 to 1"):
        read_yolo(folder, "val")


def test_a_class_list_of_another_length(folder, tmp_path):
    write_yaml(folder, nc=3)
    with pytest.raises(ValueError, match=r"names has 2 class names, and nc in .*data\.yaml is 3"):
        read_yolo(folder, "val")
    write_yaml(folder, names=None)
    with pytest.raises(ValueError, match=r"names is None; expected a list of class names"):
        read_yolo(folder, "val")
    (tmp_path / "names").write_text("x\ny\n")
    names = read_yolo(folder, "val", class_names_file=tmp_path / "names")[0].class_names
    assert names == ("x", "y")
    (tmp_path / "names").write_text("x\ny\nz\n")
    with pytest.raises(ValueError, match=r"names has 3 class names, and nc in .*yaml is 2; mend"):
        read_yolo(folder, "val", class_names_file=tmp_path / "names")


def test_path_of_the_data(folder, tmp_path):
    (tmp_path / "data.yaml").write_bytes((folder / "data.yaml").read_bytes())
    for path in ("set", folder, "./set/../set"):
        write_yaml(tmp_path, path=path)
        assert names_of(read_yolo(tmp_path, "val")[0]) == ["c.jpg"]
    write_yaml(tmp_path, path="../gone")
    with pytest.raises(FileNotFoundError, match=r"path is '../gone', and there is no folder"):
        read_yolo(tmp_path, "val")


def test_a_path_of_another_machine_is_the_yamls_folder_if_the_split_is_there(folder, caplog):
    for path in ("../datasets/set", "/content/gone"):  # as seen from Ultralytics' datasets, Colab
        caplog.clear()
        write_yaml(folder, path=path)
        assert names_of(read_yolo(folder, "val", strict=True)[0]) == ["c.jpg"]
        assert caplog.messages == [
            f"{folder / 'data.yaml'}: there is no folder {folder / path} (its path); {folder} is "
            "taken for it"
        ]
    write_yaml(folder, path="../gone", val="images/valid")
    with pytest.raises(FileNotFoundError, match=r"path is '../gone', and there is no folder"):
        read_yolo(folder, "val")


def test_what_a_split_may_be(folder, tmp_path):
    (folder / "list.txt").write_text(
        f"./images/train/b.jpg\n\n{folder}/images/val/c.jpg\nimages/train/a.jpg\n"
    )
    write_yaml(folder, test="list.txt", val="[images/val, images/train]", train=folder / "images")
    assert names_of(read_yolo(folder, "test", strict=True)[0]) == ["b.jpg", "c.jpg", "a.jpg"]
    assert names_of(read_yolo(folder, "val", strict=True)[0]) == ["c.jpg", "a.jpg", "b.jpg"]
    assert names_of(read_yolo(folder, "train", strict=True)[0]) == ["a.jpg", "b.jpg", "c.jpg"]


def test_roboflows_paths_lead_where_they_do_in_ultralytics(folder, tmp_path, caplog):
    """Its `../train/images` is beside the yaml's folder if it is there, else in that folder."""
    write_yaml(folder, train="../images/train")
    assert names_of(read_yolo(folder, "train", strict=True)[0]) == ["a.jpg", "b.jpg"]
    assert not caplog.messages
    for kind, suffix in (("images", "jpg"), ("labels", "txt")):
        (tmp_path / kind / "train").mkdir(parents=True)
        file = folder / kind / "train" / f"a.{suffix}"
        (tmp_path / kind / "train" / f"d.{suffix}").write_bytes(file.read_bytes())
    (annotation,) = read_yolo(folder, "train", strict=True)[0].annotations
    assert annotation.path == tmp_path / "images/train/d.jpg"
    assert len(annotation.boxes) == 1
    assert f"while there is {folder}/images/train too" in caplog.text
    # What `path` names is the data's folder, and lists of images never lead out of it.
    write_yaml(folder, train="../images/train", path=folder)
    assert names_of(read_yolo(folder, "train", strict=True)[0]) == ["a.jpg", "b.jpg"]
    (folder / "list.txt").write_text("../images/train/d.jpg\n")
    write_yaml(folder, train="list.txt")
    with pytest.raises(ValueError, match="has no usable image"):
        read_yolo(folder, "train")
    assert f"its file lies outside {folder}" in caplog.text


def test_which_files_are_images(folder, caplog):
    """By their suffix, in capitals or not; hidden ones are not, and others are told of.

    Those that nothing here decodes are images that the data set loses.
    """
    place = folder / "images/val"
    for name in ("d.JFIF", "e.jpe", "f.TIF", "._c.jpg", ".cache/g.jpg", "h.heic", "i.heic", "j.md"):
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_bytes((place / "c.jpg").read_bytes())
    dataset, problems = read_yolo(folder, "val")
    assert names_of(dataset) == ["c.jpg", "d.JFIF", "e.jpe", "f.TIF"]
    assert [problem.file.name for problem in problems] == ["h.heic", "i.heic"]
    assert all(problem.loses_image for problem in problems)
    assert "the image: .heic images are not read; save it as .jpg or .png" in str(problems[0])
    told = f"{place}: files whose suffix is of no image are not read: 1 .md"
    assert caplog.messages[0] == told


def test_which_split(folder):
    with pytest.raises(ValueError, match=r"has the splits \['train', 'val'\]; say which one"):
        read_yolo(folder)
    with pytest.raises(ValueError, match=r"has no split 'test'; it has \['train', 'val'\]"):
        read_yolo(folder, "test")
    write_yaml(folder, val="images/train", test="")
    assert len(read_yolo(folder)[0].annotations) == 2


WRONG_YAML = {
    "climbs": ({"val": "../../elsewhere"}, ValueError, "'../../elsewhere' lies outside"),
    "climbs to nothing": (
        {"val": "../gone"},
        FileNotFoundError,
        r"list .*/gone or .*/set/gone; set",
    ),
    "hidden climb": ({"val": "images/../../x"}, ValueError, "'images/../../x' lies outside"),
    "gone": ({"val": "gone"}, FileNotFoundError, "'gone': there is no folder of images or .txt"),
    "file": ({"val": "data.yaml"}, FileNotFoundError, "there is no folder of images or .txt list"),
    "mapping": ({"val": "{a: b}"}, ValueError, "val is {'a': 'b'}; expected a folder of images"),
    "empty list": ({"val": "[]"}, ValueError, r"val is \[\]; expected a folder"),
    "not yaml": ({"val": "[a"}, ValueError, "is not YAML: while parsing"),
    "names": ({"names": "cat"}, ValueError, "names is 'cat'; expected a list of class names"),
    "no names": ({"names": "[]"}, ValueError, r"names is \[\]; expected a list"),
}


@pytest.mark.parametrize("case", WRONG_YAML)
def test_wrong_yaml(folder, case):
    changes, kind, said = WRONG_YAML[case]
    write_yaml(folder, **changes)
    with pytest.raises(kind, match=said) as raised:
        read_yolo(folder, "val")
    assert str(folder / "data.yaml") in str(raised.value)


def test_yaml_that_is_none(folder):
    (folder / "data.yaml").write_text("- a\n")
    with pytest.raises(ValueError, match=r"is not a YOLO data\.yaml: expected"):
        read_yolo(folder, "val")
    (folder / "data.yaml").write_bytes("names: [a,\n café]".encode("latin-1"))
    with pytest.raises(ValueError, match=r"data\.yaml is not YAML in UTF-8: .* in line 2; save"):
        read_yolo(folder, "val")
    (folder / "data.yaml").unlink()
    with pytest.raises(FileNotFoundError, match=r"data\.yaml"):
        read_yolo(folder, "val")


def label(folder, text):
    content = text if isinstance(text, bytes) else text.encode()
    (folder / "labels/val/c.txt").write_bytes(content)


def test_polygons_become_the_boxes_around_them(folder):
    label(folder, "0 0.1 0.5 0.3 0.1 0.5 0.9\n1 0 0 1 0 1 1 0 1\n0 .5 .5 .1 .1\r\n")
    (annotation,) = read_yolo(folder, "val", strict=True)[0].annotations
    expected = [[4, 2, 20, 18], [0, 0, 40, 20], [18, 9, 22, 11]]
    np.testing.assert_allclose(annotation.boxes, expected, atol=1e-5)
    np.testing.assert_array_equal(annotation.classes, [0, 1, 0])


def test_poses_are_boxes_with_more_behind(folder):
    label(folder, "0 0.5 0.5 0.5 0.5 0.1 0.2 0.3 0.4\n")
    write_yaml(folder, kpt_shape="[2, 2]")
    (annotation,) = read_yolo(folder, "val", strict=True)[0].annotations
    np.testing.assert_array_equal(annotation.boxes, [[10, 5, 30, 15]])


BAD_LINES = {
    "class": ("2 .5 .5 .1 .1", "its class is 2, not one of 0 to 1; skipped"),
    "class -1": ("-1 .5 .5 .1 .1", "its class is -1, not one of 0 to 1"),
    "class .5": ("0.5 .5 .5 .1 .1", "its class is 0.5, not one of 0 to 1"),
    "nan": ("0 nan .5 .1 .1", "is not of parts of the image's sides, 0 to 1"),
    "px": ("0 20 10 4 4", "its box '0 20 10 4 4' is not of parts of the image's sides, 0 to 1"),
    "no width": ("0 .5 .5 0 .1", "has no width or no height"),
    "negative": ("0 .5 .5 -.005 .1", "has no width or no height"),
    "four": ("0 .5 .5 .1", "found 4 numbers, expected `class cx cy w h` or"),
    "six": ("0 .5 .5 .1 .1 .9", "found 6 numbers, expected"),
    "words": ("cat .5 .5 .1 .1", "found 'cat .5 .5 .1 .1', expected the numbers"),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_bad_line_is_skipped_and_reported(folder, case, caplog):
    line, reason = BAD_LINES[case]
    label(folder, f"0 .5 .5 1 1\n\n{line}\n")
    with caplog.at_level(logging.WARNING):
        dataset, problems = read_yolo(folder, "val")
    np.testing.assert_array_equal(dataset.annotations[0].boxes, [[0, 0, 40, 20]])
    assert len(problems) == 1
    assert (problems[0].file, problems[0].record) == (folder / "labels/val/c.txt", "line 3")
    assert reason in problems[0].reason
    assert str(problems[0]) in caplog.text
    with pytest.raises(ValueError, match="1 bad records"):
        read_yolo(folder, "val", strict=True)


def test_clipped_and_doubled_boxes(folder):
    label(folder, "0 .05 .5 .2 .5\n0 .02 .5 .05 .5\n0 0.05 0.5 0.20 0.5\n")
    dataset, problems = read_yolo(folder, "val")
    np.testing.assert_allclose(
        dataset.annotations[0].boxes, [[0, 5, 6, 15], [0, 5, 1.8, 15]], atol=1e-5
    )
    assert [p.record for p in problems] == ["line 1", "line 3", "the file"]
    assert "sticks out of the image of 40×20 px; clipped" in problems[0].reason
    assert "line 3 doubles line 1: the same class and box" in problems[2].reason


def test_bad_label_file_takes_its_image_along(folder):
    label(folder, "0 .5 .5 1 1\n0 \xe9".encode("latin-1"))
    with pytest.raises(ValueError, match="has no usable image, of 1 that it leads to"):
        read_yolo(folder, "val")
    with pytest.raises(ValueError, match=r"c\.txt is not text in UTF-8: .* in line 2; save"):
        read_yolo(folder, "val", strict=True)


def test_bad_images(folder):
    (folder / "images/train/b.jpg").write_bytes(b"nothing")
    dataset, problems = read_yolo(folder, "train")
    assert names_of(dataset) == ["a.jpg"]
    assert [str(p) for p in problems] == [
        f"{folder / 'images/train/b.jpg'}: the image: it is not an image of a known format; skipped"
    ]


def test_bad_lines_of_a_list(folder, tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "out.jpg")
    lines = "images/val/c.jpg\ngone.jpg\n../out.jpg\nimages/val/c.jpg\nimages/val\n/gone.jpg\n"
    (folder / "list.txt").write_text(lines)
    write_yaml(folder, val="list.txt")
    dataset, problems = read_yolo(folder, "val")
    assert names_of(dataset) == ["c.jpg"]
    lists = folder / "list.txt"
    assert [str(p) for p in problems] == [
        f"{lists}: line 2 (gone.jpg): there is no such image file in {folder}; skipped",
        f"{lists}: line 3 (../out.jpg): its file lies outside {folder}; skipped",
        f"{lists}: line 5 (images/val): its file is a directory; skipped",
        f"{lists}: line 6 (/gone.jpg): there is no such image file; skipped",
        f"{lists}: {folder}/images/val/c.jpg: it was listed before; skipped",
    ]


def test_no_labels_at_all_are_reported(folder):
    (folder / "labels/val/c.txt").unlink()
    dataset, problems = read_yolo(folder, "val")
    assert len(dataset.annotations) == 1
    assert f"none of its 1 images has labels, such as {folder}/labels/val/c.txt" in str(problems[0])


def test_labels_beside_images_that_are_in_no_folder_of_that_name(tmp_path):
    Image.new("RGB", (40, 20)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("0 .5 .5 1 1")
    (tmp_path / "data.yaml").write_text("train: .\nnames: [cat]\n")
    assert len(read_yolo(tmp_path, strict=True)[0].annotations[0].boxes) == 1


def test_no_images(folder):
    (folder / "images/val/c.jpg").unlink()
    with pytest.raises(ValueError, match="has no usable image, of 0 that it leads to"):
        read_yolo(folder, "val")


def test_boxes_of_a_turned_image_are_of_the_image_as_seen(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(folder / "images/val/c.jpg", exif=exif)
    (annotation,) = read_yolo(folder, "val", strict=True)[0].annotations
    assert (annotation.width, annotation.height) == (20, 40)
    np.testing.assert_array_equal(annotation.boxes, [[0, 0, 20, 40]])
