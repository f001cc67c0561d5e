import logging

import numpy as np
import pytest
from PIL import Image

from yolo_jax.data.readers.keras_yolo3 import parse_line, read_keras_yolo3


@pytest.fixture
def write(tmp_path):
    (tmp_path / "set" / "images").mkdir(parents=True)
    for name in ("set/images/a.png", "set/images/my  b.png", "cwd.png"):
        Image.new("RGB", (40, 30)).save(tmp_path / name)
    (tmp_path / "set" / "classes.txt").write_text("cat\ndog\n")

    def write(*lines):
        file = tmp_path / "set" / "train.txt"
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return file

    return write


def test_good_file(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = write(
        "images/a.png 5,6,15,10,1 0,0,8.5,8,0",
        "",
        f"{tmp_path}/set/images/my  b.png 1,2,3,4,0\r",
        "cwd.png",
    )
    dataset, problems = read_keras_yolo3(file, strict=True)
    assert problems == ()
    assert dataset.class_names == ("cat", "dog")
    first, second, third = dataset.annotations
    assert (first.image_id, first.width, first.height) == (0, 40, 30)
    assert first.path == tmp_path / "set/images/a.png"
    np.testing.assert_array_equal(first.boxes, [[5, 6, 15, 10], [0, 0, 8.5, 8]])
    np.testing.assert_array_equal(first.classes, [1, 0])
    assert second.path.name == "my  b.png"
    np.testing.assert_array_equal(second.boxes, [[1, 2, 3, 4]])
    assert (third.image_id, third.path, len(third.boxes)) == (2, tmp_path / "cwd.png", 0)


def test_what_stands_beside_the_file_comes_before_the_working_directory(
    write, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "images" / "a.png")
    assert read_keras_yolo3(write("images/a.png"))[0].annotations[0].width == 40


BAD_LINES = {
    "outside": ("images/a.png 50,5,60,9,0", "line 1, box 1", "50,5,60,9,0 lies outside the image"),
    "no width": ("images/a.png 9,5,9,9,0", "line 1, box 1", "no width or no height"),
    "class": ("images/a.png 1,2,3,4,2", "box 1", "1,2,3,4,2 is of no class of 0 to 1; skipped"),
    "class .5": ("images/a.png 1,2,3,4,0.5", "box 1", "is of no class of 0 to 1"),
    "class -1": ("images/a.png 1,2,3,4,-1", "box 1", "is of no class of 0 to 1"),
    "sticks out": ("images/a.png 30,5,50,9,0", "box 1", "sticks out of the image of 40×30 px"),
    "digits": (f"images/a.png 1,2,{'9' * 400},4,0", "box 1", "sticks out"),
    "twice": ("images/a.png 1,2,3,4,0 1,2,3,4.0,0", "line 1", "box 2 doubles box 1"),
    "gone": ("gone.png 1,2,3,4,0", "line 1", "image 'gone.png': there is no such image file"),
    "four": ("images/a.png 1,2,3,4", "line 1", "('1,2,3,4' is not a box, xmin,ymin,xmax,ymax,"),
    "nan": ("images/a.png 1,2,nan,4,0", "line 1", "('1,2,nan,4,0' is not a box"),
    "climbs": ("../cwd.png", "line 1", "its file lies outside"),
    "no image": ("1,2,3,4,0", "line 1", "an annotation line is `path xmin,ymin,xmax,ymax,class …`"),
    "text": ("classes.txt", "line 1 (", "it is not an image of a known format; skipped"),
    "image again": ("images/my  b.png", "line 2", "its image is that of line 1; skipped"),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_bad_line_is_skipped_and_reported(write, case, caplog):
    line, record, reason = BAD_LINES[case]
    file = write(line, "images/my  b.png 1,2,3,4,1")
    with caplog.at_level(logging.WARNING):
        dataset, problems = read_keras_yolo3(file)
    assert dataset.annotations[-1].path.name == "my  b.png"
    assert len(problems) == 1
    assert problems[0].file == file
    assert record in problems[0].record
    assert reason in problems[0].reason
    assert str(problems[0]) in caplog.text
    with pytest.raises(ValueError, match="1 bad records"):
        read_keras_yolo3(file, strict=True)


def test_class_names(write, tmp_path):
    file = write("images/a.png 1,2,3,4,1")
    (tmp_path / "names").write_bytes(b"\xef\xbb\xbfant\r\nbee\r\n\r\n")
    names = read_keras_yolo3(file, class_names_file=tmp_path / "names")[0].class_names
    assert names == ("ant", "bee")
    for content, said in (
        (b"", "has no class names; expected one a line"),
        (b"a\n\nb\n", "line 2 is empty; expected a class name"),
        (b"a\nb\na\n", "line 3 has 'a', as line 1 has"),
        (b"a\n\xe9\n", "is not text in UTF-8: .* in line 2; save it as UTF-8"),
    ):
        (tmp_path / "names").write_bytes(content)
        with pytest.raises(ValueError, match=said) as raised:
            read_keras_yolo3(file, class_names_file=tmp_path / "names")
        assert str(tmp_path / "names") in str(raised.value)
    (tmp_path / "set" / "classes.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no classes\.txt beside it; put it"):
        read_keras_yolo3(file)


def test_file_that_cannot_be_read(write, tmp_path):
    file = write()
    with pytest.raises(ValueError, match=r"train\.txt has no usable image, of 0 lines"):
        read_keras_yolo3(file)
    file.write_bytes(b"images/a.png\n\n\xff")
    with pytest.raises(ValueError, match=r"train\.txt is not text in UTF-8: .* in line 3"):
        read_keras_yolo3(file)
    with pytest.raises(FileNotFoundError, match=r"gone\.txt"):
        read_keras_yolo3(tmp_path / "gone.txt")


def test_parse_line():
    path, boxes = parse_line("/a b/1,2,3,4,5 c.jpg 1,2,3,4,5  6.5,7,8,9,0\n")
    assert path == "/a b/1,2,3,4,5 c.jpg"
    np.testing.assert_array_equal(boxes, [[1, 2, 3, 4, 5], [6.5, 7, 8, 9, 0]])
    assert parse_line("a.jpg")[1].shape == (0, 5)
    with pytest.raises(ValueError, match="an annotation line is"):
        parse_line(" ")
