"""Commands that read data leave these as they are, lose nothing silently, and write all or none."""

import json
from pathlib import Path

import pytest
from PIL import Image

from yolo_jax import cli
from yolo_jax.data.readers import read_dataset, split_names
from yolo_jax.data.readers import tfds as tfds_reader
from yolo_jax.examine import command


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def make_coco(path, names=("a.png",), **fields):
    path.parent.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        (path.parent / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (number, len(path.stem), 99)).save(path.parent / name)
    content = {
        "images": [
            {"id": i, "file_name": name, "width": 40, "height": 30} for i, name in enumerate(names)
        ],
        "annotations": [{"id": 1, "image_id": 0, "category_id": 1, "bbox": [1, 1, 9, 9]}],
        "categories": [{"id": 1, "name": "dog"}],
    }
    path.write_text(json.dumps(content | fields))
    return str(path)


@pytest.fixture
def yolo(folder):
    source = make_coco(folder / "source.json", ("a.png", "b.png"))
    assert cli.main(["convert", source, "--to", "yolo", "--out", "d2"]) == 0
    return folder / "d2"


@pytest.mark.parametrize(
    "words",
    [
        "convert d2/data.yaml --to coco --out d2/images/copy",
        "convert d2/data.yaml --to coco --out d2/copy",
        "convert d2 --to coco --out d2/copy",
        "convert sets/a.json --to coco --out sets/images/copy",
        "doctor d2/data.yaml --fix d2/images/fixed",
        "doctor sets/a.json --fix sets/images/fixed",
        "doctor d2 --out d2",
        "doctor d2/data.yaml --out d2/images/page",
        "doctor sets --out sets",
        "doctor sets/a.json --out sets",
        "doctor d2 --out site",
        "doctor d2 --out own",
        "doctor d2 --out reports",
    ],
)
def test_nothing_is_written_among_the_users_own_files(yolo, folder, capsys, words):
    make_coco(folder / "sets" / "a.json", ("images/a.png",))
    for name in ("site/index.html", "own/notes.txt", "reports/report.json"):
        (folder / name).parent.mkdir()
        (folder / name).write_text("mine")
    before = files(folder)
    assert cli.main(words.split()) == 2
    assert words.split()[-1] in capsys.readouterr().err
    assert files(folder) == before


def test_a_page_takes_the_place_of_an_earlier_one(yolo, folder):
    assert cli.main(["doctor", "d2", "--out", "page", "--show-augment", "1"]) == 0
    (folder / "page" / "index.html").unlink()  # as if it had been stopped in between
    assert cli.main(["doctor", "d2", "--out", "page"]) == 0
    assert cli.main(["doctor", "d2", "--out", "page"]) == 0
    # A new folder beside a file of annotations is not in its data.
    assert cli.main(["convert", "source.json", "--to", "voc", "--out", "new"]) == 0


def test_a_fix_of_several_splits_is_whole_or_not_there(folder, monkeypatch):
    for name in ("train", "val"):
        make_coco(folder / "two" / f"{name}.json", (f"{name}.png",))
    write = command.write_coco

    def stop(dataset, place):
        if place.name == "val":
            raise KeyboardInterrupt
        return write(dataset, place)

    monkeypatch.setattr(command, "write_coco", stop)
    assert cli.main(["doctor", "two", "--fix", "fixed"]) == 130
    assert sorted(p.name for p in folder.iterdir()) == ["doctor", "two"]
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    assert cli.main(["doctor", "two", "--fix", "fixed"]) == 0
    assert sorted(p.name for p in (folder / "fixed").iterdir()) == ["train", "val"]


LOST = {
    "images": [
        {"id": 0, "file_name": "x/a?.png", "width": 40, "height": 30, "license": 2},
        {"id": 1, "file_name": "y/b.png", "width": 40, "height": 30},
    ],
    "annotations": [
        {"image_id": 0, "category_id": 7, "bbox": [1, 1, 9, 9], "area": 40, "keypoints": [1, 2, 2]},
        {"image_id": 1, "category_id": 7, "bbox": [1, 1, 9, 9], "segmentation": [[1, 1, 9, 9]]},
    ],
    "categories": [{"id": 7, "name": "dog", "supercategory": "animal"}],
    "info": {"year": 2017},
    "licenses": [{"id": 2}],
}  # fmt: skip


