"""Arrays as `fit` takes them: checked, named, weighted, split, and cut into batches.

Source: Keras 2.3's `standardize_user_data`, as measured (see docs/keras.md).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from yolo_jax.model.sample_weights import (
    check_steps,
    is_plain_list,
    sample_weights,
    with_class_weights,
)
from yolo_jax.model.signature import Signature
from yolo_jax.model.values import check_classes, check_weights
from yolo_jax.training.step import Fed

PyTree = Any
# Rows that are picked out at once, in bytes: of small ones picking costs more than a step does.
_PICKED_BYTES = 2**20


class Arrays(NamedTuple):
    """Checked data: every part has the same number of rows.

    Attributes:
        x: an array for each input.
        y: an array for each output (None for one without a loss), a joint loss's targets, or None.
        weight: None, or for each output None or an array.
    """

    x: list[Any]
    y: PyTree
    weight: list[Any] | None

    @property
    def rows(self) -> int:
        """Returns the number of samples."""
        return len(self.x[0])

    def take(self, rows: Any) -> Fed:
        """Returns the batch of some rows: a slice, or an array of indices."""
        x, y, weight = (_take(part, rows) for part in self)
        return Fed(x, y, weight, None)

    def slice(self, start: int, stop: int) -> "Arrays":
        """Returns a part of the rows; of HDF5 datasets this reads it."""
        return Arrays(*(_take(part, slice(start, stop)) for part in self))


def standardize(
    signature: Signature,
    x: PyTree,
    y: PyTree = None,
    sample_weight: PyTree = None,
    class_weight: PyTree = None,
    *,
    need_y: bool = True,
) -> Arrays:
    """Checks arrays against a model and puts them in its order.

    Args:
        signature: of the model.
        x: array, list, or dict by input name; HDF5 datasets are left on the disk.
        y: the same by output.
        sample_weight: `(N,)`, or `(N, T)` for a temporal output; list or dict where there are
            several outputs.
        class_weight: weight by class id; dict of them by output where there are several.
        need_y: False for predict.

    Raises:
        ValueError: data is missing, lengths differ, or shapes, weights or class ids do not fit.
        TypeError: weights of no kind that is taken.
    """
    inputs = _by_name(signature, x, signature.inputs, signature.inputs, "input")
    targets = None
    if signature.joint:
        targets = y
    elif y is not None:
        targets = _by_name(signature, y, signature.outputs, signature.trained, "output")
    elif need_y and signature.trained:
        raise ValueError(f"No data provided for {signature.trained[0]!r}: y is None")
    weight = sample_weights(signature, sample_weight)
    check_steps(signature, targets, weight)
    arrays = Arrays(inputs, targets, weight)
    lengths = sorted({len(leaf) for leaf in _leaves(list(arrays))})
    if len(lengths) != 1:
        raise ValueError(
            f"all arrays of x, y and sample_weight need the same number of samples; found {lengths}"
        )
    if class_weight is not None:
        weight = with_class_weights(signature, targets, weight, class_weight)
    check_weights(signature, weight)
    check_classes(signature, targets, weight)
    return Arrays(inputs, targets, weight)


def split(arrays: Arrays, fraction: float) -> tuple[Arrays, Arrays]:
    """Returns the first rows to train on, and the last `fraction` to validate on.

    Raises:
        ValueError: the fraction leaves one of them empty.
    """
    first = int(arrays.rows * (1.0 - fraction))
    if not 0.0 < fraction < 1.0 or not 0 < first < arrays.rows:
        raise ValueError(
            f"validation_split is {fraction}; it has to lie between 0 and 1 and leave rows of the "
            f"{arrays.rows} on both sides"
        )
    return arrays.slice(0, first), arrays.slice(first, arrays.rows)


class ArrayFeed:
    """Cuts arrays into batches; the last of a pass is smaller where they do not divide.

    Args:
        arrays: checked data.
        batch_size: rows a batch.
        shuffle: draw a new order for every pass: True of rows, 'batch' of whole batches (the
            smaller one stays last), for HDF5.
        seed: of the orders: each is a function of (seed, fit, pass).

    Attributes:
        order: what the orders are made of beside fit and pass.
        steps: batches of one pass.

    Raises:
        ValueError: the batch size is not positive, or there are no rows.
    """

    numbered = True

    def __init__(
        self,
        arrays: Arrays,
        *,
        batch_size: int,
        shuffle: bool | Literal["batch"] = False,
        seed: int = 0,
    ) -> None:
        if batch_size < 1 or arrays.rows < 1:
            raise ValueError(f"cannot cut {arrays.rows} samples into batches of {batch_size}")
        self.arrays, self.batch_size = arrays, batch_size
        self.shuffle, self.seed = shuffle, seed
        self.order = order_of(arrays.rows, batch_size, shuffle, seed)
        self.steps: int = -(-arrays.rows // batch_size)

    def batches(self, start: int = 0, fit: int = 0) -> Iterator[Fed]:
        """Yields batch `start` and those after it."""
        passed, first = divmod(start, self.steps)
        size = self.batch_size
        row_bytes = sum(
            math.prod(leaf.shape[1:]) * leaf.dtype.itemsize for leaf in _leaves(list(self.arrays))
        )
        picked_at_once = size * max(1, _PICKED_BYTES // (size * max(row_bytes, 1)))
        while True:
            order = self._rows(passed, fit)[first * size :]
            for begin in range(0, len(order), picked_at_once):
                picked = self.arrays.take(order[begin : begin + picked_at_once])
                for row in range(0, min(picked_at_once, len(order) - begin), size):
                    yield Fed(*_take(picked, slice(row, row + size)))
            passed, first = passed + 1, 0

    def end_pass(self) -> None:
        """Does nothing."""

    def _rows(self, passed: int, fit: int) -> np.ndarray:
        """Returns the rows of a pass in their order."""
        rows = np.arange(self.arrays.rows)
        if not self.shuffle:
            return rows
        generator = np.random.default_rng((self.seed, passed, fit))
        if self.shuffle != "batch":
            return generator.permutation(rows)
        whole = len(rows) // self.batch_size * self.batch_size
        batches = generator.permutation(rows[:whole].reshape(-1, self.batch_size))
        return np.concatenate([batches.ravel(), rows[whole:]])


def order_of(
    rows: int, batch_size: int, shuffle: bool | Literal["batch"], seed: int
) -> dict[str, Any]:
    """Returns what fixes the order of rows, by name, for a checkpoint to compare."""
    kind = shuffle if shuffle == "batch" else bool(shuffle)
    order = {"rows": rows, "batch_size": int(batch_size), "shuffle": kind}
    return order | {"seed": int(seed)} if shuffle else order


def _by_name(
    signature: Signature, data: PyTree, names: Sequence[str], needed: Sequence[str], kind: str
) -> list[Any]:
    """Returns an array for each name, None for those that are not needed."""
    if isinstance(data, Mapping):
        unknown = sorted(set(data) - set(names), key=str)
        if unknown:
            raise ValueError(f"{unknown} are no {kind} names; the model's are {list(names)}")
        found = [data.get(name) for name in names]
    else:
        is_list = isinstance(data, list | tuple) and not is_plain_list(data)
        found = list(data) if is_list else [data]
        if len(found) == len(needed) != len(names):
            given = dict(zip(needed, found, strict=True))
            found = [given.get(name) for name in names]
    if len(found) != len(names):
        raise ValueError(
            f"the model has {len(names)} {kind}s ({', '.join(names)}); found {len(found)} arrays. "
            "A list or tuple holds an array for each: rows in one are np.asarray(rows), and "
            "targets are an argument of their own, fit(x, y)"
        )
    missing = [n for n, array in zip(names, found, strict=True) if array is None and n in needed]
    if missing:
        given = sorted(data) if isinstance(data, Mapping) else f"a {type(data).__name__}"
        raise ValueError(f"No data provided for {missing[0]!r}; found {given}")
    arrays = [
        _as_array(array, f"{kind} {name!r}") if name in needed else None
        for name, array in zip(names, found, strict=True)
    ]
    for name, array in zip(names, arrays, strict=True):
        if array is not None:
            signature.check_shape(f"{kind} {name!r}", array.shape)
    return arrays


def _as_array(data: Any, what: str) -> Any:
    """Returns an array, or an HDF5 dataset as it is; a vector becomes a column."""
    if callable(data) and not hasattr(data, "shape"):
        raise ValueError(
            f"the data of {what} is a {type(data).__name__}, no array; a generator function has to "
            "be called: generator()"
        )
    if isinstance(data, str | bytes) or _is_mere_iterable(data):
        raise ValueError(
            f"the data of {what} is a {type(data).__name__}; expected an array of numbers, a list "
            "or dict of them, a generator or other iterator (iter(it) makes one of what can be "
            "looped over), a Sequence, a data source or a loader"
        )
    try:
        array = data if hasattr(data, "shape") else np.asarray(data)
    except ValueError as error:
        raise ValueError(
            f"the data of {what}, a {type(data).__name__}, make no array: their parts differ in "
            "shape. Batches (x, y) are given by a generator or a Sequence; arrays as fit(x, y)"
        ) from error
    if array.dtype.kind in "OUSMmc":
        raise ValueError(
            f"the data of {what} is no array of numbers: it has the dtype {array.dtype}"
            f"{' (take its .real, or np.abs of it)' if array.dtype.kind == 'c' else ''}"
        )
    if not array.shape:
        raise ValueError(f"the data of {what} is a single number; it needs a row for each sample")
    return np.asarray(array)[:, None] if len(array.shape) == 1 else array


def _is_mere_iterable(data: Any) -> bool:
    """Tells what can be looped over and is neither an array nor a list of rows."""
    is_array = hasattr(data, "shape") or hasattr(data, "__array__")
    return hasattr(data, "__iter__") and not is_array and not hasattr(data, "__getitem__")


def _leaves(tree: Any) -> Iterator[Any]:
    if isinstance(tree, Mapping):
        tree = list(tree.values())
    if isinstance(tree, list | tuple):
        for part in tree:
            yield from _leaves(part)
    elif tree is not None:
        yield tree


def _take(tree: Any, rows: Any) -> Any:
    """Returns some rows of every array; HDF5 datasets are read by slice or growing index."""
    if isinstance(tree, np.ndarray):
        return tree[rows]
    if tree is None:
        return None
    if isinstance(tree, list | tuple):
        return [_take(part, rows) for part in tree]
    if isinstance(tree, Mapping):
        return {key: _take(value, rows) for key, value in tree.items()}
    if isinstance(rows, slice):
        return tree[rows]
    if not hasattr(tree, "id"):  # an array of another library, on a device perhaps
        return np.asarray(tree)[rows]
    growing = np.argsort(rows, kind="stable")
    return tree[rows[growing]][np.argsort(growing, kind="stable")]
