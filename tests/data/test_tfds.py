"""TFDS's own VOC builder, which prepares tree crowns from archives such as VOC's."""

import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.object_detection import voc

from yolo_jax.data.images import ImageError, load_image, read_image
from yolo_jax.data.pipeline import Loader
from yolo_jax.data.readers.array_record import read_array_record
from yolo_jax.data.readers.coco import read_coco
from yolo_jax.data.readers.tfds import read_tfds
from yolo_jax.data.writers.array_record import write_array_record
from yolo_jax.data.writers.yolo import write_yolo

TREES = Path(__file__).parents[2] / "experiments" / "data" / "tree_crowns"
ARCHIVES = {
    "VOCtrainval_06-Nov-2007.tar": {"train": "train", "val": "validation"},
    "VOCtest_06-Nov-2007.tar": {"test": "held_out"},
}
TREE = voc._VOC_LABELS.index("pottedplant")


def write_devkit(folder, part, annotations):
    year = folder / "VOCdevkit" / "VOC2007"
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (year / name).mkdir(parents=True, exist_ok=True)
    for annotation in annotations:
        shutil.copy(annotation.path, year / "JPEGImages")
        objects = "".join(
            "<object><name>pottedplant</name><pose>Unspecified</pose><truncated>0</truncated>"
            f"<difficult>{number % 3 == 1:d}</difficult><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin>"
            f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
            for number, (x1, y1, x2, y2) in enumerate(annotation.boxes.tolist())
        )
        size = f"<width>{annotation.width}</width><height>{annotation.height}</height>"
        text = f"<annotation><size>{size}<depth>3</depth></size>{objects}</annotation>"
        (year / "Annotations" / f"{annotation.path.stem}.xml").write_text(text)
    names = "".join(f"{annotation.path.stem}\n" for annotation in annotations)
    (year / "ImageSets" / "Main" / f"{part}.txt").write_text(names)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    archives = tmp_path_factory.mktemp("archives")
    for archive, parts in ARCHIVES.items():
        for part, name in parts.items():
            dataset = read_coco(TREES / f"{name}.json", strict=True)[0]
            write_devkit(archives / archive.removesuffix(".tar"), part, dataset.annotations)

    def download_and_extract(manager, urls):
        paths = {}
        for part, url in urls.items():
            paths[part] = archives / f"extracted_{part}"
            shutil.copytree(archives / Path(url).name.removesuffix(".tar"), paths[part])
        return paths

    folder = tmp_path_factory.mktemp("tensorflow_datasets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tfds.download.DownloadManager, "download_and_extract", download_and_extract)
        # The one thing of TensorFlow that this builder uses: to open a file.
        files = SimpleNamespace(io=SimpleNamespace(gfile=SimpleNamespace(GFile=open)))
        patch.setattr(voc, "tf", files)
        builder = tfds.builder("voc/2007", data_dir=folder, file_format="array_record")
        builder.download_and_prepare()
    return folder


@pytest.fixture
def copy(data_dir, tmp_path):
    return Path(shutil.copytree(data_dir, tmp_path / "copy"))


def prepared(copy):
    return copy / "voc" / "2007" / "5.0.0"


def file_of(annotation):
    return TREES / "images" / annotation.path.name.partition("(")[2].removesuffix(")")


def test_voc_is_read_with_the_boxes_and_bytes_that_went_in(data_dir):
    originals = read_coco(TREES / "train.json")[0].annotations
    by_file = {annotation.path: annotation for annotation in originals}
    dataset, problems = read_tfds("voc/2007", "train", data_dir=data_dir, strict=True)
    assert problems == ()
    assert dataset.class_names == voc._VOC_LABELS
    assert len(dataset.annotations) == len(by_file) == 40
    assert [annotation.image_id for annotation in dataset.annotations] == list(range(40))
    for annotation in dataset.annotations:
        original = by_file.pop(file_of(annotation))
        assert (annotation.width, annotation.height) == (original.width, original.height)
        assert annotation.boxes.dtype == np.float32
        np.testing.assert_allclose(annotation.boxes, original.boxes, atol=1e-3)
        assert annotation.classes.tolist() == [TREE] * len(original.boxes)
        assert annotation.crowd.tolist() == [i % 3 == 1 for i in range(len(original.boxes))]
        assert dataset.read(annotation) == original.path.read_bytes()
    first = dataset.annotations[0]
    place = prepared(data_dir) / f"train#0 ({file_of(first).name})"
    assert first.path == place
    np.testing.assert_array_equal(load_image(dataset, first), read_image(file_of(first)))


def test_a_version_parts_of_splits_and_sums(data_dir):
    def names(split):
        annotations = read_tfds("voc/2007:5.0.0", split, data_dir=data_dir)[0].annotations
        return [file_of(annotation).name for annotation in annotations]

    train = names("train")
    assert names("train[:25%]") == train[:10]
    assert names("train[30:]+validation") == train[30:] + names("validation")


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_come_of_it(data_dir, workers):
    dataset = read_tfds("voc/2007", "test", data_dir=data_dir)[0]
    assert len(pickle.dumps(dataset)) < 50_000
    options = {"batch_size": 17, "image_shape": (64, 64), "strict": True, "workers": workers}
    batches = list(Loader(dataset, **options).one_pass())
    assert [batch.image_id.tolist() for batch in batches] == [[*range(17)], [*range(17, 34)]]


def test_it_can_be_packed(data_dir, tmp_path):
    dataset = read_tfds("voc/2007", "validation", data_dir=data_dir)[0]
    write_array_record(dataset, tmp_path / "packed")
    packed = read_array_record(tmp_path / "packed")[0]
    for annotation, original in zip(packed.annotations, dataset.annotations, strict=True):
        assert packed.read(annotation) == dataset.read(original)
        np.testing.assert_array_equal(annotation.boxes, original.boxes)


def test_its_images_keep_their_names_in_folders(data_dir, tmp_path):
    dataset = read_tfds("voc/2007", "validation[:5]", data_dir=data_dir)[0]
    write_yolo(dataset, tmp_path / "yolo")
    names = sorted(path.name for path in (tmp_path / "yolo" / "images").iterdir())
    assert names == sorted(file_of(annotation).name for annotation in dataset.annotations)


def test_reading_imports_no_tensorflow(data_dir):
    code = (
        "import sys; from yolo_jax.data.readers.tfds import read_tfds; "
        f"d = read_tfds('voc/2007', 'validation', data_dir={str(data_dir)!r})[0]; "
        "d.read(d.annotations[0]); assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Names, splits and files that cannot be read


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("vok/2007", ValueError, r"TFDS has no data set 'vok', nor has .*; did you mean voc\?"),
        ("zzzzzzzz", ValueError, "TFDS has no data set 'zzzzzzzz', nor has "),
        ("voc/2012", FileNotFoundError, r"voc/2012 is not prepared in .*\['voc/2007/5\.0\.0'\]"),
        ("voc/2007:1.0.0", FileNotFoundError, "voc/2007:1.0.0 is not prepared"),
        (
            "coco/2017",  # whose builder cannot even be made without TensorFlow
            FileNotFoundError,
            "`tfds build coco/2017 --file_format=array_record --data_dir=.*` on a machine with",
        ),
        ("", ValueError, "'' cannot be opened as a data set of TFDS: Parsing builder name"),
        ("../voc", ValueError, r"'\.\./voc' cannot be opened as a data set of TFDS: Parsing"),
    ],
)
def test_a_data_set_that_is_not_there(data_dir, name, error, message):
    with pytest.raises(error, match=message):
        read_tfds(name, "train", data_dir=data_dir)


