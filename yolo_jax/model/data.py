"""What `fit`, `evaluate` and `predict` are given, of whatever kind, as a feed."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from yolo_jax.core.numbers import finite_number, true_or_false, whole_number
from yolo_jax.model.arrays import ArrayFeed, Arrays, standardize
from yolo_jax.model.enqueuer import Enqueuer
from yolo_jax.model.feed import Feed, LoaderFeed, SharedFeed, with_rows
from yolo_jax.model.sequence import is_sequence
from yolo_jax.model.signature import Signature
from yolo_jax.model.source_feed import SourceFeed
from yolo_jax.model.values import check_finite
from yolo_jax.training.parallel import Parallel
from yolo_jax.training.step import Fed

PyTree = Any


@dataclass(frozen=True)
class Reading:
    """How a generator or Sequence is read; see `Enqueuer`.

    Attributes:
        workers: 0 reads in the main thread.
        use_multiprocessing: processes rather than threads.
        max_queue_size: batches built ahead, at most.
        shuffle: draw a new order of a Sequence for every pass.

    Raises:
        ValueError: a number of workers that is no whole number, or a queue that holds nothing.
        TypeError: `use_multiprocessing` is neither True nor False.
    """

    workers: int = 1
    use_multiprocessing: bool = False
    max_queue_size: int = 10
    shuffle: bool = False

    def __post_init__(self) -> None:
        whole_number("workers", self.workers)
        whole_number("max_queue_size", self.max_queue_size, 1)
        true_or_false("use_multiprocessing", self.use_multiprocessing)


class StreamFeed:
    """Batches that a generator or a `Sequence` yields: (x, y) or (x, y, sample_weight).

    Args:
        source: of the batches.
        signature: of the model.
        class_weight: weight by class id.
        reading: how.
        need_y: False for predict, where an item may be x alone.
        strict: a batch with NaN or infinity is an error.

    Attributes:
        steps: length of a Sequence; None for a generator.
    """

    numbered = False

    def __init__(
        self,
        source: Any,
        signature: Signature,
        *,
        class_weight: PyTree = None,
        reading: Reading = Reading(),  # noqa: B008 - immutable
        need_y: bool = True,
        strict: bool = False,
    ) -> None:
        self.source, self.signature, self.reading = source, signature, reading
        self.strict = strict
        self.class_weight, self.need_y = class_weight, need_y
        self.order: dict[str, Any] = {}
        self._first: Fed | None = None
        self._items: Enqueuer | None = None

    @property
    def steps(self) -> int | None:
        """Returns the batches of a pass, read anew."""
        return len(self.source) if is_sequence(self.source) else None

    def batches(self, start: int = 0, fit: int = 0) -> Iterator[Fed]:
        """Yields batch `start` and those after it, whatever the fit; ends when a generator does."""
        with Enqueuer(self.source, start=start, **asdict(self.reading)) as items:
            self._items = items
            for number, item in enumerate(items, start):
                yield self._checked(item, number)

    def end_pass(self) -> None:
        """Runs the Sequence's `on_epoch_end` if all of its batches were taken."""
        if self._items is not None:
            self._items.end_pass()

    def _checked(self, item: Any, number: int) -> Fed:
        if not self.need_y and not isinstance(item, tuple):
            item = (item,)
        if not isinstance(item, tuple | list) or not 1 + self.need_y <= len(item) <= 3:
            raise ValueError(
                "Output of generator should be a tuple `(x, y, sample_weight)` or `(x, y)`; batch "
                f"{number} (from 0) is {type(item).__name__} "
                f"{f'of {len(item)}' if isinstance(item, tuple | list) else ''}"
            )
        x, y, weight = (*item, None, None)[:3]
        try:
            arrays = standardize(
                self.signature, x, y if self.need_y else None, weight, self.class_weight,
                need_y=self.need_y,
            )  # fmt: skip
        except (ValueError, TypeError) as error:
            raise type(error)(f"batch {number} (from 0): {error}") from error
        fed = with_rows(_as_fed(self.signature, arrays), number)
        self._first = self._first or fed
        _check_same_structure(self.signature, self._first, fed, number)
        if self.strict:
            check_finite(self.signature, fed.x, fed.y, f"batch {number} (from 0), ")
        return fed


