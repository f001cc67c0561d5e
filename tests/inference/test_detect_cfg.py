import json

import numpy as np
import pytest
from flax import nnx
from PIL import Image

from yolo_jax import cli
from yolo_jax.data.images import read_image
from yolo_jax.detection.nms import Suppression
from yolo_jax.networks.cfg.architecture import read_cfg
from yolo_jax.networks.cfg.network import CfgNetwork
from yolo_jax.networks.darknet import save_weights
from yolo_jax.networks.pretrained import COCO_CLASSES, PretrainedUnavailable, fetch_pretrained
from yolo_jax.use.opening import open_detector

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
