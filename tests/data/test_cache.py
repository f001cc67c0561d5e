import logging
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from weakref import WeakSet

import numpy as np
import pytest

from yolo_jax.core.types import Annotation, Dataset
from yolo_jax.data import cache
from yolo_jax.data.cache import CacheError, DiskCache, MemoryCache

SHAPE = (6, 8)
IMAGES = 5


def pixels_of(index):
    return np.full((*SHAPE, 3), 10 + index, np.uint8)


@pytest.fixture
def dataset(tmp_path):
    return dataset_in(tmp_path)


def dataset_in(folder):
    none = np.zeros(0)
    annotations = []
    for index in range(IMAGES):
        path = folder / f"{index}.jpg"
        path.write_bytes(bytes([index]))
        annotations.append(Annotation(index, path, 8, 6, none.reshape(0, 4), none, none))
    return Dataset(annotations, ("a",), folder)


@pytest.fixture(params=["memory", "disk"])
def kept(request, dataset, tmp_path):
    if request.param == "memory":
        return MemoryCache(dataset, SHAPE)
    return DiskCache(dataset, SHAPE, tmp_path / "cache" / "deep")


def never():
    raise AssertionError("it is kept")


def test_an_image_is_made_once(kept):
    for _ in range(2):
        for index in range(IMAGES):
            found = kept.get(index, lambda index=index: pixels_of(index))
            np.testing.assert_array_equal(found, pixels_of(index))
    np.testing.assert_array_equal(kept.get(3, never), pixels_of(3))


def test_what_cannot_be_made_is_not_kept(kept):
    def fail():
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        kept.get(0, fail)
    np.testing.assert_array_equal(kept.get(0, lambda: pixels_of(0)), pixels_of(0))


def test_threads_see_whole_images_alone(kept):
    def read(number):
        found = kept.get(number % IMAGES, lambda: pixels_of(number % IMAGES))
        return (found == pixels_of(number % IMAGES)).all()

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(read, range(400)))


def test_what_memory_returns_cannot_be_changed(dataset):
    kept = MemoryCache(dataset, SHAPE)
    for _ in range(2):
        with pytest.raises(ValueError, match="read-only"):
            kept.get(0, lambda: pixels_of(0))[:] = 0
    np.testing.assert_array_equal(kept.get(0, never), pixels_of(0))


def test_memory_is_not_sent_to_processes(dataset):
    with pytest.raises(CacheError, match=r"cannot be shared with worker processes.*workers to 0"):
        pickle.dumps(MemoryCache(dataset, SHAPE))


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_a_cache_says_what_it_takes_and_refuses_more_than_half(
    kind, dataset, tmp_path, monkeypatch, caplog
):
    needed = IMAGES * SHAPE[0] * SHAPE[1] * 3
    free = SimpleNamespace(available=2 * needed, free=2 * needed)
    monkeypatch.setattr(cache.psutil, "virtual_memory", lambda: free)
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: free)

    def create():
        if kind == "memory":
            return MemoryCache(dataset, SHAPE)
        return DiskCache(dataset, SHAPE, tmp_path / "cache")

    caplog.set_level(logging.INFO)
    kept = create()
    assert f"the image cache will take 0.00 GB of {kind}" in caplog.text
    free.available = free.free = 2 * needed - 1
    with pytest.raises(
        CacheError, match=rf"would take 0.00 GB of {kind}.* of 0.00 GB free; it may"
    ):
        create()
    if kind == "disk":
        kept.get(0, lambda: pixels_of(0))
        create()  # what is there already needs no room


def test_caches_in_memory_share_the_half(dataset, monkeypatch):
    """What the first has filled is not free any more; what it has not is its own."""
    one = SHAPE[0] * SHAPE[1] * 3
    free = SimpleNamespace(available=3 * IMAGES * one)
    monkeypatch.setattr(cache.psutil, "virtual_memory", lambda: free)
    monkeypatch.setattr(MemoryCache, "_all", WeakSet())
    first = MemoryCache(dataset, SHAPE)
    with pytest.raises(CacheError, match=r"GB of memory \(.* of it for caches before it\)"):
        MemoryCache(dataset, SHAPE)
    for index in range(IMAGES):
        first.get(index, lambda: pixels_of(0))
    free.available = 2 * IMAGES * one
    MemoryCache(dataset, SHAPE)


def test_the_disk_serves_later_runs_and_other_processes(dataset, tmp_path):
    """One process writes and ends; the next reads what it wrote."""
    folder = tmp_path / "cache"
    first = DiskCache(dataset, SHAPE, folder)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        results = [pool.apply_async(get_from, (first, index)) for index in range(IMAGES)]
        assert [result.get() for result in results] == [10 + index for index in range(IMAGES)]
    later = DiskCache(dataset, SHAPE, folder)
    for index in range(IMAGES):
        np.testing.assert_array_equal(later.get(index, never), pixels_of(index))
    assert len(list(folder.iterdir())) == IMAGES  # and nothing half written


