import json

import pytest

from yolo_jax.detection.nms import Suppression
from yolo_jax.export.saved_model import METADATA, save_tensorflow


@pytest.fixture
def run(tmp_path):
    """Returns what writes a program, and then runs the folder by TensorFlow."""
    tf = pytest.importorskip("tensorflow", reason="tensorflow is not installed")

    def write(program):
        folder = tmp_path / "model"
        save_tensorflow(folder, program)
        assert json.loads((folder / METADATA).read_text()) == program.metadata()
        serve = tf.saved_model.load(str(folder)).signatures["serving_default"]

        def detect(images):
            found = serve(images=tf.constant(images))
            return [found[name].numpy() for name in program.output_names]

        return detect

    return write


@pytest.mark.parametrize("nms", [False, True])
def test_it_finds_the_dog(dog, run, nms):
    dog.check(run(dog.program(nms=nms))(dog.pixels))


def test_batches_of_any_size(small, run):
    program = small.program(suppression=Suppression(0.2))
    small.check(program, run(program), 1, 3)


def test_a_batch_of_one_size(small, run):
    program = small.program(batch=2)
    small.check(program, run(program), 2)


def test_folders_that_hold_something_are_refused(small, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="holds something already; name a new folder"):
        save_tensorflow(tmp_path, small.program())
    with pytest.raises(ValueError, match="file is a file; name the folder"):
        save_tensorflow(tmp_path / "file", small.program())
