import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cfg_oracle import drawn_cfg, drawn_floats, interpreted, parsed
from cfg_texts import TINY_ANCHORS, CfgText, yolov4, yolov4_tiny
from flax import nnx

from yolo_jax.core.anchors import TINY_DARKNET, YOLOV3
from yolo_jax.networks.blocks import ConvBlock, OutputConv, prepare_to_infer
from yolo_jax.networks.cfg.architecture import read_cfg
from yolo_jax.networks.cfg.network import CfgNetwork, load_cfg_network
from yolo_jax.networks.darknet import count_floats, load_weights, save_weights, transfer_heads
from yolo_jax.networks.yolov3 import TinyYOLOv3, YOLOv3, YOLOv3SPP

HEADER = np.array([0, 2, 0], "<i4").tobytes() + np.array([77], "<u8").tobytes()
V4_MASKS = ((6, 7, 8), (3, 4, 5), (0, 1, 2))


def abstract(path):
    architecture = read_cfg(path)
    return nnx.eval_shape(lambda: CfgNetwork(architecture, rngs=nnx.Rngs(0)))


def zeros(create):
    """Returns a network whose weights are not drawn, which takes longer than reading them."""
    network = nnx.eval_shape(create)
    state = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), nnx.state(network))
    nnx.update(network, state)
    return network


def weights_file(path, network, seed=0):
    """Writes a file of drawn weights and returns its floats."""
    values = drawn_floats(network, seed)
    path.write_bytes(HEADER + values.tobytes())
    return values


def cfg_file(tmp_path, text):
    path = tmp_path / "drawn.cfg"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("name", "floats", "convolutions"),
    [
        ("yolov3", 62_001_757, 75),
        ("yolov3-spp", 63_052_381, 76),
        ("yolov3-tiny", 8_858_734, 13),
        ("yolov3-voc", 61_678_657, 75),
    ],
)
def test_darknets_own_files_have_the_size_of_its_weights(golden, name, floats, convolutions):
    network = abstract(golden / "cfg" / f"{name}.cfg")
    assert count_floats(network) == floats
    assert len(network.convolutions()) == convolutions
    outputs = [one for one in network.convolutions() if isinstance(one, OutputConv)]
    assert len(outputs) == len(network.anchors.masks)


def test_anchors_input_and_classes_are_the_files_own(golden):
    voc = read_cfg(golden / "cfg" / "yolov3-voc.cfg")
    assert (voc.anchors, voc.num_classes, voc.input_shape) == (YOLOV3, 20, (416, 416))
    tiny = read_cfg(golden / "cfg" / "yolov3-tiny.cfg")
    assert (tiny.anchors, tiny.num_classes) == (TINY_DARKNET, 80)


def test_a_file_changed_to_one_class_has_the_size_of_such_weights(golden, tmp_path):
    text = (golden / "cfg" / "yolov3-voc.cfg").read_text()
    path = cfg_file(tmp_path, text.replace("=75", "=18").replace("=20", "=1"))
    assert count_floats(abstract(path)) == 61_576_342


def test_yolov4_has_the_size_of_its_weights(tmp_path):
    network = abstract(cfg_file(tmp_path, yolov4()))
    assert count_floats(network) == 64_429_405
    assert len(network.convolutions()) == 110
    anchors = network.anchors
    assert (anchors.strides, anchors.masks) == ((32, 16, 8), V4_MASKS)
    assert anchors.xy_scales == (1.05, 1.1, 1.2)
    image = jax.ShapeDtypeStruct((1, 64, 96, 3), jnp.uint8)
    heads = nnx.eval_shape(lambda network, image: network(image), network, image)
    shapes = [head.shape for head in heads]
    assert shapes == [(1, 2, 3, 255), (1, 4, 6, 255), (1, 8, 12, 255)]


def test_yolov4_tiny_has_the_size_of_its_weights(tmp_path):
    network = abstract(cfg_file(tmp_path, yolov4_tiny()))
    assert count_floats(network) == 6_062_814
    assert network.anchors.masks == ((3, 4, 5), (1, 2, 3))
    assert network.anchors.xy_scales == (1.05, 1.05)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("yolov3-tiny", TinyYOLOv3),
        pytest.param("yolov3", YOLOv3, marks=pytest.mark.slow),
        pytest.param("yolov3-spp", YOLOv3SPP, marks=pytest.mark.slow),
    ],
)
def test_heads_and_file_are_those_of_the_networks_own_class(golden, tmp_path, name, kind):
    expected = zeros(lambda: kind(80, rngs=nnx.Rngs(0)))
    path, copy = tmp_path / "in.weights", tmp_path / "out.weights"
    weights_file(path, expected)
    load_weights(path, expected)
    found = load_cfg_network(golden / "cfg" / f"{name}.cfg", path)
    for network in (expected, found):
        network.eval()
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), np.uint8)
    run = nnx.jit(lambda network, image: network(image))
    for own, other in zip(run(expected, image), run(found, image), strict=True):
        assert np.abs(own).max() > 0.1
        np.testing.assert_allclose(other, own, rtol=0, atol=1e-6 * np.abs(own).max())
    save_weights(copy, found, seen=77)
    assert copy.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("write", [yolov4, yolov4_tiny])