def get_from(kept, index):
    return int(kept.get(index, lambda: pixels_of(index)).max())


def test_a_process_killed_while_writing_leaves_no_half_image(dataset, tmp_path):
    script = f"""
import os, sys
import numpy as np
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_cache import DiskCache, Path, SHAPE, dataset_in, pixels_of
Path.replace = lambda *_: os._exit(9)
folder = Path({str(tmp_path)!r})
DiskCache(dataset_in(folder), SHAPE, folder / "cache").get(0, lambda: pixels_of(0))
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert done.returncode == 9, done.stderr
    kept = DiskCache(dataset, SHAPE, tmp_path / "cache")
    np.testing.assert_array_equal(kept.get(0, lambda: pixels_of(1)), pixels_of(1))


def test_a_file_that_lost_its_end_is_made_anew(dataset, tmp_path):
    kept = DiskCache(dataset, SHAPE, tmp_path / "cache")
    kept.get(0, lambda: pixels_of(0))
    (file,) = (tmp_path / "cache").iterdir()
    for content in (file.read_bytes()[:-1], b""):
        file.write_bytes(content)
        np.testing.assert_array_equal(kept.get(0, lambda: pixels_of(0)), pixels_of(0))
        np.testing.assert_array_equal(kept.get(0, never), pixels_of(0))


def test_a_changed_image_and_another_shape_are_made_anew(dataset, tmp_path):
    kept = DiskCache(dataset, SHAPE, tmp_path / "cache")
    kept.get(0, lambda: pixels_of(0))
    path = dataset.annotations[0].path
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    np.testing.assert_array_equal(kept.get(0, lambda: pixels_of(1)), pixels_of(1))
    path.write_bytes(b"longer")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    np.testing.assert_array_equal(kept.get(0, lambda: pixels_of(2)), pixels_of(2))
    turned = DiskCache(dataset, SHAPE[::-1], tmp_path / "cache")
    assert turned.get(0, lambda: np.zeros((8, 6, 3), np.uint8)).shape == (8, 6, 3)
    np.testing.assert_array_equal(kept.get(0, never), pixels_of(2))


def test_packed_images_are_as_old_as_their_files(dataset, tmp_path):
    (tmp_path / "packed").mkdir()
    shard = tmp_path / "packed" / "shard-0"
    shard.write_bytes(b"1")
    annotations = [
        Annotation(index, Path(f"shard-0#{index}"), 8, 6, each.boxes, each.classes, each.crowd)
        for index, each in enumerate(dataset.annotations)
    ]
    for origin in (shard, shard.parent):
        shard.write_bytes(b"1")
        packed = Dataset(annotations, ("a",), origin, read=lambda annotation: b"")
        kept = DiskCache(packed, SHAPE, tmp_path / "cache" / origin.name)
        for index in range(2):
            kept.get(index, lambda index=index: pixels_of(index))
        np.testing.assert_array_equal(kept.get(1, never), pixels_of(1))
        shard.write_bytes(b"22")
        kept = DiskCache(packed, SHAPE, tmp_path / "cache" / origin.name)
        np.testing.assert_array_equal(kept.get(1, lambda: pixels_of(3)), pixels_of(3))


def test_a_full_disk_is_said_once_and_the_work_goes_on(dataset, tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    kept = DiskCache(dataset, SHAPE, tmp_path / "cache")
    monkeypatch.setattr(Path, "replace", refuse)
    for index in (0, 1, 0):
        found = kept.get(index, lambda index=index: pixels_of(index))
        np.testing.assert_array_equal(found, pixels_of(index))
    assert caplog.text.count("no more images are kept") == 1
    assert "No space left" in caplog.text
    assert not list((tmp_path / "cache").iterdir())


def test_an_image_that_is_not_there_is_for_the_maker_to_report(dataset, tmp_path):
    dataset.annotations[0].path.unlink()
    kept = DiskCache(dataset, SHAPE, tmp_path / "cache")
    with pytest.raises(FileNotFoundError, match=r"0\.jpg"):
        kept.get(0, lambda: dataset.annotations[0].path.read_bytes())


def test_memory_threads_do_not_read_what_is_being_made(dataset):
    """A second thread makes the image itself while the first has not ended."""
    kept = MemoryCache(dataset, SHAPE)
    started, go_on = threading.Event(), threading.Event()

    def slow():
        started.set()
        assert go_on.wait(10)
        return pixels_of(0)

    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(kept.get, 0, slow)
        assert started.wait(10)
        np.testing.assert_array_equal(kept.get(0, lambda: pixels_of(0)), pixels_of(0))
        go_on.set()
        np.testing.assert_array_equal(first.result(), pixels_of(0))
