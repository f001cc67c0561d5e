"""What readers must not lose without a word, and which of it is an image of the data set."""

import json
import shutil
import time

import numpy as np
import pytest
from PIL import Image

from yolo_jax.data.doctor import Kind
from yolo_jax.data.readers import read_dataset
from yolo_jax.data.readers.coco import read_coco
from yolo_jax.data.readers.keras_yolo3 import read_keras_yolo3
from yolo_jax.data.readers.records import read_class_names
from yolo_jax.data.readers.voc import VOC_CLASSES, read_voc
from yolo_jax.data.readers.yolo import read_yolo
from yolo_jax.data.writers.array_record import write_array_record


def save(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30)).save(path, "PNG")


def lost(problems):
    return [problem.record for problem in problems if problem.loses_image]


@pytest.fixture
def yolo(tmp_path):
    root = tmp_path / "set"
    save(*(root / "images" / f"{name}.png" for name in "abc"))
    (root / "labels").mkdir()
    for name in "abc":
        (root / "labels" / f"{name}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (root / "data.yaml").write_text("train: images\nnames: [dog]\n")
    return root


@pytest.fixture
def coco(tmp_path):
    """Writes a COCO file of three images."""
    save(*(tmp_path / f"{number}.png" for number in range(3)))

    def write(change=lambda content: None):
        content = {
            "images": [
                {"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in range(3)
            ],
            "annotations": [{"id": 1, "image_id": 0, "category_id": 1, "bbox": [1, 1, 9, 9]}],
            "categories": [{"id": 1, "name": "dog"}],
        }
        change(content)
        path = tmp_path / "set.json"
        path.write_text(json.dumps(content))
        return path

    return write


def xml(*names, name="a", root="annotation"):
    objects = "".join(
        f"<object><name>{n}</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>9</xmax>"
        "<ymax>9</ymax></bndbox></object>"
        for n in names
    )
    return f"<{root}><filename>{name}.png</filename>{objects}</{root.split()[0]}>"


@pytest.fixture
def voc(tmp_path):
    """The images a in train (a dog and a hut) and b in val (a dog)."""
    root = tmp_path / "voc"
    save(*(root / "JPEGImages" / f"{name}.png" for name in "ab"))
    for place in ("Annotations", "ImageSets/Main"):
        (root / place).mkdir(parents=True)
    (root / "Annotations/a.xml").write_text(xml("dog", "hut"))
    (root / "Annotations/b.xml").write_text(xml("dog", name="b"))
    (root / "ImageSets/Main/train.txt").write_text("a\n")
    (root / "ImageSets/Main/val.txt").write_text("b\n")
    return root


def test_images_that_yolo_loses(yolo):
    (yolo / "images/a.png").write_bytes(b"")
    (yolo / "labels/b.txt").write_bytes(b"\xff\xfe")
    (yolo / "labels/c.txt").write_text("0 0.5 0.5 0 0.5\n")  # a box alone
    _, problems = read_yolo(yolo)
    assert len(problems) == 3
    assert lost(problems) == ["the image", "the file"]
    (yolo / "list.txt").write_text("images/c.png\nimages/gone.png\nimages/c.png\n")
    (yolo / "data.yaml").write_text("train: list.txt\nnames: [dog]\n")
    assert lost(read_yolo(yolo)[1]) == ["line 2 (images/gone.png)"]


def test_images_that_coco_loses(coco, tmp_path):
    (tmp_path / "1.png").unlink()

    def change(content):
        images = content["images"]
        content["images"] += [images[0], {**images[2], "id": 0}]
        content["annotations"][0]["bbox"] = [1, 1, 0, 9]

    _, problems = read_coco(coco(change))
    assert lost(problems) == ["image 1 (1.png)", "image 0 (2.png)"]
    assert len(problems) == 4  # of the same record twice one is left


def test_images_that_voc_and_keras_yolo3_lose(voc, tmp_path):
    (voc / "ImageSets/Main/train.txt").write_text("a\nb\ngone\n")
    (voc / "Annotations/b.xml").write_text("<annotation>")
    assert lost(read_voc(voc, "train")[1]) == ["the file", "line 3 (gone)"]
    lines = "a.png 1,1,9,9,0\nb.png\nc.png\nnone.png\na.png\n"
    save(tmp_path / "a.png", tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"")
    (tmp_path / "annotations.txt").write_text(lines)
    (tmp_path / "classes.txt").write_text("dog\n")
    _, problems = read_keras_yolo3(tmp_path / "annotations.txt")
    assert lost(problems) == ["line 4", f"line 3 ({tmp_path / 'c.png'})"]
    assert len(problems) == 3


def test_the_splits_of_a_voc_folder_have_the_same_classes(voc):
    for split in ("train", "val"):
        assert read_voc(voc, split, strict=True)[0].class_names == ("dog", "hut")
    (voc / "Annotations/a.xml").write_text(xml("dog", "cat"))
    for split in ("train", "val"):
        assert read_voc(voc, split, strict=True)[0].class_names == VOC_CLASSES


def test_objects_in_a_namespace_are_read_and_other_roots_refused(voc):
    file = voc / "Annotations/a.xml"
    file.write_text(xml("dog", "hut", root='annotation xmlns="http://a/b"'))
    dataset, problems = read_voc(voc, "train", strict=True)
    assert (len(dataset.annotations[0].boxes), problems) == (2, ())
    (voc / "ImageSets/Main/train.txt").write_text("a\nb\n")
    for content, said in (
        (xml("dog", root="html"), "its root is <html>, expected <annotation>"),
        (
            xml("dog")
            .replace("<object>", "<objects><object>")
            .replace("</object>", "</object></objects>"),
            "an <object> in it is not directly in <annotation>",
        ),
    ):
        file.write_text(content)
        dataset, problems = read_voc(voc, "train")
        assert len(dataset.annotations) == 1
        assert lost(problems) == ["the file"]
        assert said in problems[0].reason


def test_linked_folders_are_entered_and_loops_are_not(yolo, tmp_path):
    save(tmp_path / "elsewhere/images/more/d.png")
    (tmp_path / "elsewhere/images/more/up").symlink_to(tmp_path / "elsewhere/images")
    (yolo / "images/linked").symlink_to(tmp_path / "elsewhere/images")
    (yolo / "images/self").symlink_to(yolo / "images")
    dataset, _ = read_yolo(yolo)
    names = [str(a.path.relative_to(yolo / "images")) for a in dataset.annotations]
    assert names == ["a.png", "b.png", "c.png", "linked/more/d.png"]


def test_labels_without_an_image_and_in_capitals_are_findings(yolo):
    (yolo / "labels/b.txt").rename(yolo / "labels/b.TXT")
    (yolo / "images/c.png").unlink()
    for name, text in (("classes.txt", "dog\n"), ("empty.txt", ""), ("list.txt", "a.png\n")):
        (yolo / "labels" / name).write_text(text)
    _, problems = read_yolo(yolo)
    assert [problem.file.name for problem in problems] == ["b.TXT", "c.txt"]
    assert "has these labels, by its name in the same capitals" in problems[0].reason
    assert not lost(problems)
    with pytest.raises(ValueError, match="2 bad records"):
        read_yolo(yolo, strict=True)


def test_images_of_foreign_formats_are_findings(yolo, voc):
    for root, read in ((yolo / "images", read_yolo), (voc, read_voc)):
        save(root / "x.HEIC")
        if read is read_voc:
            for file in (*voc.glob("*/*.png"), *voc.glob("Annotations/*.xml")):
                shutil.move(file, voc)
            shutil.rmtree(voc / "ImageSets")
            shutil.rmtree(voc / "JPEGImages")
            shutil.rmtree(voc / "Annotations")
        _, (problem,) = read(yolo if read is read_yolo else voc)
        assert problem.file == root / "x.HEIC"
        assert problem.loses_image
        assert problem.kind is Kind.UNREADABLE


def test_a_key_that_stands_twice_in_a_yaml(yolo):
    (yolo / "data.yaml").write_text("train: images\nnames: [dog]\ntrain: other\n")
    with pytest.raises(ValueError, match=r"data\.yaml is not YAML: line 3 has the key 'train' aga"):
        read_yolo(yolo)


def test_absolute_and_windows_paths_of_coco(coco, tmp_path):
    def change(content):
        content["images"][0]["file_name"] = str(tmp_path / "0.png")
        content["images"][1]["file_name"] = f"{tmp_path}/../{tmp_path.name}/../x.png"
        content["images"][2]["file_name"] = "sub\\2.png"

    dataset, problems = read_coco(coco(change))
    assert [a.path for a in dataset.annotations] == [tmp_path / "0.png"]
    assert "its file lies outside" in problems[0].reason
    assert "write / between folders" in problems[1].reason


def test_a_category_without_a_name_and_a_box_far_outside(coco):
    with pytest.raises(ValueError, match=r"categories\[0\]: its name is None, not a text"):
        read_coco(coco(lambda content: content["categories"][0].update(name=None)))
    far = coco(lambda content: content["annotations"][0].update(bbox=[1e30, 1, 5, 5]))
    _, (problem,) = read_coco(far)
    assert problem.kind is Kind.OUTSIDE
    assert "lies outside the image of 40×30 px" in problem.reason


def test_suffixes_in_capitals_and_a_manifest(coco, yolo, tmp_path):
    path = coco()
    dataset = read_dataset(path)[0]
    write_array_record(dataset, tmp_path / "packed")
    packed, _ = read_dataset(tmp_path / "packed/manifest.json")
    assert len(packed.annotations) == 3
    assert packed.read is not None
    assert len(read_dataset(path.rename(tmp_path / "B.JSON"))[0].annotations) == 3
    (yolo / "data.yaml").rename(yolo / "SET.YAML")
    assert len(read_dataset(yolo / "SET.YAML")[0].annotations) == 3


def test_twenty_thousand_classes(coco, tmp_path):
    """Neither the time nor the messages grow with their square."""
    names = [f"class {number}" for number in range(20_000)]

    def change(content):
        content["categories"] = [{"id": i, "name": name} for i, name in enumerate(names, 1)]
        (box,) = content["annotations"]
        content["annotations"] += [{**box, "category_id": 0}] * 100

    (tmp_path / "names.txt").write_text("".join(f"{name}\n" for name in reversed(names)))
    path, start = coco(change), time.process_time()
    dataset, problems = read_dataset(path, class_names_file=tmp_path / "names.txt")
    assert time.process_time() - start < 3
    assert dataset.class_names == read_class_names(tmp_path / "names.txt")
    np.testing.assert_array_equal(dataset.annotations[0].classes, [19_999])
    assert {len(problem.reason) < 200 for problem in problems} == {True}
    assert "… and 19,990 more" in problems[0].reason