def _as_fed(signature: Signature, arrays: Arrays) -> Fed:
    """Returns a batch of NumPy's arrays; floats have the input's dtype, or else Keras's float32.

    Whole numbers stay as they are, and so does what goes to an input of them.
    """

    def cast(array: Any, dtype: Any = np.float32) -> np.ndarray:
        array = np.asarray(array)
        is_float = jnp.issubdtype(array.dtype, jnp.floating)
        return array.astype(dtype, copy=False) if is_float else array

    dtypes = [signature.dtypes.get(name, np.float32) for name in signature.inputs]
    x = [cast(array, dtype) for array, dtype in zip(arrays.x, dtypes, strict=True)]
    return Fed(x, *jax.tree.map(cast, (arrays.y, arrays.weight)), row_mask=None)


def _parts_of(signature: Signature, fed: Fed) -> dict[str, str]:
    """Describes by name what batches have in common, which is not their number of rows."""
    kinds = {
        "x": ("input", signature.inputs),
        "y": ("output", signature.outputs),
        "weight": ("sample_weight of output", signature.outputs),
    }
    parts = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(fed._asdict()):
        kind, names = kinds[path[0].key]
        of_name = len(path) == 2 and isinstance(path[1], jax.tree_util.SequenceKey)
        name = repr(names[path[1].idx]) if of_name else jax.tree_util.keystr(path[1:])
        last = f", the last of {leaf.shape[-1]}" if leaf.ndim > 1 else ""
        parts[f"{kind} {name}"] = f"{leaf.dtype} of {leaf.ndim} axes{last}"
    return parts


def _check_same_structure(signature: Signature, first: Fed, fed: Fed, number: int) -> None:
    """Raises ValueError where a batch differs from the first in more than its rows."""
    expected, found = _parts_of(signature, first), _parts_of(signature, fed)
    differences = [
        f"{name} was {expected.get(name, 'not there')} and is {found.get(name, 'not there')} now"
        for name in expected | found
        if expected.get(name) != found.get(name)
    ]
    if differences:
        raise ValueError(
            f"batch {number} (from 0) is of another structure than the first: "
            f"{'; '.join(differences)}. Make every batch alike"
        )


def kind_of(x: Any) -> Literal["loader", "stream", "source", "arrays"]:
    """Tells how data is read: by `batches`, item by item, row by row, or as arrays."""
    if is_sequence(x) or hasattr(x, "__next__"):
        return "stream"
    if callable(getattr(x, "batches", None)):
        return "loader"
    is_array = hasattr(x, "shape") or isinstance(x, list | tuple | Mapping | str | bytes)
    if not is_array and hasattr(x, "__getitem__") and hasattr(x, "__len__"):
        return "source"
    return "arrays"


def is_to_be_split(x: Any, validation_split: float) -> bool:
    """Tells whether a share was asked for.

    Raises:
        ValueError: it is no number, or data has no last rows.
    """
    finite_number("validation_split", 0 if validation_split is None else validation_split)
    if validation_split and kind_of(x) != "arrays":
        raise ValueError(
            "validation_split takes the last rows of arrays; give validation_data with a "
            f"{type(x).__name__}"
        )
    return bool(validation_split)


def _check_arguments_of(
    kind: str,
    x: Any,
    *,
    y: Any,
    sample_weight: Any,
    batch_size: int | None,
    class_weight: Any,
    shuffle: Any,
) -> None:
    """Raises ValueError for what a kind of data does not take; see `kind_of`."""
    if shuffle is not None and shuffle not in (True, False, "batch"):
        raise ValueError(f"shuffle is True, False or 'batch'; found {shuffle!r}")
    if kind != "arrays" and shuffle == "batch":
        raise ValueError(
            "shuffle='batch' is of the batches that arrays are cut into; with a "
            f"{type(x).__name__} leave it out"
        )
    given = {"y": y, "sample_weight": sample_weight}
    if kind != "source":
        given["batch_size"] = batch_size
    wrong = [name for name, value in given.items() if value is not None and kind != "arrays"]
    if wrong:
        names = " and ".join(wrong)
        raise ValueError(f"{names} cannot be given with a {type(x).__name__}, which holds its own")
    if kind == "loader" and class_weight is not None:
        raise ValueError("class_weight cannot be given with a loader: let its loss weigh the rows")


