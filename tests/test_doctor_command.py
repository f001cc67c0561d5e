import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from yolo_jax import cli
from yolo_jax.data.readers import read_dataset, split_names

TREES = Path(__file__).parents[1] / "experiments" / "data" / "tree_crowns"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The command writes into the working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def broken(folder):
    """The tree crowns with one of each fault."""
    shutil.copytree(TREES, folder / "broken")
    with open_json(folder / "broken" / "train.json") as train:
        images, annotations = train["images"], train["annotations"]
        file = [folder / "broken" / image["file_name"] for image in images]
        file[0].write_bytes(file[0].read_bytes()[:4000])
        file[1].write_text("<html>404")
        file[2].unlink()
        images[3]["width"] = 300
        grey = np.asarray(Image.open(file[4]).convert("L")).astype(np.uint16)
        Image.fromarray(grey * 8).save(file[4].with_name("dark.png"))
        images[4]["file_name"] = "images/dark.png"
        odd = "images/树 é <b>& $x.jpg"
        file[5].rename(folder / "broken" / odd)
        images[5]["file_name"] = odd
        shutil.copy(file[6], file[6].with_name("copy.jpg"))
        images.append({**images[6], "id": 9001, "file_name": "images/copy.jpg"})
        number = images[7]["id"]
        boxes = [390, 5, 30, 40], [500, 5, 9, 9], [5, 5, 0, 9], [7, 7, 9, 9], [7, 7, 9, 9]
        for index, bbox in enumerate(boxes, 9001):
            record = {"id": index, "image_id": number, "category_id": 1, "bbox": bbox}
            annotations.append(record)
        annotations.append({"image_id": number, "category_id": 99, "bbox": [1, 1, 9, 9]})
        in_two = images[8]
    with open_json(folder / "broken" / "validation.json") as validation:
        validation["images"].append({**in_two, "id": 9002})
    return folder / "broken"


class open_json:
    """Changes a JSON file."""

    def __init__(self, path):
        self.path = path

    def __enter__(self):
        self.content = json.loads(self.path.read_text())
        return self.content

    def __exit__(self, *_):
        self.path.write_text(json.dumps(self.content))


class Page(HTMLParser):
    """Gathers a page's tags, what they load, and its text."""

    def __init__(self, path):
        super().__init__()
        self.open, self.loaded, self.text, self.tags = [], [], [], set()
        self.feed(path.read_text(encoding="utf-8"))
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.loaded += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def report(path):
    return json.loads((path / "report.json").read_text(), parse_constant=pytest.fail)


