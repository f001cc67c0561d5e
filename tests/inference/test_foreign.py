"""Weights of keras-yolo3 and PyTorch: the same heads as the network that they are of."""

import h5py
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from yolo_jax import Input
from yolo_jax.inference.foreign import TORCH_EPSILON, assign, is_foreign, read_layers
from yolo_jax.keras_yolo3 import tiny_yolo_body
from yolo_jax.networks.normalisation import EPSILON
from yolo_jax.networks.yolov3 import TinyYOLOv3
from yolo_jax.use.opening import open_detector

CLASSES = 2
IMAGES = np.random.default_rng(0).uniform(0, 1, (1, 64, 64, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def trained():
    """Returns a network whose statistics are not those it began with."""
    network = TinyYOLOv3(CLASSES, rngs=nnx.Rngs(1))
    generator = np.random.default_rng(1)
    for convolution in network.convolutions():
        for part in convolution.darknet_parts()[:-1]:
            part[...] = jnp.asarray(generator.uniform(0.5, 1.5, part.shape), jnp.float32)
    network.eval()
    return network


def state_dict(network):
    """Returns the arrays as PyTorch has them: kernels OIHW, and its epsilon under the root."""
    arrays = {}
    for index, convolution in enumerate(network.convolutions()):
        *own, kernel = (np.asarray(part[...]) for part in convolution.darknet_parts())
        arrays[f"layers.{index}.conv.weight"] = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
        if len(own) == 1:
            arrays[f"layers.{index}.conv.bias"] = own[0]
            continue
        beta, gamma, mean, variance = own
        norm = f"layers.{index}.bn"
        arrays |= {f"{norm}.weight": gamma, f"{norm}.bias": beta, f"{norm}.running_mean": mean}
        arrays[f"{norm}.running_var"] = (np.sqrt(variance) + EPSILON) ** 2 - TORCH_EPSILON
        arrays[f"{norm}.num_batches_tracked"] = np.asarray(7)
    return arrays


def heads(network):
    network.eval()
    return [np.asarray(head) for head in network(jnp.asarray(IMAGES))]


def load(path):
    network = TinyYOLOv3(CLASSES, rngs=nnx.Rngs(2))
    assign(read_layers(path), network, path)
    return network


def test_a_state_dict_of_pytorch(tmp_path, trained):
    save_file(state_dict(trained), tmp_path / "tiny.safetensors")
    for own, other in zip(heads(load(tmp_path / "tiny.safetensors")), heads(trained), strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("whole", [False, True])
def test_keras_yolo3s_own_files(tmp_path, whole):
    model = tiny_yolo_body(Input((64, 64, 3)), 3, CLASSES)
    generator = np.random.default_rng(2)
    model.set_weights([
        array + generator.uniform(0, 0.05, array.shape) for array in model.get_weights()
    ])  # fmt: skip
    path = tmp_path / "tiny.h5"
    model.save_weights(path)
    if whole:  # a file of Keras's model.save has them one group further in
        with h5py.File(path) as weights, h5py.File(tmp_path / "whole.h5", "w") as file:
            weights.copy(weights["/"], file, "model_weights")
        path = tmp_path / "whole.h5"
    expected = model.predict(IMAGES, verbose=0)
    for own, other in zip(heads(load(path)), expected, strict=True):
        other = np.asarray(other)
        np.testing.assert_allclose(own.reshape(other.shape), other, rtol=1e-4, atol=1e-4)


def test_a_bias_before_normalisation_is_taken_off_its_mean(tmp_path, trained):
    arrays = state_dict(trained)
    arrays["layers.0.conv.bias"] = np.full(16, 0.25, np.float32)
    arrays["layers.0.bn.running_mean"] = arrays["layers.0.bn.running_mean"] + 0.25
    save_file(arrays, tmp_path / "tiny.safetensors")
    for own, other in zip(heads(load(tmp_path / "tiny.safetensors")), heads(trained), strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-4, atol=1e-4)


def without(arrays, name):
    return {key: value for key, value in arrays.items() if key != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: without(a, "layers.3.conv.weight"), "has 12 convolutions and 11 batch norm"),
        (lambda a: without(a, "layers.3.bn.bias"), "layers.3.bn lacks 'bias'"),
        (
            lambda a: a | {"layers.2.conv.weight": np.zeros((64, 32, 5, 5), np.float32)},
            r"layers.2.conv has an array of shape \[5, 5, 32, 64\].* \[3, 3, 32, 64\]",
        ),
        (
            lambda a: a | {"layers.1.bn.weight": np.full(32, np.nan, np.float32)},
            "layers.1.bn holds NaN",
        ),
    ],
)
def test_files_that_do_not_fit_are_named_and_change_nothing(tmp_path, trained, change, message):
    path = tmp_path / "tiny.safetensors"
    save_file(change(state_dict(trained)), path)
    network = TinyYOLOv3(CLASSES, rngs=nnx.Rngs(2))
    before = heads(network)
    with pytest.raises(ValueError, match=message):
        assign(read_layers(path), network, path)
    for own, other in zip(heads(network), before, strict=True):
        np.testing.assert_array_equal(own, other)


@pytest.mark.parametrize("name", ["a.pt", "a.pth", "a.PKL"])
def test_pickles_are_never_opened(tmp_path, name):
    path = tmp_path / name  # which is not even there
    assert is_foreign(path)
    with pytest.raises(ValueError, match=f"{name} is a pickle.*safetensors.torch.save_file"):
        read_layers(path)


def test_damaged_files(tmp_path):
    for name in ("a.safetensors", "a.h5"):
        (tmp_path / name).write_bytes(b"neither one nor the other")
        with pytest.raises(ValueError, match=f"{name} is"):
            read_layers(tmp_path / name)
        with pytest.raises(FileNotFoundError, match=f"gone_{name}"):
            read_layers(tmp_path / f"gone_{name}")


def test_bytes_changed_anywhere_in_a_file_are_read_or_refused(tmp_path):
    path, generator = tmp_path / "a.h5", np.random.default_rng(0)
    layers = {
        "conv2d_1": {"conv2d_1/kernel:0": np.ones((3, 3, 3, 8), np.float32)},
        "batch_normalization_1": {
            f"batch_normalization_1/{name}:0": np.ones(8, np.float32)
            for name in ("gamma", "beta", "moving_mean", "moving_variance")
        },
    }
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in layers]
        for name, weights in layers.items():
            group = file.create_group(name)
            group.attrs["weight_names"] = [weight.encode() for weight in weights]
            for weight, array in weights.items():
                group.create_dataset(weight, data=array)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    refused = 0
    for _ in range(300):
        data = whole.copy()
        data[generator.integers(0, len(data), 4)] = generator.integers(0, 256, 4)
        path.write_bytes(data.tobytes())
        try:
            read_layers(path)
        except ValueError as error:
            assert str(path) in str(error)  # noqa: PT017 - many are read
            refused += 1
    assert refused > 50


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full(8, -1, np.float32), r"layers.0.bn holds NaN or infinity"),
        (np.ones(8, bool), r"layers.0.bn holds bool; expected numbers"),
    ],
)
def test_numbers_that_no_network_has(tmp_path, trained, array, message):
    arrays = state_dict(trained)
    norm = next(name for name in arrays if name.endswith("running_var"))
    path = tmp_path / "a.safetensors"
    save_file(arrays | {norm: array.repeat(len(arrays[norm]) // 8)}, path)
    with pytest.raises(ValueError, match=message):
        load(path)


def test_they_are_opened_by_their_suffix(tmp_path, trained):
    path = tmp_path / "tiny.safetensors"
    arrays = state_dict(trained)
    save_file(arrays, path)
    detector = open_detector(path, input_size=64)
    assert (detector.class_names, detector.input_shape) == (("class 0", "class 1"), (64, 64))
    last = max(arrays, key=lambda name: (name.endswith("conv.weight"), int(name.split(".")[1])))
    save_file(arrays | {last: arrays[last][:-1]}, path)
    with pytest.raises(ValueError, match=r"layers.12.conv, the last .* has 20 filters; expected 3"):
        open_detector(path)
    save_file(without(arrays, "layers.3.conv.weight"), path)
    with pytest.raises(ValueError, match="has 12 convolutions; expected 13 of YOLOv3-tiny"):
        open_detector(path)
