from dataclasses import replace

import numpy as np
import pytest
from flax import nnx

from yolo_jax.core.anchors import TINY, TINY_DARKNET, YOLOV3, AnchorSet
from yolo_jax.networks.cfg.architecture import read_cfg
from yolo_jax.networks.cfg.layers import Yolo
from yolo_jax.networks.cfg.network import load_cfg_network
from yolo_jax.networks.cfg.writing import cfg_text
from yolo_jax.networks.darknet import save_weights
from yolo_jax.networks.yolov3 import NETWORKS, TinyYOLOv3


def of_kind(kind, num_classes):
    """Returns a network without numbers."""
    return nnx.eval_shape(lambda: NETWORKS[kind][0](num_classes, rngs=nnx.Rngs(0)))


def without_lines(layers):
    return [replace(one, line=0) if isinstance(one, Yolo) else one for one in layers]


@pytest.mark.parametrize(
    ("kind", "name", "anchors"),
    [
        ("tiny", "yolov3-tiny", TINY_DARKNET),
        ("yolov3", "yolov3", YOLOV3),
        ("yolov3_spp", "yolov3-spp", YOLOV3),
    ],
)
def test_its_layers_are_those_of_darknets_own_file(golden, tmp_path, kind, name, anchors):
    expected = read_cfg(golden / "cfg" / f"{name}.cfg")
    path = tmp_path / "written.cfg"
    path.write_text(cfg_text(of_kind(kind, 80), anchors, expected.input_shape))
    found = read_cfg(path)
    assert without_lines(found.layers) == without_lines(expected.layers)
    assert replace(found, layers=()) == replace(expected, layers=())


@pytest.mark.parametrize("kind", ["yolov3", "yolov3_spp"])
def test_classes_sizes_and_anchors_are_the_networks(tmp_path, kind):
    sizes = tuple((float(np.float32(x / 7)), x + 0.1) for x in range(1, 10))
    anchors = AnchorSet(sizes, YOLOV3.masks, YOLOV3.strides, (1.05, 1.0, 1.2))
    path = tmp_path / "written.cfg"
    path.write_text(cfg_text(of_kind(kind, 1), anchors, (64, 96)))
    found = read_cfg(path)
    assert (found.anchors, found.num_classes, found.input_shape) == (anchors, 1, (64, 96))


def test_weights_read_by_it_predict_the_same(tmp_path):
    network = TinyYOLOv3(3, rngs=nnx.Rngs(1))
    network.eval()
    cfg, weights = tmp_path / "a.cfg", tmp_path / "a.weights"
    cfg.write_text(cfg_text(network, TINY, (64, 96)))
    save_weights(weights, network)
    found = load_cfg_network(cfg, weights)
    found.eval()
    assert (found.anchors, found.input_shape) == (TINY, (64, 96))
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 64, 3), np.uint8)
    run = nnx.jit(lambda network, image: network(image))
    for one, other in zip(run(found, image), run(network, image), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)


def test_a_network_of_another_class_is_refused():
    class Slim(TinyYOLOv3):
        """Of fewer filters, say, than the layers that are written."""

    with pytest.raises(ValueError, match=r"of TinyYOLOv3, YOLOv3, YOLOv3SPP; found a Slim"):
        cfg_text(Slim(1, rngs=nnx.Rngs(0)), TINY, (64, 64))
