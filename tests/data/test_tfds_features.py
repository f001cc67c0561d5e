"""TFDS builders of other features than VOC's, and of none that the reader takes."""

import io
import json

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from yolo_jax.data.doctor import Kind
from yolo_jax.data.readers.array_record import image_name
from yolo_jax.data.readers.tfds import read_tfds


def encoded(kind="PNG", mode="RGB", size=20, **options):
    content = io.BytesIO()
    Image.new(mode, (size, size // 2)).save(content, kind, **options)
    return content.getvalue()


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded("JPEG", exif=exif)


def box(ymin, xmin, ymax, xmax):
    return tfds.features.BBox(ymin, xmin, ymax, xmax)


def make(folder, name, features, examples):
    """Prepares a data set by a builder of these features."""

    def info(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    members = {
        "VERSION": tfds.core.Version("1.0.0"),
        "_info": info,
        "_split_generators": lambda self, manager: {"train": self._generate_examples()},
        "_generate_examples": lambda self: iter(enumerate(examples)),
        "__module__": __name__,
    }
    builder = type(name, (tfds.core.GeneratorBasedBuilder,), members, skip_registration=True)
    builder(data_dir=folder, file_format="array_record").download_and_prepare()


BOX = tfds.features.BBoxFeature
LABEL = tfds.features.ClassLabel(names=["cat", "dog"])
OBJECTS = {"bbox": BOX(), "label": LABEL, "is_crowd": np.bool_}
IMAGE = tfds.features.Image()


def test_coco_like_features(tmp_path, caplog):
    def example(number, image, *boxes):
        objects = [{"bbox": b, "label": label, "is_crowd": crowd} for b, label, crowd in boxes]
        mask = io.BytesIO(encoded(mode="L"))
        return {"image": io.BytesIO(image), "image/id": number, "objects": objects, "mask": mask}

    cat, dog = box(0.0, 0.25, 0.5, 1.0), box(0.1, 0.1, 0.2, 0.2)
    examples = [
        example(700, encoded(), (cat, "cat", False), (dog, "dog", True), (cat, "cat", False)),
        example(3, encoded()),
        example(4, encoded(), (box(0.1, 0.1, 0.1, 0.2), "cat", False), (dog, -1, False)),
        example(5, turned(), (cat, "cat", False)),
        example(6, encoded()[:10], (cat, "cat", False)),
        example(3, encoded()),
        example(2**31, encoded()),
    ]
    features = {
        "image": IMAGE,
        "mask": tfds.features.LabeledImage(labels=2, shape=(None, None, 1)),
        "image/id": np.int64,
        "objects": tfds.features.Sequence(OBJECTS),
    }
    make(tmp_path, "Things", features, examples)
    dataset, problems = read_tfds("things", data_dir=tmp_path)
    by_id = {annotation.image_id: annotation for annotation in dataset.annotations}
    assert sorted(by_id) == [3, 4, 700]
    assert dataset.class_names == ("cat", "dog")
    assert (by_id[700].width, by_id[700].height) == (20, 10)
    np.testing.assert_allclose(by_id[700].boxes, [[5, 0, 20, 5], [2, 1, 4, 2]], atol=1e-6)
    assert by_id[700].classes.tolist() == [0, 1]
    assert by_id[700].crowd.tolist() == [False, True]
    assert by_id[3].boxes.shape == (0, 4) and by_id[4].boxes.shape == (0, 4)
    reasons = "\n".join(sorted(problem.reason for problem in problems))
    assert len(problems) == 7
    for reason in (
        "box 2 doubles box 0: the same class and box; skipped",
        "its box 0 (ymin, xmin, ymax, xmax = [0.1, 0.1, 0.1, 0.2]) has no width or no height",
        "its box 1 (ymin, xmin, ymax, xmax = [0.1, 0.1, 0.2, 0.2]) is of class -1, which has no",
        "its image is to be turned (EXIF orientation 6)",
        "its image cannot be read",
        "its image/id is 3: not of 31 bits, or given twice; skipped",
        "its image/id is 2147483648: not of 31 bits, or given twice; skipped",
    ):
        assert reason in reasons
    with pytest.raises(ValueError, match="7 bad records"):
        read_tfds("things", "train", data_dir=tmp_path, strict=True)


def test_features_of_other_names(tmp_path):
    faces = {"where": BOX(), "kind": LABEL, "pose": tfds.features.ClassLabel(names=["up"])}
    with pytest.raises(ValueError, match=r"has \['kind', 'pose'\], which could each be a class"):
        make_and_read(tmp_path, "Poses", {"photo": IMAGE, "faces": faces}, kind="cat", pose="up")
    del faces["pose"]
    dataset, _ = make_and_read(tmp_path, "Faces", {"photo": IMAGE, "faces": faces}, kind="dog")
    (annotation,) = dataset.annotations
    np.testing.assert_allclose(annotation.boxes, [[2, 2, 8, 5]], atol=1e-6)
    assert annotation.classes.tolist() == [1]
    assert annotation.path.name == "train#0"
    assert image_name(dataset, annotation) == "train_000000"
    assert dataset.read(annotation) == encoded()


def make_and_read(folder, name, features, **labels):
    example = {"photo": io.BytesIO(encoded())}
    if "faces" in features:
        features = features | {"faces": tfds.features.Sequence(features["faces"])}
        example["faces"] = [{"where": box(0.2, 0.1, 0.5, 0.4), **labels}]
    if "other" in features:
        example["other"] = io.BytesIO(encoded())
    make(folder, name, features, [{key: example.get(key, 0) for key in features}])
    return read_tfds(name.lower(), "train", data_dir=folder)


@pytest.mark.parametrize(
    ("name", "features", "labels", "message"),
    [
        ("Noboxes", {"photo": IMAGE, "label": LABEL}, {}, "does not have a sequence with boxes"),
        ("Noimage", {"faces": {"where": BOX(), "kind": LABEL}}, {"kind": 0}, "not have an image"),
        ("Nolabel", {"photo": IMAGE, "faces": {"where": BOX()}}, {}, "does not have a class label"),
        (
            "Twoimages",
            {"photo": IMAGE, "other": IMAGE, "faces": {"where": BOX(), "kind": LABEL}},
            {"kind": 0},
            r"has \['other', 'photo'\], which could each be an image",
        ),
        (
            "Pixels",
            {"photo": IMAGE, "faces": {"where": BOX(bbox_format="XYXY"), "kind": LABEL}},
            {"kind": 0},
            "the boxes faces/where are written as XYXY; only fractions",
        ),
    ],
)
def test_features_that_are_not_of_detection(tmp_path, name, features, labels, message):
    with pytest.raises(ValueError, match=message):
        make_and_read(tmp_path, name, features, **labels)


def test_a_decompression_bomb_is_skipped_and_reported(tmp_path, monkeypatch):
    examples = [{"image": io.BytesIO(encoded(size=size)), "objects": []} for size in (20, 200)]
    objects = tfds.features.Sequence(OBJECTS)
    make(tmp_path, "Bomb", {"image": IMAGE, "objects": objects}, examples)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 900)
    dataset, (problem,) = read_tfds("bomb", data_dir=tmp_path)
    assert len(dataset.annotations) == 1
    assert "its image has too many pixels" in problem.reason
    assert problem.kind is Kind.UNREADABLE


def test_a_set_without_a_usable_image(tmp_path):
    objects = tfds.features.Sequence(OBJECTS)
    example = {"image": io.BytesIO(turned()), "objects": []}
    make(tmp_path, "Turned", {"image": IMAGE, "objects": objects}, [example])
    with pytest.raises(ValueError, match="has no usable image in split 'train', of 1"):
        read_tfds("turned", data_dir=tmp_path)
    assert json.loads((tmp_path / "turned/1.0.0/dataset_info.json").read_text())["fileFormat"]
