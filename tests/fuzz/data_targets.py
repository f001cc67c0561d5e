"""Data sets and networks of others."""

import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

from PIL import Image
from places import Target, check, picture, place, refusing

from yolo_jax.data.images import ImageError, decode_image, decode_to_fit
from yolo_jax.data.readers.array_record import ANNOTATIONS, MANIFEST, read_array_record
from yolo_jax.data.readers.coco import read_coco
from yolo_jax.data.readers.keras_yolo3 import read_keras_yolo3
from yolo_jax.data.readers.records import read_class_names
from yolo_jax.data.readers.voc import read_voc
from yolo_jax.data.readers.yolo import YAML_NAME, read_yolo, yolo_splits
from yolo_jax.data.writers.array_record import write_array_record
from yolo_jax.networks.cfg.architecture import read_cfg
from yolo_jax.networks.cfg.network import CfgNetwork, empty_cfg_network
from yolo_jax.networks.darknet import load_first_weights, load_weights, save_weights

CFG = b"""[net]
width=32
height=32
[convolutional]
batch_normalize=1
filters=4
size=3
stride=2
pad=1
activation=leaky
[maxpool]
size=2
stride=2
[route]
layers=-1
[convolutional]
filters=4
size=1
[shortcut]
from=-2
[upsample]
stride=2
[convolutional]
filters=14
size=1
activation=linear
[yolo]
mask=0,1
anchors=4,4, 8,8
classes=2
num=2
"""
VOC = b"""<?xml version="1.0" encoding="UTF-8"?>
<annotation><filename>a.png</filename><source><database>here</database></source>
<size><width>16</width><height>16</height><depth>3</depth></size>
<object><name>ash</name><difficult>0</difficult><pose>Left</pose>
<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>8.5</xmax><ymax>9</ymax></bndbox></object>
<object><name>oak</name><difficult>1</difficult>
<bndbox><xmin>3</xmin><ymin>3</ymin><xmax>16</xmax><ymax>16</ymax></bndbox></object>
</annotation>
"""
COCO = json.dumps(
    {
        "info": {"description": "trees"},
        "images": [
            {"id": 7, "file_name": "a.png", "width": 16, "height": 16, "source": "here"},
            {"id": 8, "file_name": "b.png", "width": 16, "height": 16},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 2, "bbox": [1, 2, 3.5, 4], "area": 14.0},
            {"id": 2, "image_id": 7, "category_id": 1, "bbox": [0, 0, 9, 9], "iscrowd": 1},
            {"id": 3, "image_id": 8, "category_id": 1, "bbox": [0, 0, 9, 9], "area": 80},
        ],
        "categories": [{"id": 1, "name": "ash"}, {"id": 2, "name": "oak"}],
    },
    indent=1,
).encode()
YAML = b"""path: .
train: list.txt
val: [images]
nc: 2
names:
  0: ash
  1: oak
"""


def cfg(data: bytes) -> None:
    path = place("darknet") / "net.cfg"
    path.write_bytes(data)
    with refusing(path.name):
        read_cfg(path)


@functools.cache
def network() -> CfgNetwork:
    """Returns a network of a few weights."""
    path = place("darknet") / "valid.cfg"
    path.write_bytes(CFG)
    return empty_cfg_network(path)


def weights(data: bytes) -> None:
    path = place("darknet") / "net.weights"
    path.write_bytes(data)
    for load in (load_weights, load_first_weights):
        with refusing(path.name):
            load(path, network())


def valid_weights() -> tuple[bytes, ...]:
    """Returns whole weights, those of the first layers alone, and those of an old version."""
    path = place("darknet") / "valid.weights"
    save_weights(path, network(), seen=7)
    whole = path.read_bytes()
    return whole, whole[: 20 + 4 * (4 * 4 + 4 * 27)], bytes(12) + whole[12:16] + whole[20:]


def voc(data: bytes) -> None:
    folder = place("voc")
    (folder / "a.xml").write_bytes(data)
    with refusing(folder.name):
        check(read_voc(folder)[0])


def voc_list(data: bytes) -> None:
    folder = place("voc_lists")
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True, exist_ok=True)
    (folder / "a.xml").write_bytes(VOC)
    (lists / "train.txt").write_bytes(data)
    with refusing(folder.name):
        check(read_voc(folder)[0])


def image(data: bytes) -> None:
    # Of usual images Pillow takes up to 179 million pixels, which are gigabytes.
    with mock.patch.object(Image, "MAX_IMAGE_PIXELS", 5_000_000):
        for decode in (decode_image, functools.partial(decode_to_fit, shape=(8, 8))):
            with refusing("a.png"):
                decode(data, "a.png")


def class_names(data: bytes) -> None:
    path = place("names") / "classes.txt"
    path.write_bytes(data)
    with refusing(path.name):
        names = read_class_names(path)
        assert names
        assert len(set(names)) == len(names)


