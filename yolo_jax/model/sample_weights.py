"""`sample_weight`, `class_weight` and `sample_weight_mode`: checked, one array for each output."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from yolo_jax.core.numbers import finite_number
from yolo_jax.model.graph import SymbolicTensor
from yolo_jax.model.signature import Signature

PyTree = Any


def temporal_outputs(
    mode: Any, names: Sequence[str], outputs: Sequence[SymbolicTensor]
) -> tuple[str, ...]:
    """Returns the outputs whose sample weights are of (rows, steps).

    Args:
        mode: None or 'temporal' for all outputs, or a list or dict of them by output.
        names: of the outputs.
        outputs: of the model.

    Raises:
        ValueError: another mode, a name that is no output's, a list of the wrong length, or an
            output that has no steps.
    """
    match mode:
        case None | str():
            modes = dict.fromkeys(names, mode)
        case Mapping():
            modes = dict(mode)
        case list() | tuple() if len(mode) == len(names):
            modes = dict(zip(names, mode, strict=True))
        case _:
            modes = {"": mode}
    wrong = [value for value in modes.values() if value not in (None, "temporal")]
    if wrong or not set(modes) <= set(names):
        raise ValueError(
            "sample_weight_mode is None or 'temporal', for all outputs, or a list or dict of them "
            f"for {list(names)}; found {mode!r}"
        )
    for name, output in zip(names, outputs, strict=True):
        if modes.get(name) and len(output.shape) < 3:
            raise ValueError(
                "sample_weight_mode='temporal' is for outputs of shape (rows, steps, ...); "
                f"{name!r} has the shape {output.shape}: leave its mode None"
            )
    return tuple(name for name in names if modes.get(name))


def sample_weights(signature: Signature, given: PyTree) -> list[Any] | None:
    """Returns a weight array or None for each output.

    Raises:
        ValueError: too few or too many, a name that is no output's, or a shape that does not fit.
        TypeError: one array for several outputs, or no numbers.
    """
    if given is None:
        return None
    names = signature.outputs
    match given:
        case Mapping():
            unknown = sorted(set(given) - set(names))
            if unknown:
                raise ValueError(f"sample_weight names {unknown}; the outputs are {list(names)}")
            found = [given.get(name) for name in names]
        case list() | tuple() if not is_plain_list(given):
            found = list(given)
        case _:
            if len(names) > 1 and not signature.joint:
                raise TypeError(
                    "the model has several outputs: sample_weight is a list or a dict by output "
                    f"name; found {type(given).__name__}"
                )
            found = [given]
    if not signature.joint and len(found) != len(names):
        raise ValueError(f"sample_weight has {len(found)} entries for {len(names)} outputs")
    return [
        None if weight is None else _weight(np.asarray(weight), name, name in signature.temporal)
        for name, weight in zip(names, found, strict=False)
    ]


def is_plain_list(data: Any) -> bool:
    """Tells a list of numbers, one array, from a list of arrays."""
    first = next((part for part in data if part is not None), None)
    return not (first is None or hasattr(first, "__len__") or hasattr(first, "shape"))


def _weight(weight: np.ndarray, name: str, temporal: bool) -> np.ndarray:
    if weight.dtype.kind not in "buif":
        raise TypeError(
            f"the sample weights of output {name!r} are no numbers: they have the dtype "
            f"{weight.dtype}"
        )
    if temporal and weight.ndim != 2:
        raise ValueError(
            f"output {name!r} has sample_weight_mode='temporal': its sample weights have the shape "
            f"(samples, steps); found {weight.shape}"
        )
    if not temporal and weight.ndim != 1:
        raise ValueError(
            f"the sample weights of output {name!r} have the shape {weight.shape}; those of "
            "(samples, steps) need compile(sample_weight_mode='temporal')"
        )
    return weight.astype(np.float32)


def check_steps(signature: Signature, targets: Any, weight: list[Any] | None) -> None:
    """Raises ValueError where weights by step have not the targets' number of steps."""
    if signature.joint or targets is None or weight is None:
        return
    for name, target, weights in zip(signature.outputs, targets, weight, strict=True):
        if target is None or weights is None or weights.ndim < 2:
            continue
        if weights.shape[1] != target.shape[1]:
            raise ValueError(
                f"the sample weights of output {name!r} have {weights.shape[1]} steps, its targets "
                f"{target.shape[1]}: they need one weight for each step"
            )


