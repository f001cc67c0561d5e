"""What a model brings with it: the tensors of its inputs, and `compile`'s `target_tensors`."""

from collections.abc import Mapping, Sequence
from typing import Any

from yolo_jax.model.data import kind_of
from yolo_jax.model.graph import SymbolicTensor

PyTree = Any


class JoinedSource:
    """Data sources and arrays side by side: row i has row i of each.

    Args:
        inputs: one for each input.
        targets: one for each target, or None.

    Raises:
        ValueError: their lengths differ.
    """

    def __init__(self, inputs: Sequence[Any], targets: Sequence[Any] | None) -> None:
        self.inputs = list(inputs)
        self.targets = None if targets is None else list(targets)
        lengths = [len(part) for part in (*inputs, *(targets or ()))]
        if len(set(lengths)) > 1:
            raise ValueError(
                "the tensors of the inputs and target_tensors need the same number of samples; "
                f"found {lengths}"
            )

    def __len__(self) -> int:
        """Returns the number of rows."""
        return len(self.inputs[0])

    def __getitem__(self, index: int) -> tuple[list[Any], list[Any] | None]:
        """Returns a row: of the inputs, and of the targets."""
        targets = None if self.targets is None else [part[index] for part in self.targets]
        return [part[index] for part in self.inputs], targets


def own_inputs(inputs: Sequence[SymbolicTensor]) -> Any:
    """Returns the tensors that the inputs bring, one for each; a single input's data source alone.

    Raises:
        ValueError: an input brings none.
    """
    missing = [tensor.name for tensor in inputs if tensor.tensor is None]
    if missing:
        raise ValueError(f"x is None, and the inputs {missing} bring no tensor with them")
    tensors = [tensor.tensor for tensor in inputs]
    if len(tensors) == 1 and kind_of(tensors[0]) != "arrays":
        return tensors[0]
    if any(kind_of(tensor) == "source" for tensor in tensors):
        return JoinedSource(tensors, None)
    return tensors


def with_targets(x: Any, targets: Any, names: Sequence[str]) -> tuple[Any, Any]:
    """Returns x and y, joined in a data source where one of them is one.

    Args:
        x: data of the inputs.
        targets: `target_tensors`: one for all, a list, or a dict by output name.
        names: of the outputs that have targets.

    Raises:
        ValueError: a name is no output's, or one has no target.
    """
    if isinstance(targets, Mapping):
        if set(targets) != set(names):
            raise ValueError(
                f"target_tensors has the names {sorted(targets)}; the outputs with a loss are "
                f"{list(names)}"
            )
        parts = [targets[name] for name in names]
    else:
        parts = list(targets) if isinstance(targets, list | tuple) else [targets]
    kinds = {kind_of(part) for part in parts}
    if kind_of(x) != "source" and "source" not in kinds:
        return x, targets
    if kind_of(x) == "source":
        inputs = x.inputs if isinstance(x, JoinedSource) else [x]
    else:
        inputs = list(x) if isinstance(x, list | tuple) else [x]
    return JoinedSource(inputs, parts), None