def coco(data: bytes) -> None:
    folder = place("coco")
    path = folder / "trees.json"
    path.write_bytes(data)
    (folder / "b.png").write_bytes(picture("PNG"))
    with refusing(path.name):
        check(read_coco(path)[0])


@functools.cache
def yolo_folder() -> Path:
    """Returns a folder in YOLO's layout."""
    folder = place("yolo")
    for name in ("images", "labels"):
        (folder / name).mkdir()
    (folder / "a.png").rename(folder / "images" / "a.png")
    (folder / YAML_NAME).write_bytes(YAML)
    (folder / "list.txt").write_text("images/a.png\n")
    (folder / "labels" / "a.txt").write_bytes(LABELS)
    return folder


IMAGES = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
LABELS = b"0 0.5 0.5 0.25 0.25\n1 0.1 0.1 0.9 0.1 0.9 0.9 0.1 0.9\n"


def yolo_labels(data: bytes) -> None:
    folder = yolo_folder()
    (folder / "labels" / "a.txt").write_bytes(data)
    with refusing(folder.name):
        check(read_yolo(folder, "val")[0])
    (folder / "labels" / "a.txt").write_bytes(LABELS)


def yolo_list(data: bytes) -> None:
    folder = yolo_folder()
    (folder / "list.txt").write_bytes(data)
    with refusing(folder.name):
        check(read_yolo(folder, "train")[0])
    (folder / "list.txt").write_text("images/a.png\n")


def data_yaml(data: bytes) -> None:
    path = yolo_folder() / "fuzzed.yaml"
    path.write_bytes(data)
    with refusing(path.name):
        splits = yolo_splits(path)
        check(read_yolo(path, splits[0] if splits else None)[0])


def keras_yolo3(data: bytes) -> None:
    folder = place("keras")
    path = folder / "lines.txt"
    path.write_bytes(data)
    (folder / "classes.txt").write_text("ash\noak\n")
    with refusing(path.name):
        check(read_keras_yolo3(path)[0])


@functools.cache
def packed_folder() -> Path:
    """Returns a packed data set."""
    folder = place("packed")
    (folder / "trees.json").write_bytes(COCO)
    (folder / "b.png").write_bytes(picture("PNG"))
    write_array_record(read_coco(folder / "trees.json")[0], folder / "set", images_per_shard=1)
    return folder / "set"


def use_packed(folder: Path) -> None:
    """Reads a packed data set and all that is in it."""
    with refusing(folder.name):
        dataset, _ = read_array_record(folder, verify=True)
        check(dataset)
        for one in dataset.annotations:
            try:
                dataset.read(one)
            except ImageError as error:
                assert "copy it again" in str(error)


def manifest(data: bytes) -> None:
    folder = packed_folder()
    whole = (folder / MANIFEST).read_bytes()
    (folder / MANIFEST).write_bytes(data)
    try:
        use_packed(folder)
    finally:
        (folder / MANIFEST).write_bytes(whole)


def columns(data: bytes) -> None:
    """Reads annotations that the manifest says are the right ones."""
    folder = packed_folder()
    whole = [(folder / name).read_bytes() for name in (ANNOTATIONS, MANIFEST)]
    content = json.loads(whole[1])
    content["annotations"] |= {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / ANNOTATIONS).write_bytes(data)
    (folder / MANIFEST).write_text(json.dumps(content))
    try:
        use_packed(folder)
    finally:
        for name, held in zip((ANNOTATIONS, MANIFEST), whole, strict=True):
            (folder / name).write_bytes(held)


def seeds(*files: bytes) -> Callable[[], Sequence[bytes]]:
    """Returns what returns the files."""
    return lambda: files


DATA_TARGETS = {
    "cfg": Target(cfg, seeds(CFG)),
    "weights": Target(weights, valid_weights),
    "voc": Target(voc, seeds(VOC)),
    "voc_list": Target(voc_list, seeds(b"a\n")),
    "image": Target(image, lambda: [picture(kind) for kind in IMAGES]),
    "class_names": Target(class_names, seeds("ash\noak\ngrüne Erle\n".encode())),
    "coco": Target(coco, seeds(COCO)),
    "yolo_labels": Target(yolo_labels, seeds(LABELS)),
    "yolo_list": Target(yolo_list, seeds(b"./images/a.png\n")),
    "data_yaml": Target(data_yaml, seeds(YAML, b"train: images\nnames: [ash, 'oak']\n")),
    "keras_yolo3": Target(keras_yolo3, seeds(b"a.png 1,2,8,9,0 3,3,16,16.5,1\n")),
    "manifest": Target(manifest, lambda: ((packed_folder() / MANIFEST).read_bytes(),)),
    "columns": Target(columns, lambda: ((packed_folder() / ANNOTATIONS).read_bytes(),)),
}
