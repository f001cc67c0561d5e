import dataclasses
import itertools
import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from yolo_jax.core.types import Annotation, Batch, Dataset
from yolo_jax.data.examples import Mixing
from yolo_jax.data.images import ImageError, decode_to_fit
from yolo_jax.data.letterbox import letterbox
from yolo_jax.data.pipeline import Loader
from yolo_jax.data.readers.coco import read_coco

TREES = Path(__file__).parents[2] / "experiments" / "data" / "tree_crowns"
SHAPE = (64, 64)


@pytest.fixture(scope="module")
def trees():
    return read_coco(TREES / "validation.json", strict=True)[0]  # 12 images


@pytest.fixture
def corrupt(tmp_path):
    annotations = []
    for number in range(4):
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (40, 20), (number, 0, 0)).save(path)
        annotations.append(
            Annotation(
                image_id=number,
                path=path,
                width=40,
                height=20,
                boxes=np.array([[0, 0, 10, 10], [4, 4, 40, 20]], np.float32),
                classes=np.array([0, 1], np.int32),
                crowd=np.array([False, number == 0]),
            )
        )
    annotations[2].path.write_bytes(annotations[2].path.read_bytes()[:60])
    return Dataset(tuple(annotations), ("a", "b"), tmp_path)


def take(loader, count, start=0):
    return list(itertools.islice(loader.batches(start), count))


def ids(batches):
    return [batch.image_id.tolist() for batch in batches]


