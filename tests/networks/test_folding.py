from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from yolo_jax.core.anchors import TINY
from yolo_jax.core.precision import Precision
from yolo_jax.detection.detector import Detector
from yolo_jax.detection.nms import Suppression
from yolo_jax.networks.blocks import ConvBlock, Residual, fold_batch_norm, prepare_to_infer
from yolo_jax.networks.normalisation import BatchNorm, Shift
from yolo_jax.networks.yolov3 import Network, create_network


@cache
def trained() -> Network:
    """Returns a network whose every scale, bias and moving statistic differs from its start."""
    network = create_network("tiny", 2)
    rng = np.random.default_rng(0)
    for _, norm in nnx.iter_graph(network):
        if isinstance(norm, BatchNorm):
            for part, low, high in (
                (norm.scale, 0.5, 1.5),
                (norm.bias, -0.5, 0.5),
                (norm.mean, -0.5, 0.5),
                (norm.var, 0.5, 2.0),
            ):
                part[...] = jnp.asarray(rng.uniform(low, high, part.shape), part.dtype)
    network.train()
    return network


IMAGES = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3), np.uint8)


def test_a_folded_network_gives_what_its_own_does_in_evaluation():
    own, folded = nnx.clone(trained()), fold_batch_norm(trained())
    own.eval()
    assert not any(isinstance(part, BatchNorm) for _, part in nnx.iter_graph(folded))
    run = nnx.jit(lambda network, images: network(images))
    for expected, found in zip(run(own, IMAGES), run(folded, IMAGES), strict=True):
        scale = np.abs(expected).max()
        assert scale > 0.1
        np.testing.assert_allclose(found, expected, atol=1e-5 * scale, rtol=0)


def test_a_network_prepared_for_a_cpu_gives_what_its_own_does_in_evaluation():
    own, prepared = nnx.clone(trained()), prepare_to_infer(trained())
    own.eval()
    tiles = {part.tile for _, part in nnx.iter_graph(prepared) if isinstance(part, ConvBlock)}
    assert tiles > {None}  # some kernels are transformed, others not
    run = nnx.jit(lambda network, images: network(images))
    for expected, found in zip(run(own, IMAGES), run(prepared, IMAGES), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max(), rtol=0)


def test_elsewhere_than_on_cpu_a_network_is_folded_alone(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    prepared = prepare_to_infer(trained())
    jax.tree.map(
        np.testing.assert_array_equal, nnx.state(prepared), nnx.state(fold_batch_norm(trained()))
    )


def test_preparing_again_changes_nothing():
    once = prepare_to_infer(trained())
    jax.tree.map(np.testing.assert_array_equal, nnx.state(once), nnx.state(prepare_to_infer(once)))


def test_the_convolutions_inside_residuals_are_folded_too():
    residual = Residual(8, precision=Precision(), rngs=nnx.Rngs(0))
    for block in (residual.reduce, residual.expand):
        block.norm.var[...] = jnp.linspace(0.5, 2.0, len(block.norm.var))
    folded = fold_batch_norm(residual)
    residual.eval()
    features = np.random.default_rng(2).normal(size=(2, 6, 6, 8)).astype(np.float32)
    np.testing.assert_allclose(folded(features), residual(features), atol=1e-5)
    assert isinstance(folded.expand.norm, Shift)


def test_what_was_folded_is_left_as_it_was():
    network = trained()
    before = jax.tree.map(np.asarray, nnx.state(network))
    fold_batch_norm(network)
    jax.tree.map(np.testing.assert_array_equal, before, nnx.state(network))
    norms = [part for _, part in nnx.iter_graph(network) if isinstance(part, BatchNorm)]
    assert norms
    assert not any(norm.use_running_average for norm in norms)  # still in training


def test_folding_again_changes_nothing():
    once = fold_batch_norm(trained())
    jax.tree.map(np.testing.assert_array_equal, nnx.state(once), nnx.state(fold_batch_norm(once)))


def test_weights_on_the_host_are_folded_as_those_on_a_device():
    graph, state = nnx.split(trained())
    on_host = nnx.merge(graph, jax.device_get(state))  # NumPy's arrays, which are read-only
    jax.tree.map(
        np.testing.assert_array_equal,
        nnx.state(fold_batch_norm(on_host)),
        nnx.state(fold_batch_norm(trained())),
    )


def test_darknet_files_take_no_folded_network():
    block = fold_batch_norm(trained()).convolutions()[0]
    with pytest.raises(ValueError, match="folded BatchNorm has no Darknet weights"):
        block.darknet_parts()


def test_a_detector_goes_on_with_the_weights_of_another_network():
    first, second = create_network("tiny", 2), trained()
    images = [np.asarray(IMAGES[0])]
    wanted, detector = (
        Detector(network, TINY, ("a", "b"), (64, 64), suppression=Suppression(0.0))
        for network in (second, first)
    )
    (expected,) = wanted.detect(images)
    (before,) = detector.detect(images)
    detector.take_weights(second)
    (after,) = detector.detect(images)
    np.testing.assert_array_equal(after.scores, expected.scores)
    assert len(before.scores) != len(after.scores) or not np.array_equal(
        before.scores, after.scores
    )
