"""`K`'s settings, variables and shapes, and `K.function`."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from yolo_jax.model.graph import Graph, SymbolicTensor
from yolo_jax.model.graph.session import clear_session  # noqa: F401 - K.clear_session
from yolo_jax.model.graph.tensor import as_list
from yolo_jax.model.loss_formulas import EPSILON
from yolo_jax.model.optimizer import LearningRate

_FORMAT = "channels_last"


def backend() -> str:
    """Returns `jax`."""
    return "jax"


def floatx() -> str:
    """Returns the type of parameters and losses."""
    return "float32"


def epsilon() -> float:
    """Returns Keras's small number."""
    return EPSILON


def image_data_format() -> str:
    """Returns `channels_last`: images are `[batch, height, width, channels]`."""
    return _FORMAT


def set_floatx(floatx: str) -> None:
    """Takes `float32`.

    Raises:
        ValueError: another; what a layer computes in is its own `dtype`.
    """
    if floatx != "float32":
        raise ValueError(
            f"floatx is 'float32'; found {floatx!r}: give a layer a dtype of its own (dtype=…)"
        )


def set_epsilon(value: float) -> None:
    """Takes 1e-7.

    Raises:
        ValueError: another.
    """
    if value != EPSILON:
        raise ValueError(
            f"epsilon is {EPSILON}, in every loss; found {value!r}: give layers and optimizers an "
            "epsilon of their own"
        )


def set_image_data_format(data_format: str) -> None:
    """Takes `channels_last`.

    Raises:
        ValueError: another.
    """
    if data_format != _FORMAT:
        raise ValueError(
            f"images are [batch, height, width, channels], {_FORMAT!r}; found {data_format!r}: "
            "transpose the images, K.permute_dimensions(images, (0, 2, 3, 1))"
        )


def check_data_format(data_format: str | None) -> None:
    """Raises ValueError if an argument names a format that is not there; None is the default."""
    if data_format is not None:
        set_image_data_format(data_format)


def variable(value: Any, dtype: DTypeLike | None = None, name: str | None = None) -> nnx.Variable:
    """Returns an array that `K.set_value` changes, and that computes as an array does.

    A jit-compiled step takes its value when it is traced; what a layer trains is made by
    `add_weight`.

    Args:
        value: of it.
        dtype: of its elements; float32 if left out.
        name: without effect.
    """
    return nnx.Variable(jnp.array(value, dtype or floatx()))  # a copy, as everywhere in K


def get_value(x: Any) -> Any:
    """Returns a NumPy array of its own, or a number for the learning rate (`model.optimizer.lr`).

    Raises:
        TypeError: `x` is symbolic.
    """
    if isinstance(x, SymbolicTensor):
        raise TypeError(
            f"the symbolic tensor {x.name!r} has no value: K.function([inputs], [outputs]) "
            "computes it from arrays, as Model(inputs, outputs).predict does"
        )
    return float(x) if isinstance(x, LearningRate) else np.array(x)


def eval(x: Any) -> Any:
    """Returns the same as `get_value`."""
    return get_value(x)


def batch_get_value(ops: Sequence[Any]) -> list[Any]:
    """Returns the value of each."""
    return [get_value(x) for x in ops]


def set_value(x: Any, value: Any) -> None:
    """Sets the learning rate (`K.set_value(model.optimizer.lr, 1e-4)`) or a variable's value.

    Raises:
        TypeError: `x` is neither.
        ValueError: the value is of another shape, or no learning rate.
    """
    if isinstance(x, LearningRate):
        x.assign(value)
    elif hasattr(x, "set_value"):
        if np.shape(value) != x.shape:
            raise ValueError(
                f"set_value: the variable has the shape {x.shape}; found a value of shape "
                f"{np.shape(value)}"
            )
        x.set_value(jnp.array(value, x.dtype))
    else:
        raise TypeError(
            "set_value takes model.optimizer.lr, a layer's variable (layer.weights[name]) or a "
            f"K.variable; found {type(x).__name__}"
        )


def batch_set_value(tuples: Sequence[tuple[Any, Any]]) -> None:
    """Sets each of (variable, value)."""
    for x, value in tuples:
        set_value(x, value)


def int_shape(x: Any) -> tuple[int | None, ...]:
    """Returns the shape, of symbolic tensors too, with None for unknown sizes."""
    return tuple(x.shape)


def shape(x: Any) -> tuple[int, ...]:
    """Returns the shape: inside a step all sizes are known."""
    return jnp.shape(x)


def ndim(x: Any) -> int:
    """Returns the number of axes, of symbolic tensors too."""
    return len(x.shape) if isinstance(x, SymbolicTensor) else jnp.ndim(x)


def dtype(x: Any) -> str:
    """Returns the name of the element type."""
    return jnp.dtype(x.dtype).name


def count_params(x: Any) -> int:
    """Returns the number of elements.

    Raises:
        TypeError: `x` is no array, or has axes of unknown size.
    """
    sizes = getattr(x, "shape", None)
    if sizes is None or None in sizes:
        raise TypeError(
            f"K.count_params takes an array or a variable whose sizes are known; found {x!r} "
            "(`weights` is a dict by name: its variables are weights.values())"
        )
    return int(np.prod(sizes))


def is_tensor(x: Any) -> bool:
    """Tells whether it is an array of JAX's, a variable or a symbolic tensor."""
    return isinstance(x, jax.Array | nnx.Variable | SymbolicTensor)


def is_keras_tensor(x: Any) -> bool:
    """Tells whether it is a symbolic tensor, which layers and models are called with."""
    return isinstance(x, SymbolicTensor)


def function(
    inputs: SymbolicTensor | Sequence[SymbolicTensor],
    outputs: SymbolicTensor | Sequence[SymbolicTensor],
    updates: Sequence[Any] | None = None,
) -> Callable[[Sequence[Any]], Any]:
    """Returns a function of a list of arrays that computes symbolic tensors, as in evaluation.

    Args:
        inputs: of a model, or of several: `Input`s.
        outputs: of layers; a list gives a list of NumPy arrays, one tensor an array.
        updates: not there.

    Raises:
        TypeError: inputs or outputs are not symbolic.
        ValueError: an output cannot be reached from the inputs, or there are updates.
    """
    if updates:
        raise ValueError(
            "K.function has no updates: a layer keeps what it counts in add_weight(…, "
            "trainable=False), or set it by K.set_value afterwards"
        )
    given, asked = as_list(inputs), as_list(outputs)
    for tensor in (*given, *asked):
        if not isinstance(tensor, SymbolicTensor):
            raise TypeError(
                "K.function takes Inputs and outputs of layers; found "
                f"{type(tensor).__name__} {tensor!r}"
            )
    graph = Graph(given, asked)
    graph.eval()
    definition = nnx.graphdef(graph)
    run = jax.jit(lambda state, arrays: nnx.merge(definition, state, copy=True)(arrays))

    def call(arrays: Sequence[Any]) -> Any:
        values = as_list(arrays)
        if len(values) != len(given):
            raise ValueError(f"K.function of {len(given)} inputs; found {len(values)} arrays")
        cast = [jnp.asarray(v, tensor.dtype) for v, tensor in zip(values, given, strict=True)]
        # The weights as they are at each call.
        found = [np.array(array) for array in jax.device_get(run(nnx.state(graph), cast))]
        return found[0] if isinstance(outputs, SymbolicTensor) else found

    return call
