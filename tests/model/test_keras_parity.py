"""Random models, data and arguments of `fit`: all numbers are those of the real Keras 3.

Drawn: one or two inputs, vectors or images; dense and convolutional layers, batch normalisation,
activations, pooling, a layer shared by two inputs, merging, a branch added to where it began;
penalties on kernels, a frozen layer; one or two outputs with their losses, weights of losses and
metrics (plain or weighted, named or objects), as lists or dicts; SGD, Adam, RMSprop, Adamax and
Adadelta; batches that divide the rows and that do not; epochs and initial epochs; arrays, Sequences
or generators; weights of rows (zeros too) or classes; validation on arrays, weighted or not, on a
Sequence or a split, every, every other or listed epochs; eight devices or one.

Left out, because Keras 2.3, which yolo_jax follows, and Keras 3 disagree:
- one flat list of metrics for several outputs, a loss dict that lacks an output, one metric both
  plain and weighted: other meanings or names;
- RMSprop's usual epsilon, which stands elsewhere in the formula (a tiny one is drawn), Adagrad,
  Nadam, clipnorm, decay: other formulas;
- class weights by output, together with sample weights or from a generator: Keras 3 refuses them;
  classes without a weight: Keras 2.3 does;
- weights of (rows, steps), targets not of the output's shape, scalar outputs: Keras 3 refuses them
  or spreads them otherwise;
- masks: Keras 2.3 divides the loss by all elements;
- a frozen batch normalisation: in Keras 2.3 it normalises by the batch;
- penalties on frozen layers: Keras 3 leaves them out of the loss;
- steps_per_epoch with arrays: a step of Keras 2.3 sees all rows; with a Sequence: Keras 3 ends an
  epoch with the Sequence; generators to validate with: Keras 3 replays their first batch.

Also left out: shuffling and dropout (other random numbers), a bias before batch normalisation (its
gradient is 0 but for rounding, whose sign Adam and RMSprop follow).
"""

import tempfile
from itertools import count
from types import ModuleType, SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import yolo_jax
import yolo_jax.layers
import yolo_jax.metrics
import yolo_jax.optimizers
import yolo_jax.regularizers

_HOME = tempfile.TemporaryDirectory(prefix="yolo_jax_keras_", ignore_cleanup_errors=True)
with pytest.MonkeyPatch.context() as environment:
    # Keras reads these once, when imported; its home is where it writes its configuration.
    environment.setenv("KERAS_BACKEND", "jax")
    environment.setenv("KERAS_HOME", _HOME.name)
    import keras

CLOSE = {"rtol": 1e-4, "atol": 1e-4}
CLASSES = 3
# What an output has by its loss: activation, units, targets, and metrics that suit it.
LOSSES = {
    "mse": (None, 2, "reals", ["mae", "RootMeanSquaredError", "cosine_similarity"]),
    "mae": ("tanh", 1, "reals", ["mse", "LogCoshError"]),
    "msle": ("relu", 2, "bits", ["mse"]),
    "cosine_similarity": (None, 2, "reals", ["mae"]),
    "poisson": ("softplus", 1, "bits", ["mae", "msle"]),
    "hinge": ("tanh", 1, "bits", ["squared_hinge", "Hinge"]),
    "binary_crossentropy": ("sigmoid", 1, "bits", ["accuracy", "Precision", "Recall", "mse"]),
    "categorical_crossentropy": (
        "softmax", CLASSES, "one-hot", ["acc", "mse", "CategoricalAccuracy", "KLDivergence"],
    ),
    "kld": ("softmax", CLASSES, "one-hot", ["accuracy", "categorical_crossentropy"]),
    "sparse_categorical_crossentropy": (
        "softmax", CLASSES, "ids", ["accuracy", "SparseCategoricalCrossentropy"],
    ),
}  # fmt: skip
# What divides by the gradient's size takes short steps: a tiny one's rounding counts in full.
OPTIMIZERS = [
    ("SGD", {"learning_rate": 0.05}),
    ("SGD", {"learning_rate": 0.05, "clipvalue": 0.05}),
    ("SGD", {"learning_rate": 0.05, "momentum": 0.9}),
    ("SGD", {"learning_rate": 0.05, "momentum": 0.8, "nesterov": True}),
    ("Adam", {"learning_rate": 0.005}),
    ("Adam", {"learning_rate": 0.05, "beta_1": 0.8, "epsilon": 1e-3, "amsgrad": True}),
    ("RMSprop", {"learning_rate": 0.005, "rho": 0.8, "epsilon": 1e-20}),
    ("Adamax", {"learning_rate": 0.005}),
    ("Adadelta", {"learning_rate": 1.0}),
]
# Rows to train on, rows a batch, rows held out: few shapes, since each is compiled.
SIZES = [(8, 4, 4), (10, 4, 6), (6, 32, 5)]


