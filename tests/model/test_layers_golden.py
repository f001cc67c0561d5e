"""Predictions of recorded Keras models, layer by layer."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from yolo_jax import layers as L  # noqa: N812 - as Keras's users write it
from yolo_jax.model.graph import Graph

GOLDEN = Path(__file__).parents[1] / "golden" / "keras"


def functions(name, scale):
    match name:
        case "row_loss":
            return lambda xs, scale: scale * jnp.square(xs[0] - xs[1]).sum(-1, keepdims=True)
        case "batch_loss":
            return lambda xs, scale: scale * jnp.square(xs[0] - xs[1]).mean()


def build(described):
    tensors = {one["name"]: L.Input(one["shape"], name=one["name"]) for one in described["inputs"]}
    inputs, made = list(tensors.values()), {}
    for one in described["layers"]:
        options = {k: v for k, v in one.items() if k not in ("type", "on", "function_meaning")}
        if one["type"] == "Lambda":
            options["function"] = functions(options["function"], options["arguments"])
        made[one["name"]] = layer = getattr(L, one["type"])(**options)
        on = [tensors[name] for name in one["on"]]
        tensors[one["name"]] = layer(on if len(on) > 1 else on[0])
    return Graph(inputs, [tensors[name] for name in described["outputs"]]), made


CASES = [path.stem for path in sorted(GOLDEN.glob("*.npz")) if "predict/0" in np.load(path)]


@pytest.mark.parametrize("case", CASES)
def test_predictions_of_golden_runs(case):
    described = json.loads((GOLDEN / f"{case}.json").read_text())
    arrays = np.load(GOLDEN / f"{case}.npz")
    graph, made = build(described["model"])
    for name, layer in made.items():
        layer.set_weights([arrays[f"w_final/{name}/{kind}"] for kind in layer.weights])
    x = described["evaluate"]["x"]
    match x:
        case dict():
            x = [x[tensor.name] for tensor in graph.inputs]
        case str():
            x = [x]
    outputs = graph([arrays[f"data/{name}"] for name in x])
    for index, found in enumerate(outputs):
        expected = arrays[f"predict/{index}"]
        if np.ndim(found) == 0:
            continue  # A scalar of the whole batch; what predict makes of it is the model's part.
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_there_are_golden_runs():
    assert len(CASES) >= 20
