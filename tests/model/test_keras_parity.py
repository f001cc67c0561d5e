"""Random models, data and arguments of `fit`: all numbers equal the real Keras 3's.

Drawn: one or two inputs; dense and convolutional layers, batch normalisation, activations, pooling,
merging; one or two outputs with losses by name, weights of losses, metrics by output; SGD with and
without (Nesterov) momentum, and Adam; batch sizes that divide and that do not; epochs and initial
epochs; arrays, a Sequence or a generator; validation data or a split, every or every other epoch;
sample weights or class weights; penalties on kernels; frozen layers.

Left out, where Keras 2.3 (which yolo_jax follows) and Keras 3 disagree, or where chance enters:
- shuffling, dropout: other random numbers;
- metrics as one flat list for several outputs, loss dicts that lack an output, weights and plain
  metrics of one name: other meanings or names;
- RMSprop and Adagrad: epsilon stands elsewhere in the formula;
- class weights together with sample weights, or on several outputs: Keras 3 refuses them;
- weights of (rows, steps), tuples as data, targets of an unexpected shape: Keras 3 reshapes,
  spreads or refuses differently;
- frozen batch normalisation: its statistics and mode were changed between the two;
- penalties on frozen layers: they count in Keras 2.3's loss, not in Keras 3's;
- a bias before batch normalisation: its gradient is 0 but for rounding, whose sign Adam follows;
- masks: Keras 2.3 divides the loss by all elements;
- steps_per_epoch with arrays, validation from generators that go on over epochs: other meanings.
"""

import os
import tempfile
from dataclasses import dataclass
from typing import Any

# Before Keras is imported: it reads these once. Its home is where it writes its configuration.
os.environ |= {"KERAS_BACKEND": "jax", "KERAS_HOME": tempfile.mkdtemp(prefix="yolo_jax_keras_")}

import jax
import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import yolo_jax
from yolo_jax import Input, Model
from yolo_jax import layers as our_layers
from yolo_jax import optimizers as our_optimizers
from yolo_jax.regularizers import l2

CLOSE = {"rtol": 1e-4, "atol": 1e-4}
CLASSES = 3
# Loss by name: activation and units of the output, and metrics that suit it.
LOSSES = {
    "mse": (None, 2, ["mae"]),
    "mae": ("tanh", 1, ["mse"]),
    "binary_crossentropy": ("sigmoid", 1, ["accuracy"]),
    "categorical_crossentropy": ("softmax", CLASSES, ["accuracy", "mse"]),
    "sparse_categorical_crossentropy": ("softmax", CLASSES, ["accuracy"]),
}
ACTIVATIONS = ["relu", "tanh", "sigmoid"]


@dataclass
class Case:
    """What is drawn; see `cases`."""

    images: bool
    inputs: int
    activation: str
    normalise: bool
    pool: str
    merge: str
    penalty: float
    frozen: bool
    losses: list[str]
    loss_weights: Any
    metrics: bool
    weighted: bool
    optimizer: tuple[str, dict[str, Any]]
    rows: int
    batch_size: int
    epochs: int
    initial_epoch: int
    kind: str
    weights: str
    validation: str
    freq: int
    seed: int


@st.composite
def cases(draw):
    images = draw(st.sampled_from([False, False, True]))
    frozen = draw(st.sampled_from([False, False, True]))
    losses = draw(st.lists(st.sampled_from(sorted(LOSSES)), min_size=1, max_size=2))
    epochs = draw(st.integers(1, 3))
    optimizer = draw(
        st.sampled_from(
            [
                ("SGD", {}),
                ("SGD", {"momentum": 0.9}),
                ("SGD", {"momentum": 0.8, "nesterov": True}),
                ("Adam", {}),
                ("Adam", {"beta_1": 0.8, "epsilon": 1e-3}),
            ]
        )
    )
    kind = draw(st.sampled_from(["arrays", "arrays", "sequence", "generator"]))
    weights = ["none", "none", "rows"]
    if len(losses) == 1 and losses[0] in ("binary_crossentropy", "categorical_crossentropy"):
        weights.append("classes")
    return Case(
        images=images,
        inputs=1 if images else draw(st.integers(1, 2)),
        activation=draw(st.sampled_from(ACTIVATIONS)),
        normalise=draw(st.booleans()),
        pool=draw(st.sampled_from(["max", "average", "flatten"])),
        merge=draw(st.sampled_from(["Concatenate", "Add", "Multiply"])),
        penalty=0.0 if frozen else draw(st.sampled_from([0.0, 0.02])),
        frozen=frozen,
        losses=losses,
        loss_weights=draw(st.sampled_from([None, [0.5, 2.0][: len(losses)]])),
        metrics=draw(st.booleans()),
        weighted=draw(st.booleans()),
        optimizer=optimizer,
        rows=draw(st.integers(8, 14)),
        batch_size=draw(st.sampled_from([3, 4, 20])),
        epochs=epochs,
        initial_epoch=draw(st.sampled_from([0, 0, 0, epochs - 1, epochs])),
        kind=kind,
        weights=draw(st.sampled_from(weights)) if kind == "arrays" else "none",
        validation=draw(
            st.sampled_from(["none", "data", "split" if kind == "arrays" else "weighted"])
        ),
        freq=draw(st.sampled_from([1, 1, 2])),
        seed=draw(st.integers(0, 2**16)),
    )


