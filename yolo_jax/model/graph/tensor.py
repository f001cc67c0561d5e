"""Symbolic tensors and the calls that make them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
from flax import nnx
from jax import export
from jax.typing import DTypeLike

from yolo_jax.core.numbers import whole_number
from yolo_jax.model.graph.session import chosen_name

PyTree = Any
Shape = tuple[int | None, ...]
# Stands for an unknown batch axis while shapes are inferred; None in every shape that is shown.
BATCH = 2


@dataclass(eq=False)
class SymbolicTensor:
    """An array of the graph that is not there yet.

    Attributes:
        shape: with None for axes whose size is not known, the batch's first; () for a scalar.
        dtype: of the array.
        name: of an input, or of the layer that makes it.
        node: what makes it; None for an input.
        mask_shape: of the mask that comes with the array; None where there is no mask.
        tensor: array or data source that an input brings with it, for `fit(x=None)`.
        trainable: an input stands among `model.layers` for itself; there is nothing to train.
    """

    shape: Shape
    dtype: DTypeLike
    name: str
    node: "Node | None" = field(default=None, repr=False)
    mask_shape: Shape | None = field(default=None, repr=False)
    tensor: Any = field(default=None, repr=False)
    trainable: bool = field(default=False, repr=False)

    def _no_array(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError(
            f"{self.name!r} is a symbolic tensor, which layers alone take: put the computation in "
            "one, such as Lambda(lambda x: K.mean(x, axis=1))(x), or Add()([x, y])"
        )

    # What NumPy, JAX and Python's operators would ask of an array.
    __array__ = __jax_array__ = __getitem__ = _no_array
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __neg__ = _no_array
    __truediv__ = __rtruediv__ = __pow__ = __rpow__ = __matmul__ = __rmatmul__ = _no_array
    __lt__ = __le__ = __gt__ = __ge__ = _no_array

    @property
    def output(self) -> "SymbolicTensor":
        """Returns itself: an input stands among `model.layers` for itself, and answers as one."""
        return self

    @property
    def output_shape(self) -> Shape:
        """Returns the shape."""
        return self.shape

    input, input_shape = output, output_shape

    @property
    def weights(self) -> dict[str, Any]:
        """Returns none."""
        return {}

    trainable_weights = non_trainable_weights = weights

    def count_params(self) -> int:
        """Returns 0."""
        return 0

    def get_weights(self) -> list[Any]:
        """Returns none."""
        return []

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Takes no arrays.

        Raises:
            ValueError: there are some.
        """
        if len(weights):
            raise ValueError(f"the input {self.name!r} has no weights; found {len(weights)} arrays")


@dataclass(eq=False)
class Node:
    """One call of a layer on symbolic tensors.

    Attributes:
        layer: what is called.
        name: of the layer in the graph.
        inputs: symbolic tensors.
        outputs: the same.
        named: somebody chose the name; otherwise the graph may number it.
    """

    layer: nnx.Module
    name: str
    inputs: PyTree
    outputs: PyTree
    named: bool = True


def Input(  # noqa: N802 - Keras's name
    shape: Sequence[int | None] | None = None,
    batch_size: int | None = None,
    name: str | None = None,
    dtype: DTypeLike | None = None,
    tensor: Any = None,
) -> SymbolicTensor:
    """Declares an input of a model.

    Args:
        shape: without the batch axis; None stands for a size that may differ from batch to batch.
            May be left out where `tensor` has a shape.
        batch_size: fixed size of the batch axis; None for any.
        name: of the input; None numbers it: `input_1`.
        dtype: of the array that will be fed; None takes the tensor's, or float32.
        tensor: array or data source to train on when `fit` is given no x.

    Raises:
        TypeError: the shape is no tuple or list of numbers, the dtype none, or the tensor symbolic.
        ValueError: a size below 1, no shape at all, or one that is not the tensor's.
    """
    if isinstance(tensor, SymbolicTensor):
        raise TypeError(
            f"Input's tensor is an array or a data source; found the symbolic tensor "
            f"{tensor.name!r}, which layers and models take as it is: Model({tensor.name}, …)"
        )
    own = getattr(tensor, "shape", None)
    if shape is None:
        if own is None:
            raise ValueError("Input needs `shape` (without the batch axis), or a `tensor` with one")
        shape = own[1:]
    shape = row_shape("Input's shape", shape)
    if batch_size is not None:
        batch_size = whole_number("Input's batch_size", batch_size, 1)
    if own is not None and not fits(own[1:], shape):
        raise ValueError(
            f"Input was given the shape {shape} and a tensor of shape {tuple(own)}, whose "
            f"rows have the shape {tuple(own[1:])}; make them equal, or leave out `shape`"
        )
    if dtype is None:
        dtype = getattr(tensor, "dtype", jnp.float32)
    return SymbolicTensor(
        (batch_size, *shape),
        jax.dtypes.canonicalize_dtype(as_dtype("Input", dtype)),
        chosen_name(name, "input"),
        tensor=tensor,
    )