def test_a_data_dir_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="none: prepare it by `tfds build voc/2007 "):
        read_tfds("voc/2007", "train", data_dir=tmp_path / "none")


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (None, r"has the splits \['test', 'train', 'validation'\]; name one"),
        ("trian", r"has no split 'trian' with images .*; its splits are \['test', 'train'"),
        ("", "has no split '' with images"),
        ("train[:0]", r"has no split 'train\[:0\]' with images"),
        ("train[5:2]", r"has no split 'train\[5:2\]' with images"),
        ("train[:41]", r"Requested slice \[:41\] incompatible with 40 examples"),
    ],
)
def test_a_split_that_is_not_there(data_dir, split, message):
    with pytest.raises(ValueError, match=message):
        read_tfds("voc/2007", split, data_dir=data_dir)


def test_files_of_another_format(copy):
    info = prepared(copy) / "dataset_info.json"
    info.write_text(info.read_text().replace('"array_record"', '"tfrecord"'))
    message = rf"has files of \['tfrecord'\].*; delete it and prepare .* --data_dir={copy}`"
    with pytest.raises(ValueError, match=message):
        read_tfds("voc/2007", "train", data_dir=copy)


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
def test_damaged_records_of_the_builder(copy, name):
    (prepared(copy) / name).write_text("{")
    with pytest.raises(ValueError, match="'voc/2007' cannot be opened as a data set of TFDS"):
        read_tfds("voc/2007", "train", data_dir=copy)


def test_shards_that_are_missing_or_cut_short(copy):
    (shard,) = prepared(copy).glob("voc-train.array_record*")
    shard.write_bytes(shard.read_bytes()[:-10_000])
    with pytest.raises(ImageError, match=rf"{shard} is damaged: it has no index of its records"):
        read_tfds("voc/2007", "train", data_dir=copy)
    shard.unlink()
    with pytest.raises(FileNotFoundError, match=rf"{shard} is missing"):
        read_tfds("voc/2007", "train", data_dir=copy)
    read_tfds("voc/2007", "test", data_dir=copy)


def test_a_damaged_record_is_skipped_and_reported(copy, caplog):
    (shard,) = prepared(copy).glob("voc-train.array_record*")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 255
    shard.write_bytes(content)
    dataset, (problem,) = read_tfds("voc/2007", "train", data_dir=copy)
    assert len(dataset.annotations) == 39
    assert "Corrupted" in problem.reason and "hash mismatch" in problem.reason
    number = int(problem.record.removeprefix("record "))
    assert number not in [annotation.image_id for annotation in dataset.annotations]
    assert str(problem) in caplog.text
    for annotation in dataset.annotations:  # those after it are still found
        assert dataset.read(annotation) == file_of(annotation).read_bytes()
    with pytest.raises(ValueError, match="1 bad records"):
        read_tfds("voc/2007", "train", data_dir=copy, strict=True)


def test_a_shard_that_is_damaged_later(copy):
    dataset = read_tfds("voc/2007", "validation", data_dir=copy)[0]
    (shard,) = prepared(copy).glob("voc-validation.array_record*")
    received = pickle.loads(pickle.dumps(dataset))
    shard.unlink()
    with pytest.raises(ImageError, match=r"validation#3 \(.*jpg\) cannot be read: .*No such file"):
        received.read(received.annotations[3])
