import logging

import numpy as np
import pytest
from PIL import Image

from yolo_jax.data.readers.voc import VOC_CLASSES, read_voc

OBJECT = """<object><name>{name}</name><pose>Left</pose><truncated>1</truncated>
  <difficult>{difficult}</difficult>
  <bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox>
  <part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox>
  </part></object>"""


def thing(name="dog", box=(11, 6, 20, 30), difficult=0):
    return OBJECT.format(name=name, box=box, difficult=difficult)


def xml(*objects, filename="a.jpg", size="<width>40</width><height>30</height>"):
    return (
        f"<annotation><filename>{filename}</filename><source><database>VOC</database></source>"
        f"<size>{size}<depth>3</depth></size>{''.join(objects)}</annotation>"
    )


@pytest.fixture
def folder(tmp_path):
    """VOC2007 with the images a (a dog), b (nothing) in train, and c in val."""
    root = tmp_path / "VOCdevkit" / "VOC2007"
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / name).mkdir(parents=True)
    for name in "abc":
        Image.new("RGB", (40, 30)).save(root / "JPEGImages" / f"{name}.jpg")
        content = xml(*([thing()] if name == "a" else []), filename=f"{name}.jpg")
        (root / "Annotations" / f"{name}.xml").write_text(content)
    (root / "ImageSets/Main/train.txt").write_text("a\nb\n")
    (root / "ImageSets/Main/val.txt").write_text("c\r\n")
    (root / "ImageSets/Main/dog_train.txt").write_text("a 1\nb -1\n")
    return root


def write(folder, *objects, **fields):
    (folder / "Annotations" / "a.xml").write_text(xml(*objects, **fields))


def test_a_split(folder):
    dataset, problems = read_voc(folder, "train", strict=True)
    assert problems == ()
    assert dataset.class_names == VOC_CLASSES
    assert len(VOC_CLASSES) == 20
    first, second = dataset.annotations
    assert (first.image_id, first.width, first.height, first.source) == (0, 40, 30, "VOC")
    assert first.path == folder / "JPEGImages" / "a.jpg"
    # Pixels 11 to 20 and 6 to 30, both ends inside, which count from 1.
    np.testing.assert_array_equal(first.boxes, [[10, 5, 20, 30]])
    assert [VOC_CLASSES[i] for i in first.classes] == ["dog"]
    assert (second.image_id, len(second.boxes)) == (1, 0)
    assert [a.path.name for a in read_voc(folder, "val")[0].annotations] == ["c.jpg"]


def test_difficult_objects_are_crowds(folder):
    write(folder, thing(), thing("cat", (1, 1, 40, 30), difficult=1))
    first = read_voc(folder, "train", strict=True)[0].annotations[0]
    np.testing.assert_array_equal(first.boxes, [[10, 5, 20, 30], [0, 0, 40, 30]])
    np.testing.assert_array_equal(first.crowd, [False, True])


def test_one_pixel_is_a_box(folder):
    write(folder, thing(box=(7, 7, 7, 7)), thing(box=(7.5, 7, 9.25, 8)))
    first = read_voc(folder, "train", strict=True)[0].annotations[0]
    np.testing.assert_array_equal(first.boxes, [[6, 6, 7, 7], [6.5, 6, 9.25, 8]])


def test_other_names_are_sorted_unless_a_file_has_them(folder, tmp_path):
    write(folder, thing("dog"), thing("ant", (1, 1, 5, 5)))
    assert read_voc(folder, "train")[0].class_names == ("ant", "dog")
    (tmp_path / "names").write_text("dog\nbee\nant\n\n")
    dataset, _ = read_voc(folder, "train", class_names_file=tmp_path / "names", strict=True)
    assert dataset.class_names == ("dog", "bee", "ant")
    np.testing.assert_array_equal(dataset.annotations[0].classes, [0, 2])
    (folder / "classes.txt").write_text("ant\n")
    dataset, problems = read_voc(folder, "train")
    assert dataset.class_names == ("ant",)
    assert [p.reason for p in problems] == ["its class 'dog' is not among ['ant']; skipped"]


def test_which_split(folder):
    with pytest.raises(ValueError, match=r"Main has the splits \['train', 'val'\]; say which"):
        read_voc(folder)
    with pytest.raises(FileNotFoundError, match=r"no split .*gone\.txt; there are \['train', 'val"):
        read_voc(folder, "gone")
    (folder / "ImageSets/Main/val.txt").unlink()
    assert len(read_voc(folder)[0].annotations) == 2


def test_the_devkit_is_not_a_data_set(folder):
    with pytest.raises(ValueError, match=r"is a folder of VOC data sets.*\['VOC2007'\]"):
        read_voc(folder.parent, "train")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        read_voc(folder / "gone", "train")


@pytest.mark.parametrize("beside", [True, False])
def test_a_plain_folder(tmp_path, beside):
    annotations = tmp_path if beside else tmp_path / "Annotations"
    annotations.mkdir(exist_ok=True)
    for name in ("one", "two", "bare"):
        Image.new("RGB", (40, 30)).save(tmp_path / f"{name}.png")
    (annotations / "one.xml").write_text(xml(thing(), filename="old name.png"))
    (annotations / "two.xml").write_text(xml(filename="two.png", size=""))
    dataset, problems = read_voc(tmp_path)
    assert [(a.path.name, a.width, a.height) for a in dataset.annotations] == [
        ("one.png", 40, 30),
        ("two.png", 40, 30),
    ]
    assert [str(p) for p in problems] == [
        f"{tmp_path / 'bare.png'}: the image: there is no XML file of it; skipped"
    ]
    with pytest.raises(ValueError, match="there is no XML file of it"):
        read_voc(tmp_path, strict=True)
    with pytest.raises(FileNotFoundError, match="no split 'train': .* has no ImageSets/Main"):
        read_voc(tmp_path, "train")


