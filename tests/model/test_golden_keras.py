"""Runs of the real Keras, repeated: every number within 1e-5 (see tests/golden/keras/README.md)."""

import json
from itertools import pairwise
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from yolo_jax import Input, Lambda, Model
from yolo_jax.layers import BatchNormalization, Concatenate, Conv2D, Dense, GlobalAveragePooling2D
from yolo_jax.model.sequence import Sequence
from yolo_jax.optimizers import SGD, Adam

GOLDEN = Path(__file__).parents[1] / "golden" / "keras"
CASES = sorted(path.stem for path in GOLDEN.glob("*.npz"))
FITS = [
    name for name in CASES if name.split("_")[0] in ("01", "02", "03", "04", "05", "06", "07", "08")
]
FUNCTIONS = {
    "batch_loss": lambda xs, scale: scale * jnp.mean(jnp.square(xs[0] - xs[1])),
    "row_loss": lambda xs, scale: scale * jnp.sum(jnp.square(xs[0] - xs[1]), axis=1, keepdims=True),
}


class Case:
    """A golden case: its description, arrays, and the model built from them."""

    def __init__(self, name: str) -> None:
        self.spec = json.loads((GOLDEN / f"{name}.json").read_text())
        self.arrays = dict(np.load(GOLDEN / f"{name}.npz"))
        self.model = build(self.spec["model"])
        self.set_weights("w0")
        self.compile()

    def compile(self, devices=None) -> None:
        """Compiles for the given devices, or for all simulated ones."""
        given = dict(self.spec["compile"])
        given["optimizer"] = make_optimizer(given["optimizer"])
        losses = given["loss"]
        if isinstance(losses, dict):
            losses = {key: identity if one == "identity" else one for key, one in losses.items()}
        # Keras's batch normalisation sees the whole batch.
        self.model.compile(**(given | {"loss": losses}), sync_batch_norm=True, devices=devices)

    def set_weights(self, prefix: str) -> None:
        for layer in weighted(self.model):
            layer.set_weights(
                [self.arrays[f"{prefix}/{layer.name}/{name}"] for name in layer.weights]
            )

    def data(self, names):
        if isinstance(names, dict):
            return {key: self.data(value) for key, value in names.items()}
        if isinstance(names, list | tuple):
            return [self.data(name) for name in names]
        return self.arrays[f"data/{names}"]

    def fit_arguments(self) -> dict:
        given = dict(self.spec["fit"])
        kind = given.pop("kind", None)
        if "class_weight" in given:
            given["class_weight"] = {int(k): v for k, v in given["class_weight"].items()}
        for key in ("sample_weight", "validation_data"):
            if key in given:
                given[key] = self.data(given[key])
        if "validation_generator" in given:
            given["validation_data"] = self.batches(given.pop("validation_generator"))
        if kind:
            spec = {key: given.pop(key) for key in ("x", "y", "batch_sizes")}
            return given | {"x": self.batches(spec | {"kind": kind})}
        return given | {"x": self.data(given["x"]), "y": self.data(given["y"])}

    def batches(self, spec: dict):
        ends = np.cumsum([0, *spec["batch_sizes"]])
        x, y = self.data(spec["x"]), self.data(spec["y"])
        rows = [(x[a:b], y[a:b]) for a, b in pairwise(ends)]
        if spec["kind"] == "sequence":
            return Batches(rows)
        return (rows[i % len(rows)] for i in range(10**6))


def weighted(model):
    return [layer for layer in model.layers if getattr(layer, "weights", None)]


class Batches(Sequence):
    """A list of batches."""

    def __init__(self, rows) -> None:
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


def identity(y_true, y_pred):
    return y_pred


def make_optimizer(spec: dict):
    spec = dict(spec)
    return {"sgd": SGD, "adam": Adam}[spec.pop("name")](**spec)


def build(spec: dict) -> Model:
    tensors = {i["name"]: Input(tuple(i["shape"]), name=i["name"]) for i in spec["inputs"]}
    inputs = list(tensors.values())
    for layer in spec["layers"]:
        given = {k: v for k, v in layer.items() if k not in ("type", "on", "function_meaning")}
        on = [tensors[name] for name in layer["on"]]
        tensors[layer["name"]] = make_layer(layer["type"], given)(on[0] if len(on) == 1 else on)
    outputs = [tensors[name] for name in spec["outputs"]]
    return Model(inputs, outputs[0] if len(outputs) == 1 else outputs)