def with_class_weights(
    signature: Signature, targets: Any, weight: list[Any] | None, class_weight: Any
) -> list[Any]:
    """Multiplies the sample weights by those of the rows' classes.

    Raises:
        TypeError: `class_weight` is no dict.
        ValueError: it lacks a class of the targets, which have steps or a joint loss, or its keys
            are neither classes nor, where there are several, outputs.
    """
    is_list = isinstance(class_weight, list | tuple) and len(class_weight) == len(signature.outputs)
    if is_list and all(one is None or isinstance(one, Mapping) for one in class_weight):
        class_weight = dict(zip(signature.outputs, class_weight, strict=True))
    if not isinstance(class_weight, Mapping):
        raise TypeError(
            "class_weight is a dict of weights by class id, {0: 1.0, 1: 2.0}; found "
            f"{type(class_weight).__name__}"
        )
    if signature.joint:
        raise ValueError(
            "class_weight needs targets that are classes; those of a joint loss are its own: let "
            "the loss weigh its classes"
        )
    by_output = {signature.outputs[0]: class_weight}
    if len(signature.outputs) > 1 or set(class_weight) == set(signature.outputs):
        by_output = {name: one for name, one in class_weight.items() if one is not None}
        unknown = [name for name in by_output if name not in signature.trained]
        if unknown or not all(isinstance(one, Mapping) for one in by_output.values()):
            raise ValueError(
                "the model has several outputs: class_weight is a dict by output name of dicts by "
                f"class id, or None for no weights; found {_short(class_weight)}, and the outputs "
                f"with a loss are {list(signature.trained)}"
            )
    weight = list(weight or [None] * len(signature.outputs))
    for name, weights in by_output.items():
        index = signature.outputs.index(name)
        found = _class_weights(np.asarray(targets[index]), weights, name)
        if weight[index] is not None and weight[index].ndim > 1:
            raise ValueError(
                f"output {name!r} has sample weights by step, which class_weight does not serve; "
                "multiply them yourself"
            )
        weight[index] = found if weight[index] is None else weight[index] * found
    return weight


def _class_weights(target: np.ndarray, weights: Mapping[Any, float], name: str) -> np.ndarray:
    if target.ndim > 2:
        raise ValueError(
            f"class_weight does not serve the sequence targets of output {name!r}, of shape "
            f"{target.shape}; use sample_weight"
        )
    odd = [key for key in weights if not _is_class_id(key)]
    if odd:
        raise ValueError(
            f"class_weight has the keys {odd}; those of output {name!r} are class ids: 0, 1, ..."
        )
    table = {
        int(key): finite_number(f"class_weight[{key!r}] of output {name!r}", value)
        for key, value in weights.items()
    }
    classes = target.argmax(axis=1) if target.shape[1] > 1 else target[:, 0]
    if not table:
        raise ValueError(
            f"class_weight is empty: it has no class of output {name!r}; leave it out, or give a "
            "weight for each class, {0: 1.0, 1: 2.0}"
        )
    # Looked up as they are: a label of 0.5 has no weight, rather than that of class 0.
    missing = sorted(set(np.unique(classes).tolist()) - set(table))
    if missing:
        raise ValueError(
            f"class_weight must contain all classes in the data: {_short(missing)} of output "
            f"{name!r} have no weight; it has {_short(sorted(table))}"
        )
    return np.asarray([table[c] for c in classes.tolist()], np.float32)


def _short(found: Any) -> str:
    """Returns what is shown of something in an error: its beginning, where it is long."""
    text = str(found)
    return text if len(text) <= 120 else f"{text[:120]} …"


def _is_class_id(key: Any) -> bool:
    return not isinstance(key, str) and hasattr(key, "__int__") and int(key) == key >= 0