def data(case: Case, rows: int, generator: np.random.Generator):
    """Draws inputs and targets, one array for each."""
    shapes = [(6, 6, 2)] if case.images else [(4,), (4,)][: case.inputs]
    x = [generator.normal(size=(rows, *shape)).astype(np.float32) for shape in shapes]
    y = []
    for loss in case.losses:
        match loss:
            case "binary_crossentropy":
                y.append(generator.integers(0, 2, (rows, 1)).astype(np.float32))
            case "categorical_crossentropy":
                y.append(np.eye(CLASSES, dtype=np.float32)[generator.integers(0, CLASSES, rows)])
            case "sparse_categorical_crossentropy":
                y.append(generator.integers(0, CLASSES, (rows, 1)).astype(np.float32))
            case _:
                y.append(generator.normal(size=(rows, LOSSES[loss][1])).astype(np.float32))
    return x, y


def build(case: Case, layers: Any, make_input: Any, make_model: Any, penalty: Any):
    """Builds the case's model of one side's layers."""
    regularizer = penalty(case.penalty) if case.penalty else None
    shapes = [(6, 6, 2)] if case.images else [(4,), (4,)][: case.inputs]
    inputs = [make_input(shape, name=f"x{i}") for i, shape in enumerate(shapes)]
    hidden = []
    for i, x in enumerate(inputs):
        given = {"use_bias": not case.normalise, "kernel_regularizer": regularizer}
        if case.images:
            layer = layers.Conv2D(3, 3, padding="same", name="c", **given)
        else:
            layer = layers.Dense(5, name=f"h{i}", **given)
        layer.trainable = not (case.frozen and i == 0)
        h = layer(x)
        if case.normalise:
            h = layers.BatchNormalization(name=f"bn{i}")(h)
        h = layers.Activation(case.activation, name=f"a{i}")(h)
        if case.images and case.pool == "max":
            h = layers.Flatten(name="f")(layers.MaxPooling2D(2, name="p")(h))
        elif case.images and case.pool == "average":
            h = layers.GlobalAveragePooling2D(name="p")(h)
        elif case.images:
            h = layers.Flatten(name="f")(h)
        hidden.append(h)
    h = hidden[0] if len(hidden) == 1 else getattr(layers, case.merge)(name="m")(hidden)
    outputs = []
    for i, loss in enumerate(case.losses):
        activation, units, _ = LOSSES[loss]
        outputs.append(layers.Dense(units, activation=activation, name=f"out{i}")(h))
    return make_model(inputs, outputs[0] if len(outputs) == 1 else outputs)


def compile_arguments(case: Case) -> dict[str, Any]:
    names = [f"out{i}" for i in range(len(case.losses))]
    found: dict[str, Any] = {"loss": dict(zip(names, case.losses, strict=True))}
    if case.loss_weights is not None:
        found["loss_weights"] = dict(zip(names, case.loss_weights, strict=True))
    metrics = {name: LOSSES[loss][2] for name, loss in zip(names, case.losses, strict=True)}
    if case.metrics:
        found["weighted_metrics" if case.weighted else "metrics"] = metrics
    return found


