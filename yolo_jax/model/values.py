"""What the numbers in a model's data may be: finite, weights, class ids."""

from typing import Any

import numpy as np

from yolo_jax.model.signature import Signature

PyTree = Any


def check_finite(signature: Signature, x: list[Any], y: PyTree, where: str = "") -> None:
    """Raises ValueError that names the first row of an input or target that is not finite.

    HDF5 datasets are not read for it.

    Args:
        signature: of the model.
        x: an array for each input.
        y: targets.
        where: what the error begins with.
    """
    targets = y if isinstance(y, list) else [y]
    parts = [
        *zip([f"input {name!r}" for name in signature.inputs], x, strict=True),
        *zip([f"output {name!r}" for name in signature.outputs], targets, strict=False),
    ]
    for what, array in parts:
        if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
            continue
        found = _first_not_finite(array)
        if found is not None:
            raise ValueError(
                f"{where}{what}: row {found[0]} (from 0) holds {found[1]}; strict=True wants "
                "finite numbers"
            )


def check_weights(signature: Signature, weight: list[Any] | None) -> None:
    """Raises ValueError that names the first row whose weight is not finite."""
    for name, weights in zip(signature.outputs, weight or [], strict=False):
        found = None if weights is None else _first_not_finite(weights)
        if found is not None:
            raise ValueError(
                f"sample_weight of output {name!r}: row {found[0]} (from 0) weighs {found[1]}; a "
                "weight is a finite number, and 0 leaves a row out"
            )


def check_classes(signature: Signature, targets: PyTree, weight: list[Any] | None) -> None:
    """Raises ValueError where labels are not the ids of an output's classes.

    Rows and steps that weigh nothing may have any label. HDF5 datasets are not read for it.
    """
    if targets is None:
        return
    for name, count in signature.classes.items():
        index = signature.outputs.index(name)
        if hasattr(targets[index], "id"):
            continue
        labels = np.asarray(targets[index])
        if weight is not None and weight[index] is not None:
            weighs = weight[index] != 0
            weighs = weighs.reshape(*weighs.shape, *(1,) * (labels.ndim - weighs.ndim))
            labels = labels[np.broadcast_to(weighs, labels.shape)]
        if not labels.size:
            continue
        no_ids = labels[labels % 1 != 0] if labels.dtype.kind == "f" else labels[:0]
        if no_ids.size or labels.min() < 0 or labels.max() >= count:
            odd = f", {no_ids[0]} among them" if no_ids.size else ""
            raise ValueError(
                f"the labels of output {name!r} are class ids, whole numbers from 0 to {count - 1} "
                f"(its last axis has {count} units); found labels from {labels.min()} to "
                f"{labels.max()}{odd}. Number the classes from 0, or give the output a unit for "
                "each; sample_weight 0 leaves a row out"
            )


def _first_not_finite(array: np.ndarray) -> tuple[int, Any] | None:
    """Returns the first row that holds NaN or infinity, and which of them."""
    rows = array.reshape(len(array), -1)
    finite = np.isfinite(rows)
    if finite.all():
        return None
    row = int(np.flatnonzero(~finite.all(axis=1))[0])
    return row, rows[row][~finite[row]][0]
