import json
from pathlib import Path

import numpy as np
import pytest
from flax import nnx
from PIL import Image
from safetensors.numpy import save_file

from yolo_jax import cli
from yolo_jax.data.images import read_image
from yolo_jax.detection.nms import Suppression
from yolo_jax.networks.cfg.architecture import read_cfg
from yolo_jax.networks.cfg.network import CfgNetwork, load_cfg_network
from yolo_jax.networks.darknet import count_floats, save_weights
from yolo_jax.networks.pretrained import COCO_CLASSES, PretrainedUnavailable, fetch_pretrained
from yolo_jax.networks.yolov3 import NETWORKS, YOLOv3SPP
from yolo_jax.use import opening
from yolo_jax.use.opening import open_detector, open_network

HEAD = "[net]\nwidth=32\nheight=32\n[convolutional]\nfilters={}\nsize=1\nstride=8\n"
YOLO = "activation=linear\n[yolo]\nanchors=8,8\nclasses={}\n"


@pytest.fixture
def detector_files(tmp_path):
    """Returns what writes a .cfg and drawn weights for a number of classes."""

    def write(num_classes):
        cfg, weights = tmp_path / "small.cfg", tmp_path / "small.weights"
        cfg.write_text(HEAD.format(5 + num_classes) + YOLO.format(num_classes))
        save_weights(weights, CfgNetwork(read_cfg(cfg), rngs=nnx.Rngs(0)))
        return weights, cfg

    return write


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(np.full((24, 32, 3), 128, np.uint8)).save(path)
    return path


def names_file(tmp_path, *names):
    path = tmp_path / "small.names"
    path.write_text("".join(f"{name}\n" for name in names))
    return path


def test_the_command_reads_weights_with_their_own_cfg(tmp_path, detector_files, photo):
    weights, cfg = detector_files(2)
    names, found = names_file(tmp_path, "birch", "larch"), tmp_path / "found.json"
    options = ["--cfg", cfg, "--names", names, "--json", found, "--conf", "0.01"]
    assert cli.main(["detect", *map(str, [weights, photo, *options])]) == 0
    (content,) = json.loads(found.read_text())
    classes = {one["class"] for one in content["detections"]}
    assert classes
    assert classes <= {"birch", "larch"}


@pytest.mark.parametrize(
    ("command", "more"),
    [
        ("detect", ["photo.png", "--size", "64"]),
        ("evaluate", []),
        ("serve", ["--size", "64"]),
        ("export", ["--size", "64", "--format", "onnx", "--out", "a.onnx"]),
    ],
)
def test_every_command_names_its_network_alike(command, more):
    words = ["my.weights", "--cfg", "my.cfg", "--names", "my.names", "--darknet"]
    options = cli.make_parser().parse_args([command, *words, *more])
    found = (options.weights, options.cfg, options.names, options.darknet)
    assert found == ("my.weights", Path("my.cfg"), Path("my.names"), True)
    assert getattr(options, "size", 64) == 64


@pytest.mark.parametrize("option", ["--batch-size", "--max-det"])
def test_none_at_all_is_no_number_of_images_or_objects(option, capsys):
    with pytest.raises(SystemExit):
        cli.main(["detect", "yolov3-tiny", "photo.png", option, "0"])
    assert f"{option}: found '0'; expected a whole number of 1 or more" in capsys.readouterr().err


@pytest.mark.parametrize(("count", "expected"), [(2, ("class 0", "class 1")), (80, COCO_CLASSES)])
def test_classes_without_names(detector_files, count, expected):
    weights, cfg = detector_files(count)
    detector = open_detector(weights, cfg=cfg)
    assert (detector.class_names, detector.input_shape) == (expected, (32, 32))


@pytest.mark.parametrize("names", [("one",), ("one", "two", "three")])
def test_names_of_another_number_are_refused(tmp_path, detector_files, names):
    weights, cfg = detector_files(2)
    path = names_file(tmp_path, *names)
    with pytest.raises(ValueError, match=f"has {len(names)} class names, .* has 2 classes"):
        open_detector(weights, cfg=cfg, names=path)


def drawn(kind, num_classes):
    return nnx.eval_shape(lambda: kind(num_classes, rngs=nnx.Rngs(0)))


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_size_of_a_weights_file_tells_network_and_classes(kind):
    fixed, of_class = opening._FLOATS[kind]
    for classes in (1, 7):
        assert count_floats(drawn(NETWORKS[kind][0], classes)) == fixed + classes * of_class
    others = [opening._FLOATS[other] for other in opening._FLOATS if other != kind]
    for other, own in others:  # of thousands of classes at least
        assert not any((fixed + n * of_class - other) % own == 0 for n in range(1, 2000))


