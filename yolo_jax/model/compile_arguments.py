"""The arguments of `compile`, as Keras takes them, to an `Objective`.

Each of loss, loss_weights, metrics and weighted_metrics is one thing for every output, a list in
the outputs' order, or a dict by output name.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from yolo_jax.core.caller import warn_caller
from yolo_jax.core.numbers import finite_number
from yolo_jax.model import loss_functions
from yolo_jax.model import metrics as metric_functions
from yolo_jax.model.graph import SymbolicTensor
from yolo_jax.model.graph.tensor import Shape, as_list
from yolo_jax.model.losses import Joint, LossFunction
from yolo_jax.model.metrics import Metric
from yolo_jax.model.objective import Objective, Output
from yolo_jax.model.sample_weights import is_plain_list

Loss = Joint | LossFunction | str | Sequence[Any] | Mapping[str, Any] | None


def build_objective(
    outputs: Sequence[SymbolicTensor],
    loss: Loss,
    metrics: Any = None,
    loss_weights: Sequence[float] | Mapping[str, float] | None = None,
    weighted_metrics: Any = None,
) -> Objective:
    """Checks the arguments and returns what they ask for.

    Raises:
        TypeError: an argument is of no kind that Keras takes.
        ValueError: a list of the wrong length, a name that is no output's, an unknown loss or
            metric, a loss over classes of an output that has one alone, or no loss at all.
    """
    names = output_names(outputs)
    if isinstance(loss, Joint):
        if metrics or weighted_metrics or loss_weights:
            raise ValueError(
                "a joint loss has no single outputs to measure: give metrics and loss_weights with "
                "losses by output, or return what you want logged as the joint loss's terms"
            )
        return Objective((), joint=loss)
    losses = _losses(loss, names)
    factors = _loss_weights(loss_weights, names)
    taken = _log_names(names, losses)
    found = []
    for index, (name, output) in enumerate(zip(names, outputs, strict=True)):
        _check_classes(name, tuple(output.shape), losses[index])
        prefix = f"{name}_" if len(names) > 1 else ""
        plain, weighted = (
            _named(_resolved(asked, output, losses[index]), prefix, taken)
            for asked in (
                _metrics("metrics", metrics, names)[index],
                _metrics("weighted_metrics", weighted_metrics, names)[index],
            )
        )
        found.append(Output(name, index, losses[index], factors[index], plain, weighted))
    return Objective(tuple(found))


def check_target_tensors(given: Any, objective: Objective) -> None:
    """Raises ValueError if `target_tensors` are not those of the outputs that have a loss.

    Those of a joint loss are its own.
    """
    if given is None or objective.joint is not None:
        return
    trained = [output.name for output in objective.outputs if output.loss is not None]
    if isinstance(given, Mapping):
        if set(given) != set(trained):
            raise ValueError(
                f"target_tensors has the names {sorted(given, key=str)}; the outputs with a loss "
                f"are {trained}"
            )
        return
    count = len(given) if isinstance(given, list | tuple) and not is_plain_list(given) else 1
    if count not in (len(trained), len(objective.outputs)):
        raise ValueError(
            f"target_tensors has an array or data source for each output with a loss, {trained}; "
            f"found {count}"
        )


def output_names(outputs: Sequence[SymbolicTensor]) -> list[str]:
    """Returns the outputs' names; those of one layer after the first are numbered."""
    counts: Counter[str] = Counter()
    names = []
    for output in outputs:
        again = counts[output.name]
        counts[output.name] += 1
        names.append(f"{output.name}_{again}" if again else output.name)
    return names


