"""Twelve tree-crown tiles with uncommon records, and the same packed into three shards."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from yolo_jax.data.readers.coco import read_coco
from yolo_jax.data.writers.array_record import write_array_record

TREES = Path(__file__).parents[2] / "experiments" / "data" / "tree_crowns"


@pytest.fixture(scope="module")
def trees():
    dataset = read_coco(TREES / "validation.json", strict=True)[0]  # 12 images
    annotations = [
        replace(
            annotation,
            image_id=1000 - 7 * row,  # not in order
            crowd=np.arange(len(annotation.crowd)) % 3 == 1,
            source=("", "forêt")[row % 2],
        )
        for row, annotation in enumerate(dataset.annotations)
    ]
    annotations[4] = replace(
        annotations[4],
        boxes=np.zeros((0, 4), np.float32),
        classes=np.zeros(0, np.int32),
        crowd=np.zeros(0, bool),
    )
    return replace(dataset, annotations=tuple(annotations))


@pytest.fixture(scope="module")
def packed(trees, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed") / "trees"
    assert write_array_record(trees, folder, images_per_shard=5) == []
    return folder
