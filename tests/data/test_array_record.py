import json
import pickle
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from yolo_jax.data.images import load_image, read_image
from yolo_jax.data.pipeline import Loader
from yolo_jax.data.readers.array_record import image_name, read_array_record
from yolo_jax.data.readers.columns import Columns
from yolo_jax.data.writers import array_record as writer
from yolo_jax.data.writers import folder
from yolo_jax.data.writers.array_record import write_array_record


def assert_same(annotation, original):
    for name in ("image_id", "width", "height", "source"):
        assert getattr(annotation, name) == getattr(original, name)
    for name in ("boxes", "classes", "crowd"):
        np.testing.assert_array_equal(getattr(annotation, name), getattr(original, name))
        assert getattr(annotation, name).dtype == getattr(original, name).dtype


def test_a_packed_set_is_the_same(trees, packed):
    names = sorted(path.name for path in packed.iterdir())
    shards = [f"trees-0000{i}.array_record" for i in range(3)]
    assert names == ["annotations.npz", "manifest.json", *shards]
    dataset, problems = read_array_record(packed, strict=True, verify=True)
    assert problems == ()
    assert dataset.class_names == trees.class_names
    assert len(dataset.annotations) == 12
    for annotation, original in zip(dataset.annotations, trees.annotations, strict=True):
        assert_same(annotation, original)
        assert dataset.read(annotation) == original.path.read_bytes()
    name = trees.annotations[7].path.name
    assert dataset.annotations[7].path == packed / f"trees-00001.array_record#2 ({name})"
    manifest = json.loads((packed / "manifest.json").read_text())
    counts = [len(annotation.boxes) for annotation in trees.annotations]
    assert manifest["most_boxes"] == max(counts) and manifest["boxes"] == sum(counts)
    np.testing.assert_array_equal(
        dataset.annotations.targets_an_image(),
        [(~annotation.crowd).sum() for annotation in trees.annotations],
    )


def test_annotations_are_a_sequence(trees, packed):
    annotations = read_array_record(packed)[0].annotations
    ids = [annotation.image_id for annotation in trees.annotations]
    assert [annotations[i].image_id for i in range(-12, 12)] == ids + ids
    assert annotations[np.int64(3)].image_id == ids[3]
    assert [annotation.image_id for annotation in annotations[8:2:-2]] == ids[8:2:-2]
    with pytest.raises(IndexError):
        annotations[12]
    with pytest.raises(ValueError, match="read-only"):  # all annotations share the columns
        annotations[0].boxes[0] = 0


def test_it_is_sent_to_a_process_as_names_of_files(packed):
    dataset = read_array_record(packed)[0]
    dataset.read(dataset.annotations[0])
    sent = pickle.dumps(dataset)
    assert len(sent) < 2000
    received = pickle.loads(sent)
    assert received.read(received.annotations[11]) == dataset.read(dataset.annotations[11])


def test_the_columns_of_any_annotations_are_sent_as_arrays(trees):
    received = pickle.loads(pickle.dumps(Columns.of(trees.annotations, Path("here"))))
    assert_same(received[3], trees.annotations[3])
    assert received[3].path == Path("here", trees.annotations[3].path.name)


def test_threads_read_at_once(trees, packed):
    dataset = read_array_record(packed)[0]
    expected = [annotation.path.read_bytes() for annotation in trees.annotations]
    wrong = []

    def read(seed):
        for row in np.random.default_rng(seed).integers(0, 12, 300).tolist():
            if dataset.read(dataset.annotations[row]) != expected[row]:
                wrong.append(row)
            if row == seed:
                dataset.read.close()

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files as Linux does")
def test_shards_are_opened_when_read_and_closed(packed):
    def opened():
        links = [Path("/proc/self/fd") / name.name for name in Path("/proc/self/fd").iterdir()]
        return sum(str(packed) in str(link.resolve()) for link in links if link.is_symlink())

    dataset = read_array_record(packed)[0]
    assert opened() == 0
    dataset.read(dataset.annotations[0])
    dataset.read(dataset.annotations[11])
    assert opened() == 2
    dataset.read.close()
    assert opened() == 0
    dataset.read(dataset.annotations[11])
    assert opened() == 1
    del dataset
    assert opened() == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_of_it_are_those_of_the_files(trees, packed, workers):
    def batches(dataset):
        options = {"batch_size": 5, "image_shape": (64, 64), "shuffle": True, "strict": True}
        return list(Loader(dataset, workers=workers, **options).one_pass())

    for batch, original in zip(batches(read_array_record(packed)[0]), batches(trees), strict=True):
        for part, expected in zip(batch, original, strict=True):
            np.testing.assert_array_equal(part, expected)


