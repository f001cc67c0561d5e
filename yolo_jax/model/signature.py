"""What a compiled model wants to be fed: names and shapes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp

from yolo_jax.model import loss_functions
from yolo_jax.model.graph import SymbolicTensor
from yolo_jax.model.loss_formulas import sparse_categorical_crossentropy
from yolo_jax.model.objective import Objective

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Signature:
    """What a compiled model wants to be fed.

    Attributes:
        inputs: names.
        outputs: names.
        trained: names of the outputs that have a loss, and so a target.
        joint: targets go to a joint loss as they are.
        temporal: names of the outputs whose sample weights are of (rows, steps).
        shapes: by kind and name (`input 'x'`) the shape that arrays have, the rows first, None for
            any size; data that are not here may have any shape.
        dtypes: of the inputs that take floats, by name.
        classes: by name, the number of classes of the outputs whose targets are class ids; of one
            with a mask, which leaves labels out that nobody sees here, nothing is said.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    trained: tuple[str, ...] = ()
    joint: bool = False
    temporal: tuple[str, ...] = ()
    shapes: dict[str, Shape] = field(default_factory=dict)
    dtypes: dict[str, Any] = field(default_factory=dict)
    classes: dict[str, int] = field(default_factory=dict)

    @property
    def batch_size(self) -> int | None:
        """Returns the rows of a batch where an input says them."""
        sizes = [self.shapes.get(f"input {name!r}", (None,))[0] for name in self.inputs]
        return next((size for size in sizes if size is not None), None)

    def check_shape(self, what: str, found: Sequence[int]) -> None:
        """Raises ValueError if the array for `input 'x'`, say, is not of that input's shape.

        A last axis of 1 may be left out.
        """
        expected = self.shapes.get(what)
        if expected is None or _fits(found, expected):
            return
        if expected[-1] == 1 and _fits(found, expected[:-1]):
            return
        hint = ""
        if what.startswith("output") and _fits(found, (*expected[:-1], 1)):
            hint = "; for class ids take the loss 'sparse_categorical_crossentropy'"
        shown = ", ".join(["rows", *("any" if n is None else str(n) for n in expected[1:])])
        raise ValueError(f"{what} takes arrays of shape ({shown}); found {tuple(found)}{hint}")


def signature_of(
    inputs: Sequence[SymbolicTensor],
    outputs: Sequence[SymbolicTensor],
    names: Sequence[str],
    objective: Objective | None = None,
    temporal: tuple[str, ...] = (),
) -> Signature:
    """Returns the signature of a model with these ends; without an objective, for predict.

    Args:
        inputs: of the model.
        outputs: of the model.
        names: of the outputs.
        objective: what the model was compiled with.
        temporal: outputs whose sample weights are of (rows, steps).
    """
    shapes: dict[str, Shape] = {f"input {t.name!r}": t.shape for t in inputs if len(t.shape) > 1}
    trained = [] if objective is None else [o for o in objective.outputs if o.loss is not None]
    classes: dict[str, int] = {}
    for output in trained:
        tensor = outputs[output.index]
        shape = _target_shape(output.loss, tensor.shape)
        if shape is None:
            continue
        shapes[f"output {output.name!r}"] = shape
        count = tensor.shape[-1]
        if _takes_ids(output.loss) and count is not None and tensor.mask_shape is None:
            classes[output.name] = count
    return Signature(
        inputs=tuple(tensor.name for tensor in inputs),
        outputs=tuple(names),
        trained=tuple(output.name for output in trained),
        joint=objective is not None and objective.joint is not None,
        temporal=temporal,
        shapes=shapes,
        dtypes={t.name: t.dtype for t in inputs if jnp.issubdtype(t.dtype, jnp.floating)},
        classes=classes,
    )


def _target_shape(loss: Any, output: Shape) -> Shape | None:
    """Returns the shape of an output's targets where its loss is Keras's; else it may be any."""
    function = loss_functions.function_of(loss)
    if function not in loss_functions.FUNCTIONS.values() or len(output) < 2:
        return None
    return (*output[:-1], 1) if _takes_ids(loss) else output


def _takes_ids(loss: Any) -> bool:
    """Tells whether a loss's targets are class ids."""
    return loss_functions.function_of(loss) is sparse_categorical_crossentropy


def _fits(found: Sequence[int], expected: Shape) -> bool:
    """Compares all axes but the rows'."""
    return len(found) == len(expected) and all(
        size in (None, own) for size, own in zip(expected[1:], found[1:], strict=True)
    )
