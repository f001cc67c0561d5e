"""keras-yolo3's models: how their layers count, and which weights they take."""

import jax
import numpy as np
import pytest
from flax import nnx

from yolo_jax import Input, K
from yolo_jax.keras_yolo3 import tiny_yolo_body, yolo_body
from yolo_jax.layers import BatchNormalization, Conv2D
from yolo_jax.networks import darknet
from yolo_jax.networks.yolov3 import TinyYOLOv3


@pytest.fixture(scope="module")
def yolov3():
    K.clear_session()
    return yolo_body(Input((None, None, 3)), 3, 20)


@pytest.fixture
def tiny():
    K.clear_session()
    return tiny_yolo_body(Input((None, None, 3)), 3, 2)


def test_yolov3_counts_its_layers_as_keras_does(yolov3):
    assert len(yolov3.layers) == 252
    # The body: 52 convolutions and its last sum; the outputs: of 1024, 512 and 256 channels.
    assert yolov3.layers[184].name == "add_23"
    assert sum(isinstance(layer, Conv2D) for layer in yolov3.layers[:185]) == 52
    assert [layer.kernel.shape[2] for layer in yolov3.layers[-3:]] == [1024, 512, 256]
    # By their names in the files that keras-yolo3's convert.py writes.
    assert [layer.name for layer in yolov3.layers[-3:]] == ["conv2d_59", "conv2d_67", "conv2d_75"]
    # Where keras-yolo3 reads the finer features by number.
    assert [yolov3.layers[i].name for i in (92, 152)] == ["add_11", "add_19"]
    assert yolov3.output[0].shape == (None, None, None, 75)
    for layer in yolov3.layers:
        if isinstance(layer, Conv2D):
            penalty = 5e-4 * float((layer.kernel[...] ** 2).sum())
            assert float(layer.penalty()) == pytest.approx(penalty, rel=1e-4)


def test_tiny_counts_its_layers_as_keras_does(tiny):
    assert len(tiny.layers) == 44
    assert sum(isinstance(layer, Conv2D) for layer in tiny.layers[:20]) == 5
    assert [layer.use_bias for layer in tiny.layers if isinstance(layer, Conv2D)][-2:] == [True] * 2
    assert all(isinstance(layer, Conv2D) for layer in tiny.layers[-2:])
    assert [layer.name for layer in tiny.layers[:3]] == [
        "input_1", "conv2d_1", "batch_normalization_1",
    ]  # fmt: skip


def test_a_darknet_file_gives_the_outputs_of_the_network_that_wrote_it(tiny, tmp_path):
    network = TinyYOLOv3(2, rngs=nnx.Rngs(3))
    network.eval()
    darknet.save_weights(tmp_path / "w.weights", network)
    tiny.load_weights(tmp_path / "w.weights", by_name=True)
    image = np.random.default_rng(0).random((2, 64, 96, 3), np.float32)
    expected = jax.jit(lambda image: network(image))(image)
    # Keras adds epsilon to the variance, Darknet to its root.
    for layer in tiny.layers:
        if isinstance(layer, BatchNormalization):
            layer.norm.epsilon = 0.0
    for found, wanted in zip(tiny(image), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    tiny.save_weights(tmp_path / "folder" / "again.weights")
    first, again = (tmp_path / "w.weights"), (tmp_path / "folder" / "again.weights")
    assert first.read_bytes() == again.read_bytes()


def test_outputs_of_other_classes_are_skipped_where_that_is_asked_for(tiny, tmp_path):
    network = TinyYOLOv3(80, rngs=nnx.Rngs(3))
    darknet.save_weights(tmp_path / "w.weights", network)
    before = {layer.name: layer.get_weights() for layer in tiny.layers[-2:]}
    with pytest.raises(ValueError, match="DarknetLayers with 2 classes takes"):
        tiny.load_weights(tmp_path / "w.weights")
    with pytest.warns(UserWarning, match="of 80 classes, and the model of 2: conv2d_10, conv2d_13"):
        tiny.load_weights(tmp_path / "w.weights", by_name=True, skip_mismatch=True)
    for layer in tiny.layers[-2:]:
        for old, new in zip(before[layer.name], layer.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)
    stem = network.convolutions()[0]
    np.testing.assert_array_equal(tiny.layers[1].get_weights()[0], stem.kernel[...])


def test_h5_goes_by_name_and_skips_what_differs(tiny, tmp_path):
    tiny.save_weights(tmp_path / "w.h5")
    K.clear_session()
    other = tiny_yolo_body(Input((None, None, 3)), 3, 7)
    with pytest.warns(UserWarning, match="it keeps its own"):
        other.load_weights(tmp_path / "w.h5", by_name=True, skip_mismatch=True)
    for mine, theirs in zip(tiny.layers[1:-2], other.layers[1:-2], strict=True):
        for old, new in zip(mine.get_weights(), theirs.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)


def test_a_file_of_another_network_is_refused(tiny, tmp_path):
    path = tmp_path / "w.weights"
    darknet.save_weights(path, TinyYOLOv3(2, rngs=nnx.Rngs(0)))
    path.write_bytes(path.read_bytes()[:-400])
    for skip in (False, True):
        with pytest.raises(ValueError, match="ends in convolution 12 of 13"):
            tiny.load_weights(path, by_name=skip, skip_mismatch=skip)


@pytest.mark.parametrize("body", [yolo_body, tiny_yolo_body])
def test_sizes_that_do_not_halve_are_refused(body):
    for shape in ((70, 70, 3), (64, 70, 3), (70, None, 3)):
        with pytest.raises(ValueError, match="'photo' .*multiples of 32 or None; found .*70"):
            body(Input(shape, name="photo"), 3, 2)
    with pytest.raises(ValueError, match=r"\(height, width, channels\).*found \(64, 64\)"):
        body(Input((64, 64)), 3, 2)


def test_one_known_side_is_enough():
    model = tiny_yolo_body(Input((64, None, 3)), 3, 2)
    assert [output.shape for output in model.predict(np.zeros((1, 64, 96, 3)))] == [
        (1, 2, 3, 21), (1, 4, 6, 21),
    ]  # fmt: skip
