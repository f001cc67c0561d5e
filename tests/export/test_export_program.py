import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from yolo_jax.core.anchors import TINY, YOLOV3
from yolo_jax.core.json_files import check_shape
from yolo_jax.core.precision import Precision
from yolo_jax.detection.decode import decode
from yolo_jax.detection.nms import Suppression
from yolo_jax.export.program import Metadata, Program
from yolo_jax.networks.convolution import conv2d, max_pool, plain_operations
from yolo_jax.networks.yolov3 import TinyYOLOv3, YOLOv3


def operations(run, *arguments):
    return [str(equation.primitive) for equation in jax.make_jaxpr(run)(*arguments).eqns]


def test_plain_operations_are_one_each_and_give_the_same():
    values = jax.random.normal(jax.random.key(0), (2, 8, 12, 5))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 5, 7))
    padding = ((1, 1), (1, 1))
    for run in (
        lambda x: conv2d(x, kernel, 1, padding),
        lambda x: max_pool(x, 2, 1),
        lambda x: max_pool(x, 2, 2),
    ):
        usual = run(values)
        with plain_operations():
            assert len(operations(run, values)) == 1
            np.testing.assert_allclose(run(values), usual, atol=1e-5)
        assert "reduce_window_max" not in operations(run, values)  # nor from a cache


def test_it_gives_what_the_network_gives_in_evaluation(small):
    evaluated = nnx.clone(small.network)
    evaluated.eval()
    expected = decode(evaluated(small.images), TINY)
    found = small.program()(small.images)
    for output, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(output, wanted, rtol=1e-4, atol=1e-3)


def test_a_network_of_a_gpu_is_exported_in_float32(small):
    half = TinyYOLOv3(3, precision=Precision(compute=jnp.bfloat16), rngs=nnx.Rngs(1))
    program = Program(half, TINY, ("a", "b", "c"), (64, 96))
    assert "bf16" not in str(jax.make_jaxpr(program.__call__)(small.images))
    for one, other in zip(program(small.images), small.program()(small.images), strict=True):
        np.testing.assert_array_equal(one, other)
    assert half.precision.compute == jnp.bfloat16


def test_any_batch_is_traced_for_yolov3_made_on_a_tpu(small):
    def outputs(images):
        network = YOLOv3(3, rngs=nnx.Rngs(0))  # traced too: its shapes are all that is asked for
        network.body.halves = True
        return Program(network, YOLOV3, ("a", "b", "c"), (64, 96))(images)

    boxes, scores = jax.eval_shape(outputs, small.program().input_spec())
    assert str(boxes.shape) == "(b, 378, 4)"
    assert str(scores.shape) == "(b, 378, 3)"


def test_metadata_are_json_of_their_kind(small):
    for how, names in (
        (None, ["boxes", "scores"]),
        (Suppression(0.5), ["boxes", "scores", "classes"]),
    ):
        program = small.program(suppression=how, batch=2)
        metadata = json.loads(json.dumps(program.metadata()))
        check_shape(metadata, Metadata)
        assert list(metadata["outputs"]) == list(program.output_names) == names
        assert metadata["class_names"] == ["ash", "birch", "cedar"]
        assert (metadata["height"], metadata["width"], metadata["batch"]) == (64, 96, 2)
        assert metadata.get("score_threshold") == (how and 0.5)
    assert small.program().metadata()["batch"] == -1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 0}, "the batch is a whole number, 1 or more; found 0"),
        ({"suppression": Suppression(kind="soft")}, "suppress greedily within each class"),
        ({"suppression": Suppression(class_agnostic=True)}, "export without suppression"),
    ],
)
def test_what_no_format_has_is_refused(small, options, message):
    with pytest.raises(ValueError, match=message):
        small.program(**options)
