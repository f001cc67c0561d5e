import json

import jax.numpy as jnp
import numpy as np
import pytest

from yolo_jax.detection.nms import Suppression
from yolo_jax.export.onnx_file import OPSETS, save_onnx


@pytest.fixture
def run(tmp_path):
    """Returns what writes a program, and then runs the file under onnxruntime."""
    pytest.importorskip("jax2onnx", reason="jax2onnx is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

    def write(program, opset=18):
        path = tmp_path / "model.onnx"
        save_onnx(path, program, opset)
        assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
        session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return session, lambda images: session.run(None, {"images": images})

    return write


@pytest.mark.parametrize("nms", [False, True])
def test_it_finds_the_dog(dog, run, nms):
    _, detect = run(dog.program(nms=nms))
    dog.check(detect(dog.pixels))


@pytest.mark.parametrize("opset", [OPSETS.start, OPSETS.stop - 1])
def test_batches_of_any_size(small, run, opset):
    program = small.program(suppression=Suppression(0.2))
    session, detect = run(program, opset)
    small.check(program, detect, 1, 3)
    assert [output.name for output in session.get_outputs()] == ["boxes", "scores", "classes"]
    assert [output.shape for output in session.get_outputs()] == [
        ["b", 100, 4], ["b", 100], ["b", 100],
    ]  # fmt: skip


def test_a_batch_of_one_size_and_what_is_said_of_the_model(small, run):
    program = small.program(batch=2)
    session, detect = run(program)
    small.check(program, lambda images: detect(np.ascontiguousarray(images)), 2)
    assert session.get_inputs()[0].shape == [2, 64, 96, 3]
    said = session.get_modelmeta().custom_metadata_map
    expected = program.metadata()
    assert said.keys() == expected.keys()
    for name, value in expected.items():
        assert value == (said[name] if isinstance(value, str) else json.loads(said[name]))


def test_jax_numpy_is_left_as_it_was(small, run):
    """jax2onnx replaces `jnp.cumsum` when it loads what it can convert."""
    before = dict(vars(jnp))
    run(small.program())
    after = vars(jnp)
    assert [name for name, function in before.items() if after[name] is not function] == []
    np.testing.assert_array_equal(jnp.cumsum(jnp.arange(3), 0), [0, 1, 3])


def test_fewer_boxes_than_detections(small, run):
    """Of 30 boxes of 3 classes there are 90 pairs."""
    program = small.program(suppression=Suppression(0.2, max_detections=200, max_candidates=1024))
    program.input_shape = (32, 64)
    _, detect = run(program)
    boxes, _, classes = detect(np.ascontiguousarray(small.images[:, :32, :64]))
    assert boxes.shape == (3, 90, 4)
    assert (classes[:, 0] >= 0).all()


@pytest.mark.parametrize("opset", [OPSETS.start - 1, OPSETS.stop, 0])
def test_opsets_that_are_not_supported(small, tmp_path, opset):
    with pytest.raises(ValueError, match=f"the ONNX opset is {opset}; supported are 18 to 23"):
        save_onnx(tmp_path / "a.onnx", small.program(), opset)
    assert not list(tmp_path.iterdir())