def test_packing_again_keeps_names_and_bytes(packed, tmp_path):
    dataset = read_array_record(packed)[0]
    write_array_record(dataset, tmp_path / "trees", images_per_shard=5)
    for file in packed.iterdir():
        assert (tmp_path / "trees" / file.name).read_bytes() == file.read_bytes()
    for name in ("a (1).jpg", "scan#3 (x).png", "plain#7", "a#1 (b"):
        one = replace(dataset.annotations[0], path=Path(f"b/a#0-00001.array_record#2 ({name})"))
        assert image_name(dataset, one) == name
        # A file of the user's own is not packed, whatever its name.
        assert image_name(replace(dataset, read=None), replace(one, path=Path(name))) == name


def test_names_and_texts_of_any_sort_survive(trees, tmp_path):
    image = tmp_path / "häßlich 木 \udcff).jpg"
    image.write_bytes(trees.annotations[0].path.read_bytes())
    annotation = replace(trees.annotations[0], path=image, source="\ud800")
    write_array_record(replace(trees, annotations=(annotation,)), tmp_path / "new")
    dataset = read_array_record(tmp_path / "new")[0]
    read = dataset.annotations[0]
    assert image_name(dataset, read) == image.name
    assert read.source == "\ud800"


# What cannot be packed


def test_packing_refuses_a_folder_in_use(trees, packed, tmp_path):
    with pytest.raises(ValueError, match=r"trees is not empty; name a new folder"):
        write_array_record(trees, packed)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"file is a file; name a new folder"):
        write_array_record(trees, tmp_path / "file")
    (tmp_path / "empty").mkdir()
    write_array_record(trees, tmp_path / "empty")
    read_array_record(tmp_path / "empty", verify=True)


def change(trees, row, **fields):
    annotations = list(trees.annotations)
    annotations[row] = replace(annotations[row], **fields)
    return replace(trees, annotations=tuple(annotations))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_id": 1000}, "image_id 1000 is given to more than one image"),
        ({"image_id": 2**31}, r"image 2147483648 \(.*jpg\): its id is not a whole number"),
        ({"classes": np.array([9] * 50)}, "it has a box of class 9, and there are 1 class names"),
        ({"path": Path("nowhere.jpg")}, "nowhere.jpg"),
        ({"path": Path(__file__).parent}, "is a directory"),
    ],
)
def test_a_failed_packing_leaves_nothing(trees, tmp_path, fields, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        write_array_record(change(trees, 8, **fields), tmp_path / "new", images_per_shard=5)
    assert list(tmp_path.iterdir()) == []


def test_packing_nothing_is_an_error(trees, tmp_path):
    with pytest.raises(ValueError, match=r"validation\.json has no images to pack"):
        write_array_record(replace(trees, annotations=()), tmp_path / "new")
    with pytest.raises(ValueError, match="images_per_shard is 0; it has to be 1 or more"):
        write_array_record(trees, tmp_path / "new", images_per_shard=0)


def test_a_full_disk_is_said_to_be(trees, tmp_path, monkeypatch):
    opened = writer.ArrayRecordWriter
    monkeypatch.setattr(writer, "ArrayRecordWriter", lambda path, options: opened("/dev/full"))
    with pytest.raises(OSError, match=r"new-00000\.array_record cannot be written.*No space left"):
        write_array_record(trees, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_packing_does_not_look_finished(trees, tmp_path, monkeypatch):
    monkeypatch.setattr(folder.shutil, "rmtree", lambda *args, **options: None)
    broken = change(trees, 11, path=Path("nowhere.jpg"))
    with pytest.raises(FileNotFoundError):
        write_array_record(broken, tmp_path / "new", images_per_shard=5)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith("new.unfinished-") and len(list(left.iterdir())) > 1
    with pytest.raises(FileNotFoundError, match=r"no manifest\.json: .* not finished; pack"):
        read_array_record(left)


def test_image_is_decoded_by_our_own_rules(trees, packed):
    dataset = read_array_record(packed)[0]
    np.testing.assert_array_equal(
        load_image(dataset, dataset.annotations[2]), read_image(trees.annotations[2].path)
    )