def _losses(loss: Loss, names: list[str]) -> list[LossFunction | None]:
    each: list[Any]
    match loss:
        case None:
            raise ValueError("The model cannot be compiled because it has no loss to optimize.")
        case Mapping():
            _check_names("loss", loss, names)
            left_out = [name for name in names if name not in loss]
            if left_out:
                warn_caller(
                    f"Output {', '.join(left_out)} missing from loss dictionary: it is given no "
                    "target and is not trained"
                )
            each = [loss.get(name) for name in names]
        case str():
            each = [loss] * len(names)
        case Sequence():
            _check_length("loss", loss, names)
            each = list(loss)
        case _:
            each = [loss] * len(names)
    if all(one is None for one in each):
        raise ValueError("The model cannot be compiled because it has no loss to optimize.")
    return [None if one is None else loss_functions.get(one) for one in each]


def _loss_weights(given: Any, names: list[str]) -> list[float]:
    match given:
        case None:
            return [1.0] * len(names)
        case Mapping():
            _check_names("loss_weights", given, names)
            given = [given.get(name, 1.0) for name in names]
        case list() | tuple():
            _check_length("loss_weights", given, names)
    if isinstance(given, list | tuple):
        pairs = zip(names, given, strict=True)
        return [finite_number(f"loss_weights of output {name!r}", w) for name, w in pairs]
    raise TypeError(
        f"Could not interpret loss_weights argument: {given!r}; a list or a dict by output name"
    )


def _check_classes(name: str, shape: Shape, loss: Any) -> None:
    """Raises ValueError if a loss that weighs classes against each other has only one."""
    function = loss_functions.function_of(loss)
    of_classes = (
        loss_functions.categorical_crossentropy,
        loss_functions.sparse_categorical_crossentropy,
    )
    if function in of_classes and len(shape) > 1 and shape[-1] == 1:
        raise ValueError(
            f"{function.__name__} of output {name!r}, which has one unit: the probabilities of "
            "one class add up to 1 always, so that the loss would be 0. For yes or no take "
            "binary_crossentropy with a sigmoid; else give the output a unit for each class"
        )


def _metrics(argument: str, given: Any, names: list[str]) -> list[list[Any]]:
    """Returns the metrics asked for by output."""
    match given:
        case None:
            return [[] for _ in names]
        case Mapping():
            _check_names(argument, given, names)
            return [as_list(given.get(name, [])) for name in names]
        case list() | tuple():
            if any(isinstance(one, list | tuple) for one in given):
                _check_length(argument, given, names)
                return [as_list(one) for one in given]
            return [list(given) for _ in names]
    raise TypeError(
        f"Type of `{argument}` argument not understood: {given!r}; a list of metrics, a list of "
        "lists, or a dict by output name"
    )


def _resolved(asked: list[Any], output: SymbolicTensor, loss: Any) -> list[Metric]:
    shape = tuple(output.shape)
    return [metric_functions.resolve(one, shape, loss) for one in asked if one is not None]


def _log_names(names: list[str], losses: list[LossFunction | None]) -> set[str]:
    """Returns the names that no metric may take: those of losses, and of what loggers add."""
    by_output = [f"{name}_loss" for name, loss in zip(names, losses, strict=True) if loss]
    found = ["loss", *(by_output if len(names) > 1 else [])]
    return {"batch", "size", "epoch", *found, *(f"val_{name}" for name in found)}


def _named(found: list[Metric], prefix: str, taken: set[str]) -> tuple[tuple[str, Metric], ...]:
    """Gives each metric its log name; one that is taken is numbered, as Keras 2.3 does."""
    named = []
    for metric in found:
        name, again = prefix + metric.name, 0
        while {name, f"val_{name}"} & taken:
            again += 1
            name = f"{prefix}{metric.name}_{again}"
        taken |= {name, f"val_{name}"}
        named.append((name, metric))
    return tuple(named)


def _check_names(argument: str, given: Mapping[str, Any], names: list[str]) -> None:
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise ValueError(
            f"Unknown entries in {argument} dictionary: {unknown}; the outputs are {names}"
        )


def _check_length(argument: str, given: Sequence[Any], names: list[str]) -> None:
    if len(given) != len(names):
        raise ValueError(
            f"a list of `{argument}` has one entry for each output; found {len(given)} for "
            f"{len(names)}: {names}"
        )
