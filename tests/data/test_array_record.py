import json
import pickle
import re
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from yolo_jax.data.images import ImageError, load_image, read_image
from yolo_jax.data.pipeline import Loader
from yolo_jax.data.readers.array_record import image_name, read_array_record
from yolo_jax.data.readers.coco import read_coco
from yolo_jax.data.readers.columns import Columns
from yolo_jax.data.writers import array_record as writer
from yolo_jax.data.writers import folder
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


@pytest.fixture
def copy(packed, tmp_path):
    return Path(shutil.copytree(packed, tmp_path / "copy"))


def edit_manifest(folder, **fields):
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


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
        ({"path": TREES}, "is a directory"),
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


# What cannot be read


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


def test_image_is_decoded_by_our_own_rules(trees, packed):
    dataset = read_array_record(packed)[0]
    np.testing.assert_array_equal(
        load_image(dataset, dataset.annotations[2]), read_image(trees.annotations[2].path)
    )
