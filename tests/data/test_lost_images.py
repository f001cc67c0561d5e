"""Images that are lost, to the reader or to the loader: counted by one rule, and named."""

import itertools
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from yolo_jax.core.types import Annotation, Dataset
from yolo_jax.data.doctor import Problem
from yolo_jax.data.examples import Mixing
from yolo_jax.data.images import ImageError
from yolo_jax.data.pipeline import Loader

SHAPE = (32, 32)


@pytest.fixture
def dataset(tmp_path):
    annotations = []
    for number in range(12):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (32, 32), (number, 0, 0)).save(path)
        boxes, classes = np.asarray([[1, 1, 20, 20]], np.float32), np.zeros(1, np.int32)
        crowd = np.zeros(1, bool)
        annotations.append(Annotation(number, path, 32, 32, boxes, classes, crowd))
    return Dataset(tuple(annotations), ("a",), tmp_path)


def lost(count):
    return [
        Problem(Path(f"{i}.jpg"), "the image", "it cannot be read", loses_image=True)
        for i in range(count)
    ]


def test_images_that_the_reader_left_out_count_and_are_named(dataset):
    boxes = [Problem(Path("a.json"), "annotation 3", "its bbox has no width")] * 20
    loader = Loader(dataset, batch_size=4, image_shape=SHAPE, problems=lost(3) + boxes)
    assert loader.skipped == {f"{i}.jpg: the image": "it cannot be read" for i in range(3)}
    with pytest.raises(ImageError, match=r"4 of the 16 images of[\s\S]*--fix[\s\S]*3\.jpg: the im"):
        Loader(dataset, batch_size=4, image_shape=SHAPE, problems=lost(4))


def test_both_ways_to_lose_an_image_are_counted_together(dataset):
    for number in (0, 1):
        dataset.annotations[number].path.write_bytes(b"")
    loader = Loader(dataset, batch_size=12, image_shape=SHAPE, problems=lost(2))
    with pytest.raises(ImageError, match="4 of the 14 images"):
        next(loader.batches())
    loader = Loader(dataset, batch_size=12, image_shape=SHAPE, problems=lost(1))
    assert (next(loader.batches()).image_id < 0).sum() == 2
    assert len(loader.skipped) == 3


def take_last(draw):
    return 1


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_an_unreadable_partner_is_named(dataset, workers, caplog):
    """Though it never is the first of its own group: the batches end before."""
    damaged = dataset.annotations[11].path
    damaged.write_bytes(b"")
    loader = Loader(
        dataset, batch_size=2, image_shape=SHAPE, workers=workers,
        mixing=Mixing(take_last, images=(1, 4), group=4),
    )  # fmt: skip
    with caplog.at_level(logging.WARNING):
        batches = list(itertools.islice(loader.batches(), 5))
    assert not any((batch.image_id < 0).any() for batch in batches)
    assert list(loader.skipped) == [str(damaged)]
    assert caplog.text.count(f"{damaged} is not an image") == 1
    for annotation in dataset.annotations[4:]:
        annotation.path.write_bytes(b"")
    with pytest.raises(ImageError, match="images of .* cannot be read, too many"):
        list(itertools.islice(loader.batches(), 2))


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("options", [{}, {"whole_batches": True}], ids=str)
def test_a_batch_may_have_one_row(dataset, size, options):
    loaders = [
        Loader(dataset, batch_size=size, image_shape=SHAPE, process=(index, size), **options)
        for index in range(size)
    ]
    streams = [list(itertools.islice(loader.batches(11), 3)) for loader in loaders]
    found = [batch.image_id.tolist() for rows in zip(*streams, strict=True) for batch in rows]
    assert found == [[number % 12] for number in range(11 * size, 14 * size)]


def test_threads_are_not_too_many_for_what_is_read_ahead(dataset, caplog):
    loader = Loader(dataset, batch_size=2, image_shape=SHAPE, threads=6)
    with caplog.at_level(logging.WARNING):
        assert len(list(loader.one_pass())) == 6
    assert "prefetch_buffer_size" not in caplog.text
