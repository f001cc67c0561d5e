import json
import pickle
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from yolo_jax.data.images import ImageError, load_image
from yolo_jax.data.pipeline import Loader
from yolo_jax.data.readers.array_record import read_array_record
from yolo_jax.data.readers.columns import Columns


@pytest.fixture
def copy(packed, tmp_path):
    return Path(shutil.copytree(packed, tmp_path / "copy"))


def edit_manifest(folder, **fields):
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_a_folder_that_is_not_packed(copy, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none does not exist: expected the folder"):
        read_array_record(tmp_path / "none")
    with pytest.raises(ValueError, match=r"trees-00000\.array_record is a file, not a folder"):
        read_array_record(copy / "trees-00000.array_record")
    assert len(read_array_record(copy / "manifest.json")[0].annotations) == 12


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"manifest\.json is not JSON"),
        ("[]", "is not the manifest of a packed data set"),
        ('{"format": "other"}', "is not the manifest of a packed data set"),
        (b"\xff", r"manifest\.json is not JSON in UTF-8"),
    ],
)
def test_a_manifest_of_something_else(copy, text, message):
    (copy / "manifest.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=message):
        read_array_record(copy)


FILE = {"name": "a", "size": 1, "sha256": "0", "images": 1}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"version": 2}, "is of version 2, and this program reads version 1; pack the data again"),
        ({"version": None}, "is of version None"),
        ({"images": "12"}, "its 'images' is '12', not of type int"),
        ({"images": 11}, r"says 11 images: its shards have 12 and annotations\.npz has 12"),
        ({"class_names": []}, r"has 0 class names, and annotations\.npz has class 0"),
        ({"shards": {}}, "its 'shards' is {}, not of type list"),
        ({"shards": [3]}, r"its 'shards\[0\]' is 3, not the record of a file"),
        ({"shards": [{**FILE, "size": True}]}, "its 'size' is True, not of type int"),
        ({"shards": [{**FILE, "name": "../a"}]}, "is not that of a file in it"),
        ({"shards": [{**FILE, "name": "a\0"}]}, "is missing"),
        ({"annotations": None}, "its 'annotations' is None, not the record of a file"),
    ],
)
def test_a_bad_manifest(copy, fields, message):
    edit_manifest(copy, **fields)
    with pytest.raises((ValueError, FileNotFoundError), match=r"manifest\.json.*|a\0.*") as caught:
        read_array_record(copy)
    assert caught.match(message)


@pytest.mark.parametrize("name", ["annotations.npz", "trees-00002.array_record"])
def test_files_that_are_missing_or_cut_short(copy, name):
    path = copy / name
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=rf"{name} is cut short or altered: it has \d+ bytes"):
        read_array_record(copy)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=rf"{name} is missing: manifest\.json lists it"):
        read_array_record(copy)


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 255
    path.write_bytes(content)


def test_altered_annotations_are_noticed_at_once(copy):
    flip(copy / "annotations.npz", 500)
    with pytest.raises(ValueError, match=r"annotations\.npz is altered: its sha256 is"):
        read_array_record(copy)


def test_an_altered_shard_is_noticed_when_asked_or_read(copy):
    path = copy / "trees-00001.array_record"
    flip(path, 64 * 1024 + 1000)  # in the first image, behind the file's own header
    with pytest.raises(ValueError, match=r"trees-00001\.array_record is altered: its sha256"):
        read_array_record(copy, verify=True)
    dataset = read_array_record(copy)[0]
    place = r"trees-00001\.array_record#\d \(.*\.jpg\) is damaged: .*hash mismatch.*; copy it again"
    bad = []
    for annotation in dataset.annotations:
        try:
            load_image(dataset, annotation)
        except ImageError as error:
            bad.append(str(error))
    assert len(bad) == 1 and re.search(place, bad[0])


def test_a_shard_that_goes_while_it_is_used(trees, copy):
    dataset = read_array_record(copy)[0]
    shutil.copy(copy / "trees-00002.array_record", copy / "trees-00001.array_record")
    (copy / "trees-00002.array_record").unlink()
    (copy / "trees-00000.array_record").write_bytes(b"0" * 70_000)
    with pytest.raises(ImageError, match=r"00000\.array_record is damaged: it has no index"):
        dataset.read(dataset.annotations[0])
    with pytest.raises(ImageError, match=r"00001\.array_record is damaged: it has 2 records, not"):
        dataset.read(dataset.annotations[5])
    with pytest.raises(FileNotFoundError, match=r"00002\.array_record is missing"):
        dataset.read(dataset.annotations[11])
    with pytest.raises(ValueError, match="copy has no image 1001"):
        dataset.read(replace(trees.annotations[0], image_id=1001))
    loader = Loader(dataset, batch_size=12, image_shape=(64, 64))
    with pytest.raises(ImageError, match="12 of the 12 images"):
        list(loader.one_pass())


def test_columns_that_are_none(tmp_path):
    for content in (b"", b"text", pickle.dumps([1])):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.npz does not hold the columns"):
            Columns.load(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", image_id=np.zeros(1))
    with pytest.raises(ValueError, match=r"a\.npz does not hold the columns.*size"):
        Columns.load(tmp_path / "a.npz")
    with pytest.raises(ValueError, match="there are no images"):
        Columns.of([], tmp_path)