def zeros_file(path, kind, num_classes):
    path.write_bytes(
        bytes([0, 0, 0, 0, 2]) + bytes(15 + 4 * count_floats(drawn(kind, num_classes)))
    )
    return path


@pytest.mark.parametrize("count", [1, 100])
def test_tiny_weights_without_a_cfg_or_names(tmp_path, count):
    path = zeros_file(tmp_path / "my.weights", NETWORKS["tiny"][0], count)
    assert open_network(path).class_names == tuple(f"class {n}" for n in range(count))
    with pytest.raises(ValueError, match=f"small.names has 2 class names, .* has {count} classes"):
        open_network(path, names=names_file(tmp_path, "a", "b"))


@pytest.mark.slow
def test_weights_of_spp_without_a_cfg(tmp_path):
    path = zeros_file(tmp_path / "my.weights", YOLOv3SPP, 3)
    trained = open_network(path)
    assert isinstance(trained.network, YOLOv3SPP)
    assert trained.anchors.strides == (32, 16, 8)


def test_weights_of_another_cfg_are_refused(detector_files):
    weights, _ = detector_files(3)
    data = weights.read_bytes()
    other, cfg = detector_files(2)
    other.write_bytes(data)
    with pytest.raises(ValueError, match=r"holds 32 floats .* CfgNetwork with 2 classes takes 28"):
        open_detector(other, cfg=cfg)


def test_a_run_has_a_cfg_and_names_of_its_own(tmp_path):
    with pytest.raises(ValueError, match=f"names .* is for weights files; the run {tmp_path} has"):
        open_detector(tmp_path, names=names_file(tmp_path, "one"))


def test_an_input_of_another_size(detector_files):
    weights, cfg = detector_files(2)
    assert open_detector(weights, cfg=cfg, input_size=64).input_shape == (64, 64)
    with pytest.raises(ValueError, match="a multiple of 8 px; found 60"):
        open_detector(weights, cfg=cfg, input_size=60)
    with pytest.raises(ValueError, match="16384 px at most; found 100000"):
        open_detector(weights, cfg=cfg, input_size=100_000)
    for size in (0, -64, 64.0, "64", True):
        with pytest.raises(ValueError, match=f"input_size is a whole .* found {size!r}"):
            open_detector(weights, cfg=cfg, input_size=size)


def test_other_programs_weights_with_a_cfg(tmp_path, detector_files):
    weights, cfg = detector_files(2)
    network = load_cfg_network(cfg, weights)
    bias, kernel = (np.asarray(part[...]) for part in network.convolutions()[0].darknet_parts())
    path = tmp_path / "small.safetensors"
    kernel = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))  # PyTorch's order
    save_file({"0.weight": kernel, "0.bias": bias}, path)
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    how = Suppression(0.01)
    own, other = (
        open_detector(one, cfg=cfg, suppression=how).detect([image])[0] for one in (weights, path)
    )
    assert len(own.scores)
    np.testing.assert_array_equal(other.boxes, own.boxes)
    np.testing.assert_array_equal(other.scores, own.scores)
    save_file({"0.weight": kernel[:1], "0.bias": bias[:1]}, path)
    with pytest.raises(ValueError, match=r"0 has an array of shape \[1\], where CfgNetwork of 2"):
        open_detector(path, cfg=cfg)


@pytest.mark.slow
def test_official_weights_find_by_their_cfg_what_they_find_without(golden):
    try:
        weights = str(fetch_pretrained())
    except PretrainedUnavailable as error:
        pytest.skip(str(error))
    cfg = golden / "cfg" / "yolov3-tiny.cfg"
    images = [read_image(golden / "dog.jpg")]
    how = Suppression(0.005)
    (own,) = open_detector(weights, darknet=True, suppression=how).detect(images)
    (found,) = open_detector(weights, cfg=cfg, darknet=True, suppression=how).detect(images)
    assert len(found.classes) > 10
    np.testing.assert_array_equal(found.classes, own.classes)
    np.testing.assert_allclose(found.scores, own.scores, atol=1e-6)
    np.testing.assert_allclose(found.boxes, own.boxes, atol=1e-2)