def make_layer(kind: str, given: dict):
    if kind == "Lambda":
        function = given.pop("function")
        return Lambda(FUNCTIONS[function], **given)
    kinds = {
        "Dense": Dense, "Concatenate": Concatenate, "BatchNormalization": BatchNormalization,
        "Conv2D": Conv2D, "GlobalAveragePooling2D": GlobalAveragePooling2D,
    }  # fmt: skip
    return kinds[kind](**given)


def assert_close(found, expected, what):
    np.testing.assert_allclose(
        np.asarray(found, np.float64), np.asarray(expected, np.float64), rtol=1e-5, atol=1e-5,
        err_msg=str(what),
    )  # fmt: skip


def assert_history(history, expected):
    assert history.epoch == expected["epoch"]
    assert set(history.history) == set(expected["history"])
    for key, values in expected["history"].items():
        assert_close(history.history[key], values, key)


def assert_weights(case: Case, prefix: str):
    for layer in weighted(case.model):
        for name, found in zip(layer.weights, layer.get_weights(), strict=True):
            assert_close(
                found, case.arrays[f"{prefix}/{layer.name}/{name}"], f"{layer.name}/{name}"
            )


@pytest.mark.parametrize("name", FITS)
def test_fit_evaluate_and_weights(name):
    case = Case(name)
    expected = case.spec["expected"]
    assert_history(case.model.fit(**case.fit_arguments()), expected)
    assert_weights(case, "w_final")
    given = dict(case.spec["evaluate"])
    arrays = {k: case.data(given.pop(k)) for k in ("x", "y", "sample_weight") if k in given}
    found = case.model.evaluate(**arrays, **given, return_dict=True)
    for key, value in expected["evaluate"].items():
        assert_close(found[key], value, key)


@pytest.mark.parametrize(
    "name",
    ["01_mlp_adam", "02_softmax_both", "03_multi_dict", "06_batchnorm_4d", "05_generator_seq"],
)
def test_one_device_and_eight_give_the_same_history(name):
    """Batches that do not divide among eight are among them."""
    assert len(jax.local_devices()) == 8
    histories = []
    for devices in (jax.local_devices()[:1], None):
        case = Case(name)
        case.compile(devices)
        histories.append(case.model.fit(**case.fit_arguments()).history)
    one, eight = histories
    assert one.keys() == eight.keys()
    for key, values in one.items():
        np.testing.assert_allclose(eight[key], values, rtol=1e-5, atol=1e-7, err_msg=key)


def test_fit_again_goes_on_and_a_new_optimizer_starts_afresh():
    case = Case("12_refit_recompile")
    expected = case.spec["expected"]
    given = case.fit_arguments()
    assert_history(case.model.fit(**given), expected["fit_1"])
    assert_history(case.model.fit(**given), expected["fit_2"])
    third = case.model.fit(**(given | {"initial_epoch": 4, "epochs": 6}))
    assert_history(third, expected["fit_3_initial_epoch_4_epochs_6"])
    assert_weights(case, "w_after_fit_3")
    case.compile()
    assert_history(case.model.fit(**given), expected["fit_4_after_recompile"])
    assert_weights(case, "w_final")


def test_single_batches():
    case = Case("13_on_batch")
    x, y = case.data("x"), case.data("y")
    expected = case.spec["expected"]
    for (a, b), values in zip(
        [(0, 5), (5, 10), (10, None)], expected["train_on_batch"], strict=True
    ):
        assert_close(case.model.train_on_batch(x[a:b], y[a:b]), values, (a, b))
    for (a, b), values in zip([(0, 5), (5, 14)], expected["test_on_batch"], strict=True):
        assert_close(case.model.test_on_batch(x[a:b], y[a:b]), values, (a, b))
    assert_weights(case, "w_final")


def test_metrics_of_single_batches_add_up_where_asked():
    case = Case("13_on_batch")
    x, y = case.data("x"), case.data("y")
    whole = case.model.test_on_batch(x, y)
    case.model.test_on_batch(x[:5], y[:5], reset_metrics=False)
    _, both = case.model.test_on_batch(x[5:], y[5:], reset_metrics=False)
    assert_close(both, whole[1], "both")
    case.compile()
    assert_close(case.model.test_on_batch(x, y, reset_metrics=False), whole, "compiled anew")


def test_freezing_counts_from_the_next_compile():
    case = Case("14_freeze")
    expected = case.spec["expected"]
    case.model.get_layer("h").trainable = False
    with pytest.warns(UserWarning, match="Discrepancy between trainable weights"):
        history = case.model.fit(**case.fit_arguments())
    assert_history(history, expected["fit_1_frozen_after_compile"])
    assert_weights(case, "w_1")
    case.compile()
    assert_history(case.model.fit(**case.fit_arguments()), expected["fit_2_after_recompile"])
    assert_weights(case, "w_final")