@pytest.mark.parametrize("words", [["convert", "--to", "coco", "--out"], ["doctor", "--fix"]])
def test_what_is_not_kept_is_said_of_data_that_have_it(folder, capsys, words):
    source = make_coco(folder / "set.json", ("x/a?.png", "y/b.png"), **LOST)
    assert cli.main([words[0], source, *words[1:], "new"]) == 0
    said = [line.strip() for line in capsys.readouterr().out.splitlines() if "not kept" in line]
    assert said == [
        "not kept: category ids (7): classes are counted anew",
        "not kept: license of 1 images",
        "not kept: area of 1 annotations",
        "not kept: keypoints of 1 annotations",
        "not kept: segmentation of 1 annotations",
        "not kept: supercategory of 1 categories",
        "not kept: info",
        "not kept: licenses",
        "not kept: the 2 folders of the images: all are in one",
        "not kept: names of 1 image files, such as 'a?.png' is 'a_.png'",
    ]
    (again,) = (folder / "new").glob("*.json")
    assert cli.main([words[0], str(again), *words[1:], "newer"]) == 0
    assert "not kept" not in capsys.readouterr().out


def test_what_yolo_and_voc_have_and_boxes_do_not(yolo, folder, capsys):
    (yolo / "labels" / "a.txt").write_text("0 .1 .1 .5 .1 .5 .5\n")
    assert cli.main(["convert", "d2", "--split", "train", "--to", "voc", "--out", "voc"]) == 0
    assert "not kept: 1 polygons: the boxes around them are" in capsys.readouterr().out
    file = folder / "voc" / "Annotations" / "a.xml"
    file.write_text(file.read_text().replace("<pose>Unspecified", "<pose>Left"))
    assert cli.main(["convert", "voc", "--to", "coco", "--out", "coco"]) == 0
    assert "not kept: pose of 1 objects" in capsys.readouterr().out


def test_a_jpeg_that_lost_pixels_is_damaged_in_every_command(folder, capsys):
    source = Path(make_coco(folder / "set.json", ("a.png", "b.png")))
    Image.effect_noise((40, 30), 99).convert("RGB").save(folder / "b.png", "JPEG")
    content = (folder / "b.png").read_bytes()
    (folder / "b.png").write_bytes(content[: len(content) * 2 // 3] + b"\xff\xd9")
    assert cli.main(["doctor", str(source)]) == 1
    assert "unreadable image" in capsys.readouterr().out
    words = ["convert", str(source), "--to", "coco", "--out", "new"]
    assert cli.main([*words, "--strict"]) == 2
    assert "b.png): it is damaged or cut short" in capsys.readouterr().err
    assert cli.main(words) == 0
    assert len(read_dataset(folder / "new")[0].annotations) == 1


def test_a_turned_image_with_the_record_of_the_stored_one(folder, capsys):
    source = make_coco(folder / "set.json", ("a.jpg", "b.jpg"))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(folder / "a.jpg", exif=exif)
    assert cli.main(["doctor", source]) == 1
    assert "most likely by the file's EXIF orientation" in capsys.readouterr().out


def test_show_augment_of_no_image(folder, capsys):
    source = make_coco(folder / "set.json")
    (folder / "a.png").write_bytes(b"")
    assert cli.main(["doctor", source, "--show-augment", "1"]) == 1
    assert "augmented: not drawn, no image is left" in capsys.readouterr().out


def test_all_splits_of_tfds_are_looked_at(monkeypatch):
    class Builder:
        class info:
            splits = {"validation": 1, "train": 2}  # noqa: RUF012

    monkeypatch.setattr(tfds_reader, "_find", lambda name, folder: Builder)
    assert split_names("tfds:coco/2017") == ["train", "validation"]