def files(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_sound_set(folder, capsys):
    before = files(TREES)
    assert cli.main(["doctor", str(TREES)]) == 0
    printed = capsys.readouterr().out
    assert "86 images in held_out, train, validation, 1,019 boxes, 1 class\nnothing is" in printed
    assert "anchors at 416 px, 667 boxes of train:\n  tiny's: mean best IoU 0.660, best" in printed
    out = folder / "doctor" / "tree_crowns"
    assert files(TREES) == before
    found = report(out)
    assert found["problems"] == {}
    assert found["splits"]["train"]["boxes"] == 667
    assert found["classes"] == {"Tree": {"held_out": 307, "train": 667, "validation": 45}}
    assert len(found["anchors"]["by k-means"]["anchors"]) == 6
    page = Page(out / "index.html")
    assert all(re.match("data:image/(png|jpeg);base64,", source) for source in page.loaded)
    assert "script" not in page.tags
    assert "Nothing is wrong with it." in page.text


def test_a_broken_set(broken, folder, capsys):
    assert cli.main(["doctor", "broken", "--max-boxes", "42", "--workers", "1"]) == 1
    printed, warned = capsys.readouterr()
    assert printed.index("wrong:") < printed.index("worth a look:")
    assert warned == ""  # the summary has it all
    found = report(folder / "doctor" / "broken")
    count = {kind: len(problems) for kind, problems in found["problems"].items()}
    # Boxes beyond a record's width are outside too, or stick out: those of the 300 px.
    assert count.pop("box outside the image") >= 1
    assert count.pop("box that sticks out") >= 1
    assert count == {
        "unreadable image": 3,
        "image of another size than its record": 1,
        "image in two splits": 1,
        "box of an unknown class": 1,
        "box without width or height": 1,
        "duplicate box": 1,
        "duplicate image": 1,
        "image of more boxes than max_boxes": 1,
    }
    assert sum(note.endswith("1, dark.png") for note in found["notes"]) == 1
    page = Page(folder / "doctor" / "broken" / "index.html")
    text = "".join(page.text)
    for said in ("it is damaged or cut short", "Boxes that stick out", "Smallest boxes"):
        assert said in text


def test_fix(broken, folder, capsys):
    before = files(broken)
    assert cli.main(["doctor", "broken", "--fix", "fixed"]) == 1
    assert files(broken) == before
    printed = capsys.readouterr().out
    assert f"{Path('fixed/train')}: 35 images" in printed
    # Of 41 images; the boxes beyond a record's width are outside too, or stick out.
    assert re.search(
        r"train: 35 images with \d+ boxes, as COCO\n  left out: 3 × unreadable image, 1 × image of "
        r"another size than its record, 1 × image in two splits, 1 × box of an unknown class, \d × "
        r"box outside the image, 1 × box without width or height, 1 × duplicate box, 1 × duplicate "
        r"image\n  clipped: \d+ × box that sticks out\n",
        printed,
    )
    assert "validation: 13 images with 45 boxes, as COCO\n" in printed
    for name, images in (("train", 35), ("validation", 13), ("held_out", 34)):
        dataset, problems = read_dataset(folder / "fixed" / name, strict=True)
        assert problems == ()
        assert len(dataset.annotations) == images
        limits = [[a.width, a.height] * 2 for a in dataset.annotations]
        for annotation, limit in zip(dataset.annotations, limits, strict=True):
            assert (annotation.boxes >= 0).all()
            assert (annotation.boxes <= np.asarray(limit)).all()
        assert cli.main(["doctor", f"fixed/{name}"]) == 0
    assert cli.main(["doctor", "broken", "--fix", "fixed"]) == 2
    assert "fixed is not empty; name a new folder" in capsys.readouterr().err


def test_fix_of_one_split_is_one_data_set(broken, folder):
    assert cli.main(["doctor", "broken/train.json", "--fix", "fixed"]) == 1
    assert len(read_dataset(folder / "fixed", strict=True)[0].annotations) == 36
    assert (folder / "doctor" / "train" / "index.html").is_file()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--fix", "broken/copy"], "lies in the data set broken, which stays as it is"),
        (["--fix", "a", "--out", "a/b"], "would hold the page of --out a/b too"),
        (["--split", "test"], "there is no split 'test'; it has"),
        (["--config", "gone.py"], "there is no config file gone.py"),
        (["--classes", "gone"], "gone"),
    ],
)
def test_wrong_arguments(broken, capsys, words, said):
    before = files(broken)
    assert cli.main(["doctor", "broken", *words]) == 2
    assert said in capsys.readouterr().err
    assert files(broken) == before
    assert not Path("doctor").exists()


@pytest.mark.parametrize("words", [["--input-size", "0"], ["--workers", "x"], ["--network", "v9"]])
def test_words_that_are_no_choice(capsys, words):
    with pytest.raises(SystemExit):
        cli.main(["doctor", "x.json", *words])
    assert words[0] in capsys.readouterr().err


def small_set(folder, boxes, images=1, classes=("a",)):
    folder.mkdir()
    for number in range(images):
        Image.new("RGB", (60, 40), (number, 99, 3)).save(folder / f"{number}.png")
    content = {
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": 60, "height": 40} for i in range(images)
        ],
        "annotations": [{"image_id": 0, "category_id": 1, "bbox": bbox} for bbox in boxes],
        "categories": [{"id": i, "name": name} for i, name in enumerate(classes, 1)],
    }
    (folder / "a.json").write_text(json.dumps(content))


def test_one_image(folder, capsys):
    small_set(folder / "one", [[1, 1, 30, 20]], classes=[f"$name {i} 树 <b>" for i in range(80)])
    assert cli.main(["doctor", "one", "--network", "yolov3", "--out", "here"]) == 0
    assert "1 image, 1 box, 80 classes" in capsys.readouterr().out
    found = report(folder / "here")
    assert list(found["anchors"]) == ["yolov3's"]  # one box gives no clusters
    assert "$name 79 树 <b>" in Page(folder / "here" / "index.html").text


def test_no_box_at_all(folder, capsys):
    small_set(folder / "bare", [])
    assert cli.main(["doctor", "bare"]) == 1
    assert "nothing to learn" in capsys.readouterr().out
    Page(folder / "doctor" / "bare" / "index.html")


def test_no_image_at_all(folder, capsys):
    small_set(folder / "empty", [], images=0)
    assert cli.main(["doctor", "empty"]) == 2
    assert "has no usable image, of 0 that it lists" in capsys.readouterr().err
    small_set(folder / "gone", [])
    (folder / "gone" / "0.png").unlink()
    assert cli.main(["doctor", "gone"]) == 2
    assert "there is no such image file" in capsys.readouterr().err  # it is not held back