def as_feed(
    signature: Signature,
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    batch_size: int | None = None,
    class_weight: Any = None,
    shuffle: bool | Literal["batch"] = False,
    seed: int = 0,
    reading: Reading = Reading(),  # noqa: B008 - immutable
    need_y: bool = True,
    strict: bool = False,
    steps: int | None = None,
    parallel: Parallel | None = None,
    parts: int = 1,
) -> Feed:
    """Returns the feed of whatever `fit`, `evaluate` or `predict` was given.

    Args:
        signature: of the model.
        x: data.
        y: targets of arrays.
        sample_weight: of arrays.
        batch_size: rows a batch of arrays or a data source.
        class_weight: weight by class id.
        shuffle: draw a new order for every pass.
        seed: of the orders.
        reading: of generators and Sequences.
        need_y: False for predict.
        strict: numbers that are not finite are an error.
        steps: that were asked for; of arrays each takes all rows then, as in Keras 2.3.
        parallel: the devices that share a batch, where they do.
        parts: that each of them takes its rows in.

    Raises:
        ValueError: arguments that the kind of data does not take, or data that do not fit.
        TypeError: `strict` is neither True nor False.
    """
    true_or_false("strict", strict)
    kind = kind_of(x)
    _check_arguments_of(
        kind, x, y=y, sample_weight=sample_weight, batch_size=batch_size,
        class_weight=class_weight, shuffle=shuffle,
    )  # fmt: skip
    match kind:
        case "loader":
            # Its batches are the rows of this process already.
            return LoaderFeed(x, None if parallel is None else parallel.place_batch)
        case "stream":
            reading = replace(reading, shuffle=bool(shuffle))
            feed: Feed = StreamFeed(
                x, signature, class_weight=class_weight, reading=reading, need_y=need_y,
                strict=strict,
            )  # fmt: skip
        case "source":
            feed = SourceFeed(
                x,
                signature,
                batch_size=_batch_size(batch_size, signature),
                shuffle=bool(shuffle),
                seed=seed,
                class_weight=class_weight,
                need_y=need_y,
                strict=strict,
            )
        case "arrays":
            arrays = standardize(signature, x, y, sample_weight, class_weight, need_y=need_y)
            if strict:
                check_finite(signature, arrays.x, arrays.y)
            size = _rows_of_a_step(arrays, batch_size, signature, steps)
            feed = ArrayFeed(arrays, batch_size=size, shuffle=steps is None and shuffle, seed=seed)
    if parallel is None or parallel.processes == 1:
        return feed
    return SharedFeed(feed, parallel.process, parts * len(parallel.devices))


def _rows_of_a_step(
    arrays: Arrays, batch_size: int | None, signature: Signature, steps: int | None
) -> int:
    if steps is None:
        return _batch_size(batch_size, signature)
    if batch_size is not None:
        raise ValueError(
            "with a number of steps, each step takes all rows of the arrays: batch_size has to be "
            f"None; found {batch_size}. Leave the steps out to cut the arrays into batches"
        )
    return arrays.rows


def _batch_size(given: int | None, signature: Signature) -> int:
    if given is None:
        return signature.batch_size or 32
    if signature.batch_size not in (None, given):
        raise ValueError(
            f"the model's input has batch_size={signature.batch_size}; found batch_size={given}: "
            "leave it out"
        )
    return whole_number("batch_size", given, 1)


def check_has_steps(feed: Feed, steps: int | None, argument: str) -> None:
    """Raises ValueError where nothing says how many batches to take, or it says none."""
    if steps is not None:
        whole_number(argument, steps, 1)
    if feed.steps == 0:
        raise ValueError("the data are empty: their len() is 0, and a pass needs a batch")
    if feed.steps is None and steps is None:
        raise ValueError(
            f"a generator has no length: `{argument}` has to say how many batches are taken"
        )
