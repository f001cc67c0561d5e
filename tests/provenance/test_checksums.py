"""What tells a data set from another one."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from yolo_jax.core.types import Annotation, Dataset
from yolo_jax.provenance import checksums as module
from yolo_jax.provenance.checksums import checksums

PARTS = ("annotations", "files", "content")


def dataset(folder: Path, images: int = 5) -> Dataset:
    """Returns images of a few bytes, with a box each."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    listed = []
    for number in range(images):
        path = folder / "images" / f"{number}.jpg"
        path.write_bytes(bytes([number]) * 50)
        boxes, classes = np.array([[1, 2, 3, 4 + number]], np.float32), np.zeros(1, np.int32)
        listed.append(Annotation(number, path, 9, 9, boxes, classes, np.zeros(1, bool)))
    return Dataset(tuple(listed), ("ash",), folder / "train.json")


def changed(old: Dataset, new: Dataset) -> list[str]:
    left, right = checksums(old), checksums(new)
    return [part for part in PARTS if left[part] != right[part]]


def test_a_set_is_the_same_wherever_it_lies(tmp_path: Path):
    old = dataset(tmp_path / "one")
    assert changed(old, dataset(tmp_path / "other" / "place")) == []
    found = checksums(old)
    assert [found[part]["of"] for part in PARTS] == [5, 5, 5]
    assert (found["images"], found["classes"]) == (5, ["ash"])


def test_whatever_is_changed_shows_in_its_part(tmp_path: Path):
    old, new = dataset(tmp_path / "old"), dataset(tmp_path / "new")
    first, *others = new.annotations
    moved = dataclasses.replace(first, boxes=first.boxes + np.float32(0.001))
    assert changed(old, dataclasses.replace(new, annotations=(moved, *others))) == ["annotations"]
    first.path.write_bytes(b"x" * 50)
    assert changed(old, new) == ["content"]
    first.path.write_bytes(b"x" * 51)
    assert changed(old, new) == ["files", "content"]
    first.path.unlink()
    assert changed(old, new) == ["files", "content"]
    shutil.copy(old.annotations[0].path, first.path)
    assert changed(old, new) == []


def test_of_a_large_set_an_even_sample_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_WHOLE_BYTES", 200)
    monkeypatch.setattr(module, "_READ", 2)
    large = dataset(tmp_path)
    assert [checksums(large)[part]["of"] for part in PARTS] == [5, 5, 2]
    monkeypatch.setattr(module, "_LISTED", 3)
    assert [checksums(large)[part]["of"] for part in PARTS] == [3, 3, 2]


def test_images_in_packed_files_are_read_from_there(tmp_path: Path):
    plain = dataset(tmp_path)
    packed = dataclasses.replace(plain, read=lambda one: one.path.read_bytes())
    assert changed(plain, packed) == ["files"]  # whose sizes are not known
