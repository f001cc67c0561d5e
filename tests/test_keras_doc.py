"""docs/keras.md names every argument that there is."""

import inspect
import re
from pathlib import Path

import pytest

from yolo_jax import (
    Input,
    K,
    Lambda,
    Model,
    callbacks,
    layers,
    losses,
    metrics,
    optimizers,
    regularizers,
)

DOC = (Path(__file__).parents[1] / "docs" / "keras.md").read_text(encoding="utf-8")
METHODS = (
    "compile", "fit", "fit_generator", "evaluate", "evaluate_generator", "predict",
    "predict_generator", "train_on_batch", "test_on_batch", "predict_on_batch", "load_weights",
    "save_weights", "get_layer", "set_weights", "summary",
)  # fmt: skip
MAKERS = [getattr(optimizers, name) for name in optimizers.__all__ if name != "get"]
CALLBACKS = [getattr(callbacks, name) for name in callbacks.__all__]


def arguments(function):
    """Returns the names of a function's or a class's arguments."""
    if inspect.isclass(function):
        function = function.__init__
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.name != "self" and p.kind not in kinds]


def section(title):
    """Returns the part of the document that is about something: its table, or its line."""
    found = re.findall(rf"^\| \**`?{title}`?\**.*(?:\n\|.*)*", DOC, re.MULTILINE)
    return "\n".join(found) or DOC


@pytest.mark.parametrize(
    "function", [Input, Lambda, Model, *MAKERS, *CALLBACKS, *(getattr(Model, m) for m in METHODS)]
)
def test_every_argument_is_there(function):
    name = function.__name__
    text = DOC if function in MAKERS else section(name)
    missing = [argument for argument in arguments(function) if f"{argument}" not in text]
    assert name in DOC
    assert not missing, f"docs/keras.md says nothing of {name}'s {missing}"


def test_every_layer_loss_and_regularizer_is_there():
    for name in (*layers.__all__, *regularizers.__all__):
        if name not in ("Layer", "set_random_seed"):
            assert re.search(rf"\b{name}\b", DOC), name
    for name in losses.__all__:
        if name.islower() and "_" in name and name not in ("huber_loss", "cosine_proximity"):
            assert name.replace("log_cosh", "logcosh") in DOC, name


@pytest.mark.parametrize("door", [layers, losses, metrics, regularizers])
def test_every_argument_behind_a_door_is_there(door):
    """Of what has Keras's name; `Joint`, `Metric` and so on are told in words."""
    own = ("Layer", "apply", "set_random_seed", "get", "detection", "Joint", "RowLosses", "Metric",
           "MeanMetric")  # fmt: skip
    missing = [
        f"{name}({argument})"
        for name in door.__all__
        if name not in own
        for argument in arguments(getattr(door, name))
        if f"`{argument}`" not in DOC
    ]
    assert not missing


def test_k_is_listed_as_it_is():
    table = DOC[DOC.index("| `K` |") :].partition("\n\n")[0]
    named = re.findall(r"`(\w+)`", table)
    # Two are arguments, which stand behind the reductions.
    listed = [name for name in named if name not in ("K", "axis", "keepdims")]
    assert sorted(listed) == sorted(K.__all__)
    assert all(callable(getattr(K, name)) for name in K.__all__)


def test_k_says_of_what_it_has_not_that_it_is_not_there():
    assert not set(K.__all__) & set(K.MISSING)
    assert all(hint for hint in K.MISSING.values())