def row_shape(what: str, shape: Any) -> Shape:
    """Returns a shape that was given without the batch axis.

    Raises:
        TypeError: it is no tuple or list of whole numbers and None.
        ValueError: a size below 1.
    """
    if not isinstance(shape, tuple | list) or not all(d is None or _is_size(d) for d in shape):
        raise TypeError(
            f"{what} is a tuple of sizes or None, without the batch axis; found {shape!r}"
        )
    if any(size is not None and size < 1 for size in shape):
        raise ValueError(f"{what} holds sizes of at least 1, or None; found {tuple(shape)}")
    return tuple(None if size is None else int(size) for size in shape)


def as_dtype(what: str, dtype: Any) -> jnp.dtype:
    """Returns an element type from its name.

    Raises:
        TypeError: there is none of that name.
    """
    try:
        return jnp.dtype(dtype)
    except TypeError:
        raise TypeError(
            f"{what}: dtype is an element type such as 'float32', 'int32' or 'uint8'; found "
            f"{dtype!r}"
        ) from None


def as_list(value: Any) -> list[Any]:
    """Returns a list or tuple as a list, and anything else as the one element of one."""
    return list(value) if isinstance(value, list | tuple) else [value]


def tensors_of(what: str, given: PyTree) -> list[SymbolicTensor]:
    """Returns what a model is made of: one symbolic tensor, a list, or a dict's by sorted key.

    Args:
        what: `inputs` or `outputs`, for the error.
        given: that was given for it.

    Raises:
        TypeError: it is none of these.
        ValueError: there are none.
    """
    is_leaf = lambda x: x is None or isinstance(x, nnx.Module)  # noqa: E731 - modules are pytrees
    found = jax.tree.leaves(given, is_leaf) if isinstance(given, dict) else as_list(given)
    if not found:
        raise ValueError(f"a Model needs {what}; found {given!r}")
    for one in found:
        if not isinstance(one, SymbolicTensor):
            hint = ": call it on a tensor first, layer(x)" if isinstance(one, nnx.Module) else ""
            raise TypeError(
                f"a Model's {what} are symbolic tensors (what Input and layers return); found "
                f"{type(one).__name__} {getattr(one, 'name', one)!r}{hint}"
            )
    return found


def has_unknown_sizes(tensors: Sequence[SymbolicTensor]) -> bool:
    """Tells whether a size beyond the batch axis is unknown."""
    return any(size is None for tensor in tensors for size in tensor.shape[1:])


def as_structs(tensors: PyTree) -> tuple[PyTree, PyTree]:
    """Returns shapes and dtypes to infer with: of the tensors and of their masks (or None).

    An unknown size is a symbol of its axis, the same for all the tensors: layers that add or
    concatenate believe, as Keras's do, that sizes which are unknown are equal. It counts in 64s, so
    that a network which halves and doubles its images gets the sizes back that it had.
    """
    scope = export.SymbolicScope()

    def struct(shape: Shape, dtype: DTypeLike) -> jax.ShapeDtypeStruct:
        sizes = [
            size if size is not None
            else BATCH if axis == 0
            else export.symbolic_shape(f"64*axis{axis}", scope=scope)[0]
            for axis, size in enumerate(shape)
        ]  # fmt: skip
        return jax.ShapeDtypeStruct(tuple(sizes), dtype)

    values = jax.tree.map(lambda t: struct(t.shape, t.dtype), tensors)
    masks = jax.tree.map(
        lambda t: None if t.mask_shape is None else struct(t.mask_shape, jnp.bool_), tensors
    )
    return values, masks


def shown_shape(shape: Sequence[Any], batch: int | None) -> Shape:
    """Returns an inferred shape with the batch axis and unknown sizes as they are shown."""
    if not shape:
        return ()
    return (batch, *(size if isinstance(size, int) else None for size in shape[1:]))


def _is_size(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool)


def fits(found: Sequence[int | None], declared: Sequence[int | None]) -> bool:
    """Compares two shapes; a size that one of them leaves open fits."""
    return len(found) == len(declared) and all(
        None in (size, own) or size == own for own, size in zip(found, declared, strict=True)
    )
