import csv
import json

import numpy as np
import pytest
from PIL import Image

from yolo_jax.data.readers import read_dataset
from yolo_jax.inference.found import Found
from yolo_jax.inference.records import (
    record_of,
    write_coco_json,
    write_csv,
    write_json,
    write_yolo,
)

NAMES = ("ash", "birch", "cedar")


def records():
    two = Found(
        np.asarray([[1.5, 2, 30, 35], [0, 0, 60, 40]], np.float32),
        np.asarray([0.75, 0.5], np.float32),
        np.asarray([2, 0]),
        NAMES,
        np.zeros((40, 60, 3), np.uint8),
        "some/a.png",
    )
    none = Found(
        np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), NAMES, np.zeros((20, 10, 3), np.uint8),
        "clip.mp4", 7,
    )  # fmt: skip
    return [record_of(two), record_of(none)]


def test_json(tmp_path):
    write_json(tmp_path / "found.json", records(), NAMES)
    assert json.loads((tmp_path / "found.json").read_text()) == [
        {
            "image": "some/a.png",
            "width": 60,
            "height": 40,
            "detections": [
                {"class": "cedar", "score": 0.75, "box": [1.5, 2, 30, 35]},
                {"class": "ash", "score": 0.5, "box": [0, 0, 60, 40]},
            ],
        },
        {"image": "clip.mp4", "frame": 7, "width": 10, "height": 20, "detections": []},
    ]


def test_csv(tmp_path):
    write_csv(tmp_path / "found.csv", records(), NAMES)
    with (tmp_path / "found.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["image", "frame", "class", "score", "xmin", "ymin", "xmax", "ymax"]
    assert rows[1] == ["some/a.png", "", "cedar", "0.75", "1.5", "2.0", "30.0", "35.0"]
    assert len(rows) == 3


def test_coco_json_is_a_data_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some").mkdir()
    Image.new("RGB", (60, 40)).save(tmp_path / "some" / "a.png")
    write_coco_json(tmp_path / "found.json", records(), NAMES)
    content = json.loads((tmp_path / "found.json").read_text())
    assert [one["file_name"] for one in content["images"]] == ["some/a.png", "clip.mp4#7"]
    assert content["annotations"][0] == {
        "id": 1, "image_id": 1, "category_id": 3, "bbox": [1.5, 2, 28.5, 33], "area": 940.5,
        "iscrowd": 0, "score": 0.75,
    }  # fmt: skip
    dataset, _ = read_dataset(tmp_path / "found.json")
    np.testing.assert_array_equal(dataset.annotations[0].boxes, records()[0].boxes)
    assert dataset.class_names == NAMES


def test_yolo_labels(tmp_path):
    write_yolo(tmp_path, records())
    lines = (tmp_path / "a.txt").read_text().splitlines()
    assert lines[0] == "2 0.262500 0.462500 0.475000 0.825000"
    assert lines[1] == "0 0.500000 0.500000 1.000000 1.000000"
    assert (tmp_path / "clip_000007.txt").read_text() == ""


def test_two_images_of_one_name_do_not_share_labels(tmp_path):
    one, other = records()[0], records()[0]._replace(name="other/a.jpg")
    with pytest.raises(ValueError, match=r"some/a.png and other/a.jpg would have one file"):
        write_yolo(tmp_path, [one, other])