def assert_same(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_batch_holds_the_image_and_its_boxes(trees):
    loader = Loader(trees, batch_size=5, image_shape=SHAPE, shuffle=False)
    batches = list(loader.one_pass())
    assert len(loader) == len(batches) == 3
    assert [batch.image.shape for batch in batches] == [(5, *SHAPE, 3)] * 2 + [(2, *SHAPE, 3)]
    assert sum(ids(batches), []) == [a.image_id for a in trees.annotations]
    annotation, batch = trees.annotations[1], batches[0]
    decoded = decode_to_fit(annotation.path.read_bytes(), annotation.path, SHAPE)
    image, place = letterbox(decoded.pixels, SHAPE, original=decoded.original)
    count = len(annotation.boxes)
    assert count > 0
    assert loader.max_boxes % 8 == 0
    np.testing.assert_array_equal(batch.image[1], image)
    np.testing.assert_allclose(batch.boxes[1, :count], place.boxes_to_input(annotation.boxes))
    assert (batch.boxes[1, count:] == 0).all()
    assert batch.classes[1].tolist() == [0] * count + [-1] * (loader.max_boxes - count)
    assert batch.original_size[1].tolist() == [200, 200]
    assert batch.mix is None
    dtypes = [part.dtype for part in batch[:5]]
    assert dtypes == [np.uint8, np.float32, np.int32, np.int32, np.int32]


@pytest.mark.parametrize("options", [{}, {"whole_batches": True}], ids=str)
def test_stream_is_of_seed_and_position_alone(trees, options):
    def loader(threads, seed=1):
        return Loader(
            trees, batch_size=5, image_shape=SHAPE, shuffle=True, seed=seed, threads=threads,
            **options,
        )  # fmt: skip

    stream = take(loader(1), 9)
    assert_same(stream, take(loader(4), 9))
    assert_same(stream[4:], take(loader(2), 5, start=4))
    assert ids(stream) != ids(take(loader(1, seed=2), 9))


def test_every_pass_is_shuffled_anew_and_shows_each_image_once(trees):
    loader = Loader(trees, batch_size=5, image_shape=SHAPE, shuffle=True)
    rows = ids(take(loader, 9))
    passes = [sum(rows[start : start + 3], []) for start in (0, 3, 6)]
    everything = sorted(a.image_id for a in trees.annotations)
    assert all(sorted(one) == everything for one in passes)
    assert len({tuple(one) for one in [*passes, everything]}) == 4
    assert ids(loader.one_pass()) == rows[:3]


def test_whole_batches_go_on_over_the_end_of_a_pass(trees):
    order = [a.image_id for a in trees.annotations]
    loader = Loader(trees, batch_size=5, image_shape=SHAPE, whole_batches=True)
    assert ids(take(loader, 3)) == [order[:5], order[5:10], order[10:] + order[:3]]


def test_image_of_another_size_than_its_record_is_left_out_or_refused(trees):
    first = trees.annotations[0]
    wrong = dataclasses.replace(first, width=first.width + 1)
    dataset = dataclasses.replace(trees, annotations=(wrong, *trees.annotations[1:4]))
    loader = Loader(dataset, batch_size=4, image_shape=SHAPE)
    assert ids(take(loader, 1))[0][0] == -1
    message = f"{first.path} has {first.width}×{first.height} px, and its record"
    assert loader.skipped[str(first.path)].startswith(message)
    with pytest.raises(ImageError, match="says"):
        take(Loader(dataset, batch_size=4, image_shape=SHAPE, strict=True), 1)


def test_corrupt_image_becomes_a_row_of_padding(corrupt, caplog):
    loader = Loader(corrupt, batch_size=4, image_shape=SHAPE)
    with caplog.at_level(logging.WARNING):
        batches = take(loader, 3)
    assert ids(batches) == [[0, 1, -1, 3]] * 3
    batch = batches[0]
    assert (batch.image[2] == 128).all()
    assert (batch.boxes[2] == 0).all()
    assert (batch.classes[2] == -1).all()
    assert batch.original_size[2].tolist() == [20, 40]
    path = str(corrupt.annotations[2].path)
    assert list(loader.skipped) == [path]
    assert "2.png is damaged or cut short" in loader.skipped[path]
    assert caplog.text.count(path) == 1


def test_strict_raises_on_a_corrupt_image(corrupt):
    loader = Loader(corrupt, batch_size=4, image_shape=SHAPE, strict=True)
    with pytest.raises(ImageError, match=r"2\.png is damaged"):
        next(loader.batches())


def test_missing_image(corrupt):
    gone = dataclasses.replace(corrupt.annotations[1], path=Path("gone.png"))
    dataset = Dataset((gone, corrupt.annotations[0]), ("a",))
    loader = Loader(dataset, batch_size=2, image_shape=SHAPE)
    assert ids(loader.one_pass()) == [[-1, 0]]
    assert "gone.png" in loader.skipped["gone.png"]


def test_crowd_regions_are_no_targets(corrupt):
    batch = next(Loader(corrupt, batch_size=4, image_shape=SHAPE).one_pass())
    assert batch.classes[:2, :3].tolist() == [[0, -1, -1], [0, 1, -1]]


def test_too_many_boxes(corrupt, caplog):
    with caplog.at_level(logging.WARNING):
        loader = Loader(corrupt, batch_size=4, image_shape=SHAPE, max_boxes=1)
    assert "image 1 (1.png): it has 2 boxes and max_boxes is 1" in caplog.text
    assert "image 0 " not in caplog.text  # its second box is a crowd region
    assert next(loader.batches()).classes.tolist() == [[0], [0], [-1], [0]]
    with pytest.raises(ValueError, match=r"3 bad records[\s\S]*raise max_boxes"):
        Loader(corrupt, batch_size=4, image_shape=SHAPE, max_boxes=1, strict=True)


def test_a_pickled_data_set_loads_the_same(trees):
    first, second = (
        Loader(dataset, batch_size=5, image_shape=SHAPE, shuffle=True, seed=4)
        for dataset in (trees, pickle.loads(pickle.dumps(trees)))
    )
    assert_same(take(first, 2), take(second, 2))


def test_wrong_arguments(trees):
    with pytest.raises(ValueError, match=r"nowhere\.json has no images to load"):
        Loader(Dataset((), ("a",), Path("nowhere.json")), batch_size=1, image_shape=SHAPE)
    with pytest.raises(ValueError, match="batch_size is 0"):
        Loader(trees, batch_size=0, image_shape=SHAPE)
    with pytest.raises(ValueError, match="max_boxes is 0"):
        Loader(trees, batch_size=1, image_shape=SHAPE, max_boxes=0)


@pytest.mark.parametrize("threads", [1, 4])
def test_a_set_of_which_no_image_can_be_read_is_refused(corrupt, threads):
    for annotation in corrupt.annotations:
        annotation.path.write_bytes(b"no image")
    loader = Loader(corrupt, batch_size=2, image_shape=SHAPE, threads=threads)
    with pytest.raises(ImageError, match=r"4 of the 4 images of .* cannot be read"):
        take(loader, 3)


def test_images_come_from_wherever_the_data_set_keeps_them(trees):
    """A packed set gives the bytes of an annotation's image; its path is but a name."""
    content = {a.image_id: a.path.read_bytes() for a in trees.annotations}
    named = [dataclasses.replace(a, path=Path(f"pack#{a.image_id}")) for a in trees.annotations]
    packed = dataclasses.replace(
        trees, annotations=named, read=lambda annotation: content[annotation.image_id]
    )
    first, second = (
        Loader(dataset, batch_size=5, image_shape=SHAPE) for dataset in (trees, packed)
    )
    assert_same(list(first.one_pass()), list(second.one_pass()))
    content[named[3].image_id] = b"no image"
    list(second.one_pass())
    name = f"pack#{named[3].image_id}"
    assert second.skipped == {name: f"{name} is not an image of a known format"}


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"whole_batches": True}], ids=str)
def test_stream_is_the_same_with_any_number_of_workers(trees, options):
    def loader(workers):
        return Loader(
            trees, batch_size=5, image_shape=SHAPE, shuffle=True, seed=1, workers=workers, **options
        )

    expected = take(loader(0), 7)
    assert_same(expected, take(loader(1), 7))
    assert_same(expected, take(loader(4), 7))
    assert_same(expected[4:], take(loader(2), 3, start=4))


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("options", [{}, {"whole_batches": True}], ids=str)
def test_processes_share_every_batch(trees, options, count):
    """Their rows one after the other are the batch of one process, which padding may make whole."""

    def loader(index, count):
        return Loader(
            trees, batch_size=8, image_shape=SHAPE, shuffle=True, seed=1, process=(index, count),
            **options,
        )  # fmt: skip

    whole = take(loader(0, 1), 5)
    shares = [take(loader(index, count), 5) for index in range(count)]
    for number, batch in enumerate(whole):
        rows = [share[number] for share in shares]
        assert {len(row.image_id) for row in rows} == {8 // count}
        joined = Batch(*(np.concatenate(p) for p in zip(*(row[:5] for row in rows), strict=True)))
        assert_same([batch], [Batch(*(part[: len(batch.image_id)] for part in joined[:5]))])
        assert (joined.image_id[len(batch.image_id) :] == -1).all()
    assert loader(0, count).skipped == {}
    with pytest.raises(ValueError, match="process 0 of 3 cannot have its share of batches of 8"):
        loader(0, 3)


@pytest.mark.slow
def test_workers_tell_of_damaged_images_too(corrupt, caplog):
    loader = Loader(corrupt, batch_size=4, image_shape=SHAPE, workers=2)
    with caplog.at_level(logging.WARNING):
        assert ids(take(loader, 3)) == [[0, 1, -1, 3]] * 3
    path = str(corrupt.annotations[2].path)
    assert "2.png is damaged or cut short" in loader.skipped[path]
    assert caplog.text.count(path) == 1
    strict = Loader(corrupt, batch_size=4, image_shape=SHAPE, workers=2, strict=True)
    with pytest.raises(ImageError, match=r"2\.png is damaged"):
        next(strict.batches())


def test_more_than_one_in_a_hundred_unreadable_images_end_the_run(corrupt):
    good, bad = corrupt.annotations[0], corrupt.annotations[2]

    def loader(faults, images):
        paths = [bad.path.with_name(f"bad_{number}.png") for number in range(faults)]
        for path in paths:
            path.write_bytes(b"no image")
        records = [dataclasses.replace(bad, path=path) for path in paths]
        dataset = Dataset((*records, *[good] * (images - faults)), ("a", "b"), Path("set"))
        return Loader(dataset, batch_size=50, image_shape=SHAPE)

    for faults, images in ((3, 100), (4, 400)):
        assert len(take(loader(faults, images), 1)) == 1
    with pytest.raises(ImageError, match="4 of the 100 images of set cannot be read, too many"):
        take(loader(4, 100), 1)
    with pytest.raises(ImageError, match="5 of the 400 images"):
        take(loader(5, 400), 1)


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_a_cache_changes_nothing_but_the_reading(corrupt, tmp_path, where):
    cache = tmp_path / "cache" if where == "disk" else where
    options = {"batch_size": 3, "image_shape": SHAPE, "shuffle": True}
    expected = take(Loader(corrupt, **options), 4)
    cached = Loader(corrupt, cache=cache, **options)
    assert_same(expected, take(cached, 4))
    content = {a.path: a.path.read_bytes() for a in corrupt.annotations}
    if where == "memory":
        for path in content:
            path.write_bytes(b"")  # not read any more
        assert_same(expected, take(cached, 4))
    else:
        assert len(list(cache.iterdir())) == 3
        assert_same(expected, take(Loader(corrupt, cache=cache, **options), 4))
    assert len(cached.skipped) == 1


def test_a_cache_in_memory_is_not_for_workers(trees):
    with pytest.raises(ValueError, match="cannot be shared with worker processes"):
        Loader(trees, batch_size=4, image_shape=SHAPE, cache="memory", workers=2)


def choose(draw):
    return 1 if draw < 0.5 else 0


@pytest.mark.parametrize("count", [1, 2])
def test_groups_are_drawn_by_seed_pass_and_example(trees, count):
    mixing = Mixing(choose, images=(1, 3), group=4, batches=5)

    def loader(index=0, count=1, seed=1):
        return Loader(
            trees, batch_size=4, image_shape=SHAPE, shuffle=True, seed=seed, whole_batches=True,
            process=(index, count), mixing=mixing,
        )  # fmt: skip

    shares = [take(loader(index, count), 7) for index in range(count)]
    batches = [
        Batch(*(np.concatenate(parts) for parts in zip(*rows, strict=True)))
        for rows in zip(*shares, strict=True)
    ]
    assert_same(batches, take(loader(), 7))
    assert_same(batches[3:], take(loader(), 4, start=3))
    plain = Loader(trees, batch_size=4, image_shape=SHAPE, shuffle=True, seed=1, whole_batches=True)
    for number, (batch, alone) in enumerate(zip(batches, take(plain, 7), strict=True)):
        assert batch.image.shape == (4, 4, *SHAPE, 3)
        assert batch.boxes.shape[:2] == batch.classes.shape[:2] == (4, 4)
        assert_same([alone], [Batch(batch.image[:, 0], batch.boxes[:, 0], batch.classes[:, 0],
                                    batch.image_id, batch.original_size)])  # fmt: skip
        used = [(row.reshape(4, -1) != 128).any(axis=1).sum() for row in batch.image]
        assert used == [3 if mix else 1 for mix in batch.mix]
        assert number < 5 or not batch.mix.any()
    mixes = np.concatenate([batch.mix for batch in batches[:5]])
    assert 0 < mixes.mean() < 1
    # A later pass draws anew, and another seed too.
    first, second = (
        {i: b.image[r, 1].tobytes() for b in part for r, i in enumerate(b.image_id) if b.mix[r]}
        for part in (batches[:3], batches[3:])
    )
    both = first.keys() & second.keys()
    assert not both or any(first[i] != second[i] for i in both)
