import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from yolo_jax.data import readers
from yolo_jax.data.readers import read_dataset
from yolo_jax.data.readers.coco import read_coco
from yolo_jax.data.writers.coco import write_coco

TREES = Path(__file__).parents[3] / "experiments" / "data" / "tree_crowns"
CONTENT = {
    "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4]}],
    "categories": [{"id": 2, "name": "dog"}, {"id": 3, "name": "cat"}],
}


@pytest.fixture
def coco(tmp_path):
    """COCO's own layout: annotations/instances_val.json, and its images in val."""
    for name in ("annotations", "val"):
        (tmp_path / name).mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "val" / "a.png")
    file = tmp_path / "annotations" / "instances_val.json"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(CONTENT).encode())
    return file


def test_cocos_own_layout(coco):
    dataset, problems = read_coco(coco, strict=True)
    assert problems == ()
    assert dataset.annotations[0].path == coco.parents[1] / "val" / "a.png"
    assert read_dataset(coco.parents[1], split="val")[0].origin == coco
    climbing = json.dumps(CONTENT | {"images": [CONTENT["images"][0] | {"file_name": "../b.png"}]})
    coco.write_text(climbing)
    with pytest.raises(ValueError, match="its file lies outside"):
        read_coco(coco, strict=True)


def test_a_link_is_the_users_own(coco, tmp_path):
    (tmp_path / "val").rename(tmp_path / "elsewhere")
    (tmp_path / "val").symlink_to(tmp_path / "elsewhere")
    assert len(read_coco(coco, strict=True)[0].annotations) == 1


def test_json_of_another_encoding_names_the_line(coco):
    coco.write_bytes('{"images": [],\n "info": "é"}'.encode("latin-1"))
    with pytest.raises(ValueError, match=r"val\.json is not JSON in UTF-8: .*, in line 2; save it"):
        read_coco(coco)


def test_coco_files_of_a_folder(coco, tmp_path):
    (coco.parent / "instances_train.json").write_text(json.dumps(CONTENT))
    with pytest.raises(ValueError, match=r"no split is named; it has \['train', 'val'\]"):
        read_dataset(tmp_path)
    with pytest.raises(ValueError, match=r"there is no split 'test'; it has \['train', 'val'\]"):
        read_dataset(tmp_path, split="test")
    assert len(read_dataset(TREES, split="validation")[0].annotations) == 12


def test_order_of_class_names(coco, tmp_path):
    (tmp_path / "names").write_text("ant\ncat\ndog\n")
    dataset, _ = read_dataset(coco, class_names_file=tmp_path / "names")
    assert dataset.class_names == ("ant", "cat", "dog")
    np.testing.assert_array_equal(dataset.annotations[0].classes, [1])
    (tmp_path / "names").write_text("cat\n")
    with pytest.raises(
        ValueError, match=r"has the classes \['dog'\], which are not in .*names; add"
    ):
        read_dataset(coco, class_names_file=tmp_path / "names")


def test_strict_and_problems(coco):
    (coco.parents[1] / "val" / "a.png").unlink()
    with pytest.raises(ValueError, match="1 bad records"):
        read_dataset(coco, strict=True)
    with pytest.raises(ValueError, match="has no usable image"):
        read_dataset(coco)


def test_of_no_known_format(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file or folder .*gone"):
        read_dataset(tmp_path / "gone")
    with pytest.raises(
        ValueError, match=r"no known format\. Sought: .*manifest\.json .*data\.yaml"
    ):
        read_dataset(tmp_path)
    (tmp_path / "x.csv").write_text("")
    with pytest.raises(ValueError, match=r"x\.csv is a data set of no known format"):
        read_dataset(tmp_path / "x.csv")


def test_a_split_of_what_has_none(coco, tmp_path):
    write_coco(read_coco(coco)[0], tmp_path / "out")
    with pytest.raises(ValueError, match="is one data set, without the split 'val'; leave that"):
        read_dataset(coco, split="val")
    (tmp_path / "x.txt").write_text("")
    with pytest.raises(ValueError, match="is one data set, without the split 'val'"):
        read_dataset(tmp_path / "x.txt", split="val")
    assert len(read_dataset(str(tmp_path / "out"))[0].annotations) == 1


def test_names_of_tensorflow_datasets(coco, tmp_path, monkeypatch):
    asked = []

    def read_tfds(name, split, *, strict):
        asked.append((name, split, strict))
        return read_coco(coco)

    monkeypatch.setattr(readers, "read_tfds", read_tfds)
    (tmp_path / "names").write_text("cat\ndog\n")
    dataset, _ = read_dataset(
        "tfds:voc/2007", split="train", strict=True, class_names_file=tmp_path / "names"
    )
    assert asked == [("voc/2007", "train", True)]
    assert dataset.class_names == ("cat", "dog")
