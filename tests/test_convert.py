import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from yolo_jax import cli
from yolo_jax.data.readers import read_dataset

TREES = Path(__file__).parents[1] / "experiments" / "data" / "tree_crowns"


@pytest.fixture
def trees(tmp_path):
    shutil.copytree(TREES, tmp_path / "trees")
    return tmp_path / "trees"


def files(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("to", ["coco", "voc", "yolo", "keras_yolo3", "array_record"])
def test_the_command(trees, tmp_path, capsys, to):
    before = files(trees)
    out = tmp_path / "out"
    words = ["convert", str(trees), "--split", "validation", "--to", to, "--out", str(out)]
    assert cli.main([*words, "--strict"]) == 0
    printed = capsys.readouterr().out
    assert f"{out}: 12 images with 45 boxes of 1 classes" in printed
    assert ("not kept: which source an image is of: YELL" in printed) == (
        to in ("yolo", "keras_yolo3")
    )
    assert len(read_dataset(out, strict=True)[0].annotations) == 12
    assert files(trees) == before
    assert cli.main(words) == 2
    assert f"{out} is not empty; name a new folder" in capsys.readouterr().err


def test_of_a_set_with_splits_one_is_asked_for(trees, tmp_path, capsys):
    assert cli.main(["convert", str(trees), "--to", "yolo", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "'train', 'validation'" in said and "say by --split which one is converted" in said
    assert not (tmp_path / "out").exists()


def test_bad_records_are_counted_or_stop_it(trees, tmp_path, capsys):
    next((trees / "images").glob("YELL_528000_4978000_x1899_y1272*")).unlink()
    words = ["convert", str(trees / "validation.json"), "--to", "coco", "--out"]
    assert cli.main([*words, str(tmp_path / "a"), "--strict"]) == 2
    assert "1 bad records" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()
    assert cli.main([*words, str(tmp_path / "b")]) == 0
    assert "1 bad records of" in capsys.readouterr().out


def test_classes(trees, tmp_path, capsys):
    (tmp_path / "names").write_text("Bush\nTree\n")
    words = ["convert", str(trees / "validation.json"), "--to", "yolo", "--out"]
    assert cli.main([*words, str(tmp_path / "a"), "--classes", str(tmp_path / "names")]) == 0
    assert read_dataset(tmp_path / "a")[0].class_names == ("Bush", "Tree")
    assert "of 2 classes" in capsys.readouterr().out


WRONG = {
    "neither": ([], "found neither"),
    "both": (["x.json", "--pretrained", "yolov3-tiny"], "x.json a data set; do one at a time"),
    "both too": (["--pretrained", "yolov3-tiny", "--to", "voc"], "--to a data set; do one"),
    "no format": (["x.json", "--out", "o"], "takes `DATA --to FORMAT --out FOLDER`"),
    "no folder": (["x.json", "--to", "voc"], "takes `DATA --to FORMAT --out FOLDER`"),
    "no data": (["--to", "voc", "--out", "o"], "found --to --out"),
    "a source of data": (["x.json", "--source", "w"], "--source is a weights file; it needs"),
    "gone": (["gone.json", "--to", "voc", "--out", "o"], "there is no file or folder gone.json"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments(case, capsys):
    words, said = WRONG[case]
    assert cli.main(["convert", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_format_that_is_none(capsys):
    with pytest.raises(SystemExit):
        cli.main(["convert", "x.json", "--to", "csv", "--out", "o"])
    assert "invalid choice: 'csv'" in capsys.readouterr().err


def test_not_into_the_data_itself(trees, capsys):
    before = files(trees)
    words = ["convert", str(trees), "--split", "train", "--to", "voc"]
    assert cli.main([*words, "--out", str(trees / "voc")]) == 2
    assert "which stays as it is" in capsys.readouterr().err
    assert files(trees) == before


def test_weights_are_converted_as_ever(monkeypatch, tmp_path, capsys):
    asked = []
    monkeypatch.setattr(
        cli.data, "fetch_pretrained", lambda source: asked.append(source) or "the file"
    )
    assert cli.main(["convert", "--pretrained", "yolov3-tiny"]) == 0
    assert cli.main(["convert", "--pretrained", "yolov3-tiny", "--source", "w"]) == 0
    assert asked == [None, Path("w")]
    assert capsys.readouterr().out == "the file\nthe file\n"


def test_images_that_are_not_what_their_records_say_are_not_converted(tmp_path, capsys):
    """A box of another image, or of a damaged one, would be written as a good one."""
    names = ["good", "other_size", "cut"]
    for name in names:
        Image.new("RGB", (60, 40)).save(tmp_path / f"{name}.png")
    cut = tmp_path / "cut.png"
    cut.write_bytes(cut.read_bytes()[:60])
    images = [
        {
            "id": i,
            "file_name": f"{name}.png",
            "width": 60 + 60 * (name == "other_size"),
            "height": 40,
        }
        for i, name in enumerate(names)
    ]
    boxes = [{"image_id": i, "category_id": 1, "bbox": [5, 5, 20, 20]} for i in range(3)]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "a"}]}
    source = tmp_path / "set.json"
    source.write_text(json.dumps(content))
    arguments = ["convert", str(source), "--to", "yolo", "--out"]
    assert cli.main([*arguments, str(tmp_path / "out")]) == 0
    assert "1 images with 1 boxes" in (output := capsys.readouterr().out)
    assert "2 bad records" in output
    assert [p.name for p in (tmp_path / "out").rglob("*.png")] == ["good.png"]
    assert cli.main([*arguments, str(tmp_path / "strict"), "--strict"]) == 2
    message = capsys.readouterr().err
    assert "image 1 (other_size.png): it has 60×40 px and its record says 120×40" in message
    assert "image 2 (cut.png): it is damaged or cut short" in message
    assert not (tmp_path / "strict").exists()


def test_classes_that_cannot_be_told_apart_are_refused(tmp_path):
    Image.new("RGB", (60, 40)).save(tmp_path / "a.png")
    image = {"id": 1, "file_name": "a.png", "width": 60, "height": 40}
    for second, message in (("dog", "a class has the name 'dog' of another"), (" ", "has no name")):
        categories = [{"id": 1, "name": "dog"}, {"id": 2, "name": second}]
        content = {"images": [image], "annotations": [], "categories": categories}
        (tmp_path / "set.json").write_text(json.dumps(content))
        with pytest.raises(ValueError, match=message):
            read_dataset(tmp_path / "set.json")