@st.composite
def cases(draw):
    """Draws a model, how it is compiled, and what `fit` is given."""

    def one_of(*values):
        return draw(st.sampled_from(values))

    shapes = one_of([(4,)], [(4,), (4,)], [(4,), (4,)], [(6, 6, 2)], [(6, 6, 2), (4,)])
    losses = draw(st.lists(st.sampled_from(sorted(LOSSES)), min_size=1, max_size=2))
    metrics = [draw(st.lists(st.sampled_from(LOSSES[loss][3]), unique=True)) for loss in losses]
    frozen = one_of(False, False, True)
    epochs, kind = one_of(1, 2, 2, 3), one_of("arrays", "arrays", "sequence", "generator")
    classes = kind != "generator" and len(losses) == 1 and LOSSES[losses[0]][2] != "reals"
    return SimpleNamespace(
        shapes=shapes,
        convolution=one_of({}, {"padding": "same"}, {"padding": "same", "strides": 2}),
        pool=one_of("max", "average", "global", "none"),
        activation=one_of("relu", "tanh", "sigmoid", "elu"),
        normalise=one_of(False, True),
        shared=shapes == [(4,), (4,)] and one_of(False, True),
        merge=one_of("Concatenate", "Concatenate", "Add", "Multiply", "Maximum"),
        branch=one_of(False, False, True),
        penalty=0.0 if frozen else one_of(0.0, 0.02),
        frozen=frozen,
        losses=losses,
        loss_weights=one_of(None, [0.5, 2.0][: len(losses)]),
        measured=[(one_of("metrics", "weighted_metrics"), chosen) for chosen in metrics],
        by_name=one_of(False, True),
        optimizer=one_of(*OPTIMIZERS),
        epochs=epochs,
        initial_epoch=one_of(0, 0, 0, 0, 0, epochs - 1, epochs),
        sizes=one_of(*SIZES),
        kind=kind,
        steps=one_of(2, 4) if kind == "generator" else None,
        weights=one_of("none", "none", "rows", "classes" if classes else "rows"),
        validation=one_of(
            "none", "data", "weighted", "sequence", "split" if kind == "arrays" else "data"
        ),
        freq=one_of(1, 1, 2, [1, 3]),
        devices=one_of(8, 8, 8, 1),
        seed=draw(st.integers(0, 2**16)),
    )


def build(case: SimpleNamespace, side: ModuleType):
    """Builds the case's model of one side's layers."""
    layers = side.layers
    inputs = [side.Input(shape, name=f"x{i}") for i, shape in enumerate(case.shapes)]
    given = {
        "use_bias": not case.normalise,
        "kernel_regularizer": side.regularizers.l2(case.penalty) if case.penalty else None,
    }
    firsts = [
        layers.Dense(5, name=f"first{i}", **given)
        if len(shape) == 1
        else layers.Conv2D(3, 3, name=f"first{i}", **given, **case.convolution)
        for i, shape in enumerate(case.shapes)
    ]
    firsts[0].trainable = not case.frozen
    ends = []
    for i, x in enumerate(inputs):
        h = firsts[0 if case.shared else i](x)
        if case.normalise:
            h = layers.BatchNormalization(name=f"norm{i}", momentum=0.9)(h)
        h = layers.Activation(case.activation, name=f"activation{i}")(h)
        ends.append(h if len(case.shapes[i]) == 1 else flatten(case, layers, h))
    h = ends[0] if len(ends) == 1 else getattr(layers, case.merge)(name="merge")(ends)
    if case.branch:
        branch = layers.Dense(h.shape[-1], activation="tanh", name="branch")(h)
        h = layers.Add(name="add")([h, branch])
    outputs = [
        layers.Dense(LOSSES[loss][1], activation=LOSSES[loss][0], name=f"out{i}")(h)
        for i, loss in enumerate(case.losses)
    ]
    return side.Model(one_or_list(inputs), one_or_list(outputs))