BAD_BOXES = {
    "outside": (thing(box=(50, 5, 60, 9)), "ymax='9' lies outside the image of 40×30 px; skipped"),
    "no width": (thing(box=(9, 5, 8, 9)), "has no width or no height"),
    "swapped": (thing(box=(20, 30, 11, 6)), "has no width or no height"),
    "word": (thing(box=("x", 5, 8, 9)), "xmin='x', ymin='5', xmax='8', ymax='9' is not of four"),
    "nan": (thing(box=("nan", 5, 8, 9)), "is not of four finite numbers"),
    "no box": ("<object><name>dog</name></object>", "is not of four numbers"),
    "no name": ("<object></object>", "its class '' is not among"),
    "difficult": (thing(difficult="very"), "its difficult is 'very', not 0 or 1"),
}


@pytest.mark.parametrize("case", BAD_BOXES)
def test_bad_box_is_skipped_and_reported(folder, case, caplog):
    objects, reason = BAD_BOXES[case]
    write(folder, thing(box=(1, 1, 9, 9)), objects)
    with caplog.at_level(logging.WARNING):
        dataset, problems = read_voc(folder, "train")
    np.testing.assert_array_equal(dataset.annotations[0].boxes, [[0, 0, 9, 9]])
    assert len(problems) == 1
    assert problems[0].file == folder / "Annotations" / "a.xml"
    assert problems[0].record.startswith("object 2 (")
    assert reason in problems[0].reason
    assert str(problems[0]) in caplog.text
    with pytest.raises(ValueError, match="1 bad records"):
        read_voc(folder, "train", strict=True)


def test_clipped_and_doubled_boxes(folder):
    write(folder, thing(box=(0, 5, 9, 9)), thing(), thing())
    dataset, problems = read_voc(folder, "train")
    np.testing.assert_array_equal(dataset.annotations[0].boxes, [[0, 4, 9, 9], [10, 5, 20, 30]])
    assert "sticks out of the image of 40×30 px; clipped" in problems[0].reason
    assert "object 3 (dog) doubles object 2 (dog): the same class and box" in problems[1].reason


BAD_IMAGES = {
    "climbs out": (xml(filename="../../../x.jpg"), "image '../../../x.jpg': its file lies outside"),
    "absolute": (xml(filename="/etc/hostname"), "image '/etc/hostname': its file lies outside"),
    "taken": (xml(filename="b.jpg"), ""),
    "not xml": ("<annotation><filename>a.jpg", "it is not XML"),
    "empty": ("", "it is not XML"),
    "latin": (xml(thing("café")).encode("latin-1"), "not in the encoding that it names (UTF-8)"),
    "unknown": ('<?xml version="1.0" encoding="klingon"?><a/>', "not in the encoding"),
}


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_bad_image_is_skipped_and_reported(folder, case):
    content, reason = BAD_IMAGES[case]
    file = folder / "Annotations" / "a.xml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    dataset, problems = read_voc(folder, "train")
    assert len(dataset.annotations) == 1
    assert len(problems) == 1
    assert problems[0].record == "the file"
    if case == "taken":  # the one that comes second
        assert problems[0].file == folder / "Annotations" / "b.xml"
        assert "its image b.jpg is that of a.xml" in problems[0].reason
    else:
        assert problems[0].file == file
        assert reason in problems[0].reason
    with pytest.raises(ValueError, match="1 bad records"):
        read_voc(folder, "train", strict=True)


def test_what_a_list_names_and_is_not_there(folder, tmp_path):
    (tmp_path / "out.xml").write_text(xml())
    (folder / "JPEGImages" / "b.jpg").unlink()
    names = "a\ngone\n../../../out\n/etc/x\nb\n"
    (folder / "ImageSets/Main/train.txt").write_text(names)
    dataset, problems = read_voc(folder, "train")
    assert [a.path.name for a in dataset.annotations] == ["a.jpg"]
    lists = folder / "ImageSets/Main/train.txt"
    assert [str(p) for p in problems] == [
        f"{lists}: line 2 (gone): there is no such XML file in {folder}/Annotations; skipped",
        f"{lists}: line 3 (../../../out): its file lies outside {folder / 'Annotations'}; skipped",
        f"{lists}: line 4 (/etc/x): its file lies outside {folder / 'Annotations'}; skipped",
        f"{folder}/Annotations/b.xml: the file: image 'b.jpg': there is no such image file in "
        f"{folder}/JPEGImages; skipped",
    ]


def test_a_list_of_another_encoding_and_an_empty_one(folder):
    lists = folder / "ImageSets/Main/train.txt"
    lists.write_bytes("a\ncafé\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"train\.txt is not text in UTF-8: .* in line 2; save it"):
        read_voc(folder, "train")
    lists.write_bytes(b"\xef\xbb\xbfa\n")
    assert len(read_voc(folder, "train", strict=True)[0].annotations) == 1
    lists.write_text("\n")
    with pytest.raises(ValueError, match="has no usable image, of 0 that it lists"):
        read_voc(folder, "train")


def test_an_image_without_a_stated_size_that_is_no_image(folder):
    write(folder, size="<width>0</width><height>0</height>")
    (folder / "JPEGImages" / "a.jpg").write_bytes(b"nothing")
    _, problems = read_voc(folder, "train")
    assert "it is not an image of a known format" in problems[0].reason