def test_images_that_all_are_unreadable(folder, capsys):
    small_set(folder / "bad", [[1, 1, 30, 20]])
    (folder / "bad" / "0.png").write_bytes(b"")
    assert cli.main(["doctor", "bad", "--fix", "fixed"]) == 1
    assert "fixed: not written, no image is left" in capsys.readouterr().out
    assert not (folder / "fixed").exists()


def test_damage_that_an_image_can_be_read_in_spite_of(folder, capfd):
    """Is told, and not by libjpeg on the terminal."""
    small_set(folder / "set", [[1, 1, 30, 20]], images=2)
    damaged = folder / "set" / "1.png"  # by its content a JPEG
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(noise).save(damaged, "JPEG")
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-2] + bytes(20) + content[-2:])  # before the mark of its end
    assert cli.main(["doctor", "set"]) == 0
    printed, warned = capfd.readouterr()
    assert "something odd in the file, though their pixels are whole: 1, 1.png" in printed
    assert "Corrupt JPEG" not in warned


def test_a_split_that_cannot_be_read(folder, capsys):
    small_set(folder / "two", [[1, 1, 30, 20]])
    (folder / "two" / "b.json").write_text("{}")
    assert cli.main(["doctor", "two"]) == 1
    assert "split that cannot be read" in capsys.readouterr().out
    assert list(report(folder / "doctor" / "two")["splits"]) == ["a"]
    (folder / "two" / "a.json").write_text("[]")
    assert cli.main(["doctor", "two"]) == 2
    assert "none of the splits ['a', 'b'] of two can be read" in capsys.readouterr().err


@pytest.mark.parametrize("to", ["coco", "voc", "yolo", "keras_yolo3", "array_record"])
def test_every_format(folder, capsys, to):
    words = ["convert", str(TREES), "--split", "validation", "--to", to, "--out", "set"]
    assert cli.main(words) == 0
    capsys.readouterr()
    assert cli.main(["doctor", "set", "--fix", "fixed"]) == 0
    printed = capsys.readouterr().out
    assert "set: 12 images, 45 boxes, 1 class\nnothing is wrong" in printed
    assert len(read_dataset(folder / "fixed", strict=True)[0].annotations) == 12


def test_split_names(folder):
    assert split_names(str(TREES)) == ["held_out", "train", "validation"]
    assert split_names(str(TREES / "train.json")) == []
    assert split_names("tfds:voc/2007") == []
    file = folder / "data.yaml"
    for text, names in (
        ("train: a\nval: b\ntest:\n", ["train", "val"]),
        ("train: a\nval: a\n", []),
        ("{", []),
        ("[1]", []),
    ):
        file.write_text(text)
        assert split_names(str(file)) == split_names(str(folder)) == names
    file.unlink()
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for name in ("train", "val", "trainval", "car_train"):
        (lists / f"{name}.txt").touch()
    assert split_names(str(folder)) == ["train", "val"]


CONFIG = """
from yolo_jax.config import DataConfig, ExperimentConfig, NetworkConfig
from yolo_jax.data.augment import Augment

def get_config():
    data = DataConfig(train="a", validation="b", held_out="c", canvas_size=96, max_boxes=30)
    network = NetworkConfig(kind="yolov3", input_size=64)
    return ExperimentConfig("x", data, network, augment=Augment(mosaic=0.5))
"""


def test_show_augment(broken, folder, capsys):
    (folder / "config.py").write_text(CONFIG)
    words = ["--show-augment", "2", "--config", "config.py"]
    assert cli.main(["doctor", "broken", *words]) == 1
    assert "augment_2.jpg" in capsys.readouterr().out
    out = folder / "doctor" / "broken"
    with Image.open(out / "augment_1.jpg") as first, Image.open(out / "augment_2.jpg") as second:
        assert first.size == (4 * 70 + 6, 4 * 70 + 6)
        assert np.asarray(first).std() > 20
        assert (np.asarray(first) != np.asarray(second)).any()
    found = report(out)
    assert (found["network"], found["input_size"], found["max_boxes"]) == ("yolov3", 64, 30)


def test_show_augment_without_config(folder):
    small_set(folder / "few", [[1, 1, 30, 20]], images=3)
    assert cli.main(["doctor", "few", "--show-augment", "1", "--input-size", "64"]) == 0
    with Image.open(folder / "doctor" / "few" / "augment_1.jpg") as sheet:
        assert sheet.size[0] == 4 * 70 + 6