def flatten(case: SimpleNamespace, layers: Any, h: Any) -> Any:
    """Makes vectors, as long as the other inputs', of feature maps."""
    match case.pool:
        case "max":
            h = layers.MaxPooling2D(2, name="pool")(h)
        case "average":
            h = layers.AveragePooling2D(2, name="pool")(h)
        case "global":
            h = layers.GlobalAveragePooling2D(name="pool")(h)
    h = h if case.pool == "global" else layers.Flatten(name="flat")(h)
    return layers.Dense(5, name="vector")(h)


def set_weights(model: Any, seed: int) -> None:
    """Draws all weights, small enough that no output saturates: its gradient would be rounding."""
    generator = np.random.default_rng(seed)
    for layer in sorted(model.layers, key=lambda layer: layer.name):
        shapes = [weight.shape for weight in layer.get_weights()]
        # Batch normalisation has a variance.
        low = 0.3 if layer.name.startswith("norm") else -0.9
        layer.set_weights(
            [generator.uniform(low, 0.9, shape) / np.sqrt(np.prod(shape[:-1])) for shape in shapes]
        )


def compile_arguments(case: SimpleNamespace, side: ModuleType) -> dict[str, Any]:
    def by_output(values):
        names = {f"out{i}": value for i, value in enumerate(values)}
        return names if case.by_name else one_or_list(values)

    def metric(name):
        if name[0].islower():
            return name
        return getattr(side.metrics, name)(name=name.lower())

    name, options = case.optimizer
    found = {
        "optimizer": getattr(side.optimizers, name)(**options),
        "loss": by_output(case.losses),
    }
    if case.loss_weights is not None:
        weights = by_output(case.loss_weights)
        found["loss_weights"] = weights if case.by_name else case.loss_weights
    for kind in ("metrics", "weighted_metrics"):
        lists = [[metric(m) for m in ms] if chosen == kind else [] for chosen, ms in case.measured]
        if any(lists):
            found[kind] = by_output(lists)
    return found


def one_or_list(values):
    return values[0] if len(values) == 1 else list(values)


