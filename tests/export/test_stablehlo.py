import json

import jax
import pytest

from yolo_jax.core.types import Detections
from yolo_jax.detection.decode import Predictions
from yolo_jax.detection.nms import Suppression
from yolo_jax.export.stablehlo import metadata_path, open_exported, save_stablehlo


@pytest.mark.parametrize("nms", [False, True])
def test_it_finds_the_dog(dog, tmp_path, nms):
    path = tmp_path / "tiny.stablehlo"
    save_stablehlo(path, dog.program(nms=nms), ["cpu"])
    dog.check(open_exported(path)(dog.pixels))


@pytest.fixture(scope="module")
def saved(small, tmp_path_factory):
    """Returns a program for any batch, and the file it was written to."""
    program = small.program(suppression=Suppression(0.2))
    path = tmp_path_factory.mktemp("saved") / "small.stablehlo"
    save_stablehlo(path, program)
    return program, path


def test_one_file_serves_batches_of_any_size_and_three_platforms(small, saved):
    program, path = saved
    exported = open_exported(path)
    small.check(program, exported, 1, 3)
    assert exported.platforms == ("cpu", "cuda", "tpu")
    assert exported.metadata == program.metadata()
    assert isinstance(exported(small.images), Detections)
    assert sorted(file.name for file in path.parent.iterdir()) == [
        "small.stablehlo", "small.stablehlo.json",
    ]  # fmt: skip


def test_a_batch_of_one_size_takes_no_other(small, tmp_path):
    path = tmp_path / "two.stablehlo"
    save_stablehlo(path, small.program(batch=2), ["cpu"])
    exported = open_exported(path)
    assert isinstance(exported(small.images[:2]), Predictions)
    with pytest.raises(ValueError, match="2"):
        exported(small.images)


def test_a_file_for_other_platforms_says_so(small, tmp_path):
    path = tmp_path / "tpu.stablehlo"
    save_stablehlo(path, small.program(), ["tpu"])
    with pytest.raises(ValueError, match="tpu.*cpu"):
        open_exported(path)(small.images)


def test_files_that_cannot_be_read_are_named(saved, tmp_path):
    _, good = saved
    path = tmp_path / "bad.stablehlo"
    with pytest.raises(FileNotFoundError):
        open_exported(path)
    path.write_bytes(good.read_bytes()[:100])
    with pytest.raises(FileNotFoundError, match=r"bad.stablehlo.json"):
        open_exported(path)
    said = json.loads(metadata_path(good).read_text())
    metadata_path(path).write_text(json.dumps(said))
    with pytest.raises(ValueError, match="bad.stablehlo cannot be read as a program of jax"):
        open_exported(path)
    metadata_path(path).write_text(json.dumps(said | {"format_version": 99}))
    with pytest.raises(ValueError, match="is of version 99, and this yolo_jax knows none after 1"):
        open_exported(path)
    metadata_path(path).write_text("{}")
    with pytest.raises(ValueError, match="is damaged: it lacks"):
        open_exported(path)


@pytest.mark.parametrize(("platforms", "found"), [([], "none"), (["cpu", "npu"], "cpu, npu")])
def test_platforms_that_are_not_there(small, tmp_path, platforms, found):
    with pytest.raises(ValueError, match=f"some of cpu, cuda, rocm, tpu; found {found}"):
        save_stablehlo(tmp_path / "a", small.program(), platforms)


def test_places_that_cannot_be_written(small, tmp_path):
    with pytest.raises(ValueError, match="is a folder; name the file"):
        save_stablehlo(tmp_path, small.program())
    with pytest.raises(FileNotFoundError, match="there is no folder .*gone to write a in"):
        save_stablehlo(tmp_path / "gone" / "a", small.program())


def test_the_network_is_in_the_file_and_not_in_python(small, saved):
    """A program with its weights needs nothing of this package but the reader."""
    _, path = saved
    exported = jax.export.deserialize(bytearray(path.read_bytes()))
    assert len(exported.in_avals) == 1
    assert len(exported.call(small.images)) == 3