def test_yolov4s_files_come_back_byte_for_byte(tmp_path, write):
    # A sixteenth of the filters: whole, YOLOv4's weights take 260 MB.
    lines = write(64, 3).splitlines()
    thin = [
        f"filters = {int(line.split()[2]) // 16}"
        if line.startswith("filters") and line != "filters = 24"
        else line
        for line in lines
    ]
    cfg, path = cfg_file(tmp_path, "\n".join(thin)), tmp_path / "in.weights"
    weights_file(path, abstract(cfg))
    network = load_cfg_network(cfg, path)
    save_weights(copy := tmp_path / "out.weights", network, seen=77)
    assert copy.read_bytes() == path.read_bytes()
    for length in (19, 100, path.stat().st_size - 4, path.stat().st_size - 1):
        copy.write_bytes(path.read_bytes()[:length])
        with pytest.raises(ValueError, match="cut short"):
            load_weights(copy, network)
    copy.write_bytes(path.read_bytes() + bytes(4))
    with pytest.raises(ValueError, match="of another network or number of classes"):
        load_weights(copy, network)
    copy.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    with pytest.raises(ValueError, match="does not start as a Darknet weights file"):
        load_weights(copy, network)


KINDS = {"net", "convolutional", "maxpool", "upsample", "route", "shortcut", "yolo"}
SEEDS = range(8)


def test_drawn_files_have_layers_of_every_kind():
    texts = [drawn_cfg(seed) for seed in SEEDS]
    assert {kind for text in texts for kind, _ in parsed(text)} == KINDS
    for option in ("groups = 2", "batch_normalize = 0", "scale = 0.5", "group_id = 1", "mish"):
        assert any(option in text for text in texts), option


@pytest.mark.parametrize("seed", SEEDS)
def test_heads_are_those_of_a_plain_interpreter(tmp_path, seed):
    text = drawn_cfg(seed)
    cfg, path = cfg_file(tmp_path, text), tmp_path / "drawn.weights"
    values = weights_file(path, abstract(cfg), seed)
    network = load_cfg_network(cfg, path)
    network.eval()
    image = np.random.default_rng(seed).random((24, 32, 3), np.float32)
    expected = sorted(interpreted(text, values, image), key=len)  # coarse to fine
    run = nnx.jit(lambda network, image: network(image))
    for network_or_prepared in (network, prepare_to_infer(network)):
        found = run(network_or_prepared, image[None])
        for own, head in zip(expected, found, strict=True):
            assert head.dtype == jnp.float32
            np.testing.assert_allclose(head[0], own, rtol=0, atol=2e-5 * np.abs(own).max())
    save_weights(copy := tmp_path / "copy.weights", network, seen=77)
    assert copy.read_bytes() == path.read_bytes()


def test_it_trains_as_the_blocks_do(tmp_path):
    network = CfgNetwork(read_cfg(cfg_file(tmp_path, drawn_cfg(0))), rngs=nnx.Rngs(0))
    image = np.random.default_rng(0).random((2, 24, 32, 3), np.float32)
    mask = jnp.asarray([True, False])

    @nnx.jit
    def gradient(network, image):
        return nnx.grad(lambda net: sum(jnp.square(h[0]).sum() for h in net(image, mask)))(network)

    changed = image.copy()
    changed[1] = 9
    first, second = gradient(nnx.clone(network), image), gradient(nnx.clone(network), changed)
    used = [float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(first)]
    assert all(math.isfinite(value) for value in used)
    assert sum(value > 0 for value in used) > len(used) / 2
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), first, second)


def test_heads_move_to_other_classes(tmp_path):
    def network(num_classes, seed):
        cfg = CfgText(32)
        cfg.conv(4, 3)
        cfg.head((0, 1), TINY_ANCHORS, num_classes)
        return CfgNetwork(read_cfg(cfg_file(tmp_path, cfg.text)), rngs=nnx.Rngs(seed))

    source, target = network(3, 0), network(2, 1)
    transfer_heads(source, target)
    block, output = target.convolutions()
    assert isinstance(block, ConvBlock)
    np.testing.assert_array_equal(block.kernel[...], source.blocks[0].kernel[...])
    own, other = (np.asarray(one.blocks[1].kernel[...])[0, 0] for one in (target, source))
    np.testing.assert_array_equal(own.reshape(4, 2, 7)[..., :5], other.reshape(4, 2, 8)[..., :5])


def test_an_input_that_cells_do_not_fill_is_refused(tmp_path):
    network = abstract(cfg_file(tmp_path, yolov4_tiny(96)))
    with pytest.raises(ValueError, match="multiple of 32 px in height and width; found 40×64"):
        network(jnp.zeros((1, 40, 64, 3)))


def test_scales_with_anchors_of_their_own_keep_them(tmp_path):
    cfg = CfgText(32)
    middle = cfg.conv(4, 3, 2)
    cfg.head((1,), "10,14, 23,27", 1)
    cfg.route(middle)
    cfg.add("maxpool", size=2, stride=2)
    cfg.head((0,), "100,140, 5,5", 1, 1.5)
    anchors = read_cfg(cfg_file(tmp_path, cfg.text)).anchors
    assert anchors.strides == (4, 2)
    assert anchors.xy_scales == (1.5, 1)
    np.testing.assert_array_equal(anchors.scale_sizes(0), [[100, 140]])
    np.testing.assert_array_equal(anchors.scale_sizes(1), [[23, 27]])


def test_an_architecture_can_be_compared(golden):
    one = read_cfg(golden / "cfg" / "yolov3-tiny.cfg")
    assert one == read_cfg(golden / "cfg" / "yolov3-tiny.cfg")
    assert one != dataclasses.replace(one, num_classes=1)