class Batches:
    """Batches of arrays; the part of both sides' Sequences that is ours to write."""

    def __init__(self, parts, size):
        super().__init__()
        self.parts, self.size = parts, size

    def __len__(self):
        return -(-len(self.parts[0][0]) // self.size)

    def __getitem__(self, index):
        rows = slice(index * self.size, (index + 1) * self.size)
        parts = (tuple(array[rows] for array in part) for part in self.parts)
        return tuple(part[0] if len(part) == 1 else part for part in parts)


SEQUENCES = {
    side: type("SideBatches", (Batches, base), {})
    for side, base in ((keras, keras.utils.PyDataset), (yolo_jax, yolo_jax.Sequence))
}


def draw_data(case: SimpleNamespace, rows: int, generator: np.random.Generator):
    """Draws inputs, targets and weights, a list of arrays each."""

    def target(loss):
        _, units, kind, _ = LOSSES[loss]
        ids = generator.integers(0, CLASSES, rows)
        match kind:
            case "reals":
                return generator.normal(size=(rows, units))
            case "bits":
                return generator.integers(0, 2, (rows, units))
            case "one-hot":
                return np.eye(CLASSES)[ids]
        return ids[:, None]

    x = [generator.normal(size=(rows, *shape)) for shape in case.shapes]
    y = [target(loss) for loss in case.losses]
    weights = [generator.uniform(0.2, 2, rows) * (np.arange(rows) % 4 > 0) for _ in y]
    return [[array.astype(np.float32) for array in part] for part in (x, y, weights)]


def fit_arguments(case: SimpleNamespace, side: ModuleType) -> dict[str, Any]:
    generator = np.random.default_rng(case.seed)
    rows, batch_size, held_out = case.sizes
    rows += held_out if case.validation == "split" else 0
    x, y, weights = draw_data(case, rows, generator)
    found: dict[str, Any] = {
        "epochs": case.epochs, "initial_epoch": case.initial_epoch, "shuffle": False, "verbose": 0,
    }  # fmt: skip
    if case.weights == "classes":
        found["class_weight"] = {0: 0.5, 1: 1.5, 2: 2.0}
    if case.kind == "arrays":
        named = {f"x{i}": array for i, array in enumerate(x)}
        found |= {"x": named if case.by_name else one_or_list(x), "y": one_or_list(y)}
        found["batch_size"] = batch_size
        if case.weights == "rows":
            found["sample_weight"] = one_or_list(weights)
    else:
        parts = (x, y, weights) if case.weights == "rows" else (x, y)
        batches = SEQUENCES[side](parts, batch_size)
        loop = (batches[i % len(batches)] for i in count())
        found |= {"x": batches if case.kind == "sequence" else loop, "steps_per_epoch": case.steps}
    parts = draw_data(case, held_out, generator)
    match case.validation:
        case "split":
            # Half a row more: Keras rounds down what is left to train on.
            found["validation_split"] = 1 - (case.sizes[0] + 0.5) / rows
        case "data" | "weighted":
            kept = parts[: 3 if case.validation == "weighted" else 2]
            found["validation_data"] = tuple(one_or_list(part) for part in kept)
        case "sequence":
            found["validation_data"] = SEQUENCES[side](parts, batch_size)
    if case.validation != "none":
        found["validation_freq"] = case.freq
    return found


def run(case: SimpleNamespace, side: ModuleType, **options: Any):
    """Returns epochs, and all numbers by name: History, evaluate and final weights."""
    model = build(case, side)
    set_weights(model, case.seed)
    model.compile(**compile_arguments(case, side), **options)
    _, batch_size, held_out = case.sizes
    x, y, weights = draw_data(case, held_out, np.random.default_rng(case.seed + 1))
    if side is keras and case.kind == "generator":
        # Keras 3 builds losses and metrics on a generator's first batch, and so loses it, unless
        # they are built already.
        model.evaluate(one_or_list(x), one_or_list(y), batch_size=batch_size, verbose=0)
    history = model.fit(**fit_arguments(case, side))
    evaluated = model.evaluate(
        one_or_list(x), one_or_list(y), batch_size=batch_size, verbose=0, return_dict=True,
        sample_weight=one_or_list(weights) if case.weights == "rows" else None,
    )  # fmt: skip
    numbers = {f"history {key}": values for key, values in history.history.items()}
    numbers |= {f"evaluate {key}": value for key, value in evaluated.items()}
    for layer in model.layers:
        numbers |= {f"{layer.name} {i}": array for i, array in enumerate(layer.get_weights())}
    return history.epoch, numbers


@pytest.fixture(scope="module", autouse=True)
def _memory_of_programs():
    """Gives back what the cases' compiled programs hold."""
    yield
    jax.clear_caches()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:::keras")
@settings(
    max_examples=100, deadline=None, derandomize=True, database=None,
    # To shrink a failure would take an hour.
    phases=[Phase.explicit, Phase.generate], suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
@given(cases())
def test_all_numbers_are_those_of_keras_3(case):
    keras.utils.clear_session(free_memory=False)
    epochs, expected = run(case, keras)
    devices = jax.local_devices()[: case.devices]
    found_epochs, found = run(case, yolo_jax, devices=devices, sync_batch_norm=True)
    assert found_epochs == epochs
    assert set(found) == set(expected)
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, err_msg=key, **CLOSE)