class Cut:
    """Batches of arrays; the part of both sides' Sequences that is ours to write."""

    def __init__(self, x, y, size):
        super().__init__()
        self.x, self.y, self.size = x, y, size

    def __len__(self):
        return -(-len(self.x[0]) // self.size)

    def __getitem__(self, index):
        part = slice(index * self.size, (index + 1) * self.size)
        x, y = [a[part] for a in self.x], [a[part] for a in self.y]
        return x[0] if len(x) == 1 else tuple(x), y[0] if len(y) == 1 else tuple(y)


class KerasCut(Cut, keras.utils.PyDataset):
    """As Keras 3 takes it."""


class OurCut(Cut, yolo_jax.Sequence):
    """As yolo_jax takes it."""


def one_or_list(values):
    return values[0] if len(values) == 1 else list(values)


def fit_arguments(case: Case, sequence: type) -> dict[str, Any]:
    generator = np.random.default_rng(case.seed)
    x, y = data(case, case.rows, generator)
    found: dict[str, Any] = {
        "epochs": case.epochs, "initial_epoch": case.initial_epoch, "shuffle": False, "verbose": 0,
    }  # fmt: skip
    weights = [generator.uniform(0.2, 2, case.rows).astype(np.float32) for _ in y]
    match case.kind:
        case "arrays":
            found |= {"x": one_or_list(x), "y": one_or_list(y), "batch_size": case.batch_size}
        case "sequence":
            found["x"] = sequence(x, y, case.batch_size)
        case "generator":
            batches = sequence(x, y, case.batch_size)
            found["x"] = (batches[i % len(batches)] for i in range(10**6))
            found["steps_per_epoch"] = len(batches) + 1
    if case.weights == "rows":
        found["sample_weight"] = one_or_list(weights)
    elif case.weights == "classes":
        found["class_weight"] = dict(enumerate([0.5, 1.5, 2.0]))
    if case.validation == "split" and case.weights != "classes":
        found["validation_split"] = 0.3
    elif case.validation != "none":
        val_x, val_y = data(case, 5, generator)
        val = (one_or_list(val_x), one_or_list(val_y))
        if case.validation == "weighted":
            weights = [generator.uniform(0.2, 2, 5).astype(np.float32) for _ in val_y]
            val = (*val, one_or_list(weights))
        found["validation_data"] = val
    if case.validation != "none":
        found["validation_freq"] = case.freq
    return found


def run_keras(case: Case):
    """Returns initial and final weights by variable, History and evaluate of the real Keras."""
    keras.utils.set_random_seed(case.seed)
    model = build(case, keras.layers, keras.Input, keras.Model, keras.regularizers.L2)
    start = {layer.name: layer.get_weights() for layer in model.layers}
    name, arguments = case.optimizer
    optimizer = getattr(keras.optimizers, name)(learning_rate=0.05, **arguments)
    model.compile(optimizer, **compile_arguments(case))
    if case.kind == "generator":
        # Keras 3 builds losses and metrics on a generator's first batch, and so loses it, unless
        # they are built already.
        model.evaluate(*KerasCut(*data(case, 4, np.random.default_rng(0)), 4)[0], verbose=0)
    history = model.fit(**fit_arguments(case, KerasCut))
    x, y = data(case, 7, np.random.default_rng(case.seed + 1))
    found = model.evaluate(
        one_or_list(x), one_or_list(y), batch_size=4, verbose=0, return_dict=True
    )
    return start, {layer.name: layer.get_weights() for layer in model.layers}, history, found


def run_ours(case: Case, start, devices):
    """The same of yolo_jax, from the same weights."""
    model = build(case, our_layers, Input, Model, l2)
    for layer in model.layers:
        if start.get(layer.name):
            layer.set_weights(start[layer.name])
    name, arguments = case.optimizer
    optimizer = getattr(our_optimizers, name)(lr=0.05, **arguments)
    model.compile(
        optimizer, **compile_arguments(case), devices=devices, sync_batch_norm=case.normalise
    )
    history = model.fit(**fit_arguments(case, OurCut))
    x, y = data(case, 7, np.random.default_rng(case.seed + 1))
    found = model.evaluate(one_or_list(x), one_or_list(y), batch_size=4, return_dict=True)
    final = {layer.name: layer.get_weights() for layer in model.layers if hasattr(layer, "weights")}
    return final, history, found


def check(case: Case, devices) -> None:
    start, weights, history, evaluated = run_keras(case)
    our_weights, our_history, our_evaluated = run_ours(case, start, devices)
    assert our_history.epoch == history.epoch
    assert set(our_history.history) == set(history.history)
    for key, values in history.history.items():
        np.testing.assert_allclose(our_history.history[key], values, err_msg=key, **CLOSE)
    assert set(our_evaluated) == set(evaluated)
    for key, value in evaluated.items():
        np.testing.assert_allclose(our_evaluated[key], value, err_msg=key, **CLOSE)
    for name, arrays in our_weights.items():
        for ours, theirs in zip(arrays, weights[name], strict=True):
            np.testing.assert_allclose(ours, theirs, err_msg=name, **CLOSE)


# Without shrinking: an example that fails is printed as it is, and each takes seconds.
drawn = {
    "deadline": None, "derandomize": True, "database": None, "phases": [Phase.generate],
    "suppress_health_check": [HealthCheck.too_slow],
}  # fmt: skip


@pytest.mark.slow
@settings(max_examples=100, **drawn)
@given(cases())
def test_history_is_keras_3s(case):
    check(case, jax.local_devices()[:1])


@pytest.mark.slow
@settings(max_examples=8, **drawn)
@given(cases())
def test_on_eight_devices_too(case):
    check(case, None)
