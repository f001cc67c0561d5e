"""TFDS's own COCO builder, which prepares tree crowns from archives such as COCO's."""

import json
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.object_detection import coco

from yolo_jax.data.images import load_image, read_image
from yolo_jax.data.pipeline import Loader
from yolo_jax.data.readers import read_dataset
from yolo_jax.data.readers import tfds as reader
from yolo_jax.data.readers.coco import read_coco
from yolo_jax.networks.pretrained import COCO_CLASSES

TREES = Path(__file__).parents[2] / "experiments" / "data" / "tree_crowns"
SPLITS = {"train2017": "train", "val2017": "validation", "test2017": "held_out"}
PLANT = COCO_CLASSES.index("pottedplant")


def write_archives(folder):
    """Writes zips of images and of annotations, whose categories' ids have gaps as COCO's do."""
    categories = [{"id": 1 + 2 * i, "name": name} for i, name in enumerate(COCO_CLASSES)]
    for split, name in SPLITS.items():
        content = json.loads((TREES / f"{name}.json").read_text())
        with zipfile.ZipFile(folder / f"{split}.zip", "w") as archive:
            for image in content["images"]:
                file = TREES / image["file_name"]
                image["file_name"] = file.name
                archive.write(file, f"{split}/{file.name}")
        for number, annotation in enumerate(content["annotations"]):
            annotation |= {"id": number, "category_id": 1 + 2 * PLANT, "area": 9}
            annotation["iscrowd"] = int(number % 3 == 1)
        content["categories"] = categories
        kind = "image_info" if split == "test2017" else "instances"
        archive = "image_info_test2017" if split == "test2017" else "annotations_trainval2017"
        with zipfile.ZipFile(folder / f"{archive}.zip", "a") as zipped:
            zipped.writestr(f"annotations/{kind}_{split}.json", json.dumps(content))


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    archives = tmp_path_factory.mktemp("archives")
    write_archives(archives)

    def download_and_extract(manager, urls):
        for url in set(urls.values()):
            shutil.unpack_archive(archives / Path(url).name, archives / Path(url).stem)
        return {part: str(archives / Path(url).stem) for part, url in urls.items()}

    folder = tmp_path_factory.mktemp("tensorflow_datasets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tfds.download.DownloadManager, "download_and_extract", download_and_extract)
        # The one thing of TensorFlow that this builder uses.
        patch.setattr(coco, "tf", SimpleNamespace(int64=np.int64))
        builder = tfds.builder("coco/2017", data_dir=folder, file_format="array_record")
        builder.download_and_prepare()
    return folder


def test_coco_is_read_with_the_boxes_and_bytes_that_went_in(data_dir, monkeypatch):
    monkeypatch.setattr(reader, "DATA_DIR", str(data_dir))
    originals = {one.image_id: one for one in read_coco(TREES / "train.json")[0].annotations}
    dataset, problems = read_dataset("tfds:coco/2017", split="train", strict=True)
    assert problems == ()
    assert dataset.class_names == COCO_CLASSES
    assert sorted(one.image_id for one in dataset.annotations) == sorted(originals)
    crowds = 0
    for annotation in dataset.annotations:
        original = originals[annotation.image_id]
        assert (annotation.width, annotation.height) == (original.width, original.height)
        assert annotation.path.name.endswith(f"({original.path.name})")
        np.testing.assert_allclose(annotation.boxes, original.boxes, atol=1e-3)
        assert set(annotation.classes) <= {PLANT}
        crowds += int(annotation.crowd.sum())
        assert dataset.read is not None
        assert dataset.read(annotation) == original.path.read_bytes()
    boxes = sum(len(one.boxes) for one in originals.values())
    assert crowds == len(range(1, boxes, 3))
    first = dataset.annotations[0]
    expected = read_image(originals[first.image_id].path)
    np.testing.assert_array_equal(load_image(dataset, first), expected)


def test_batches_come_of_it_and_a_split_without_annotations_has_no_box(data_dir):
    dataset = reader.read_tfds("coco/2017", "validation", data_dir=data_dir, strict=True)[0]
    batches = list(Loader(dataset, batch_size=12, image_shape=(64, 64), strict=True).one_pass())
    assert sorted(batches[0].image_id) == sorted(one.image_id for one in dataset.annotations)
    assert (batches[0].classes == PLANT).any()
    dataset = reader.read_tfds("coco/2017", "test", data_dir=data_dir, strict=True)[0]
    assert len(dataset.annotations) == 34
    assert not sum(len(one.boxes) for one in dataset.annotations)
