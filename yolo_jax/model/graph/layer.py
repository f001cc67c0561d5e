"""`Layer`, whose parameters are made at its first call, and `apply` for any other NNX module."""

import re
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.core import Tracer
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from yolo_jax.model.graph.connect import connect, naming, shape_of
from yolo_jax.model.graph.session import keras_name, next_key, unique_name
from yolo_jax.model.graph.tensor import Node, Shape, SymbolicTensor

PyTree = Any
Initializer = Callable[..., Array]
Regularizer = Callable[[Array], Array]


class LayerOptions(TypedDict, total=False):
    """Keywords that every layer takes.

    Attributes:
        name: of the layer; left out, it is numbered by kind: `dense_1`.
        trainable: False freezes the layer's parameters when a model is compiled.
        dtype: of the parameters; float32 if left out.
        input_shape: of one row, for those who read `layer.input_shape` before the first call.
    """

    name: str | None
    trainable: bool
    dtype: DTypeLike | None
    input_shape: Sequence[int | None] | None


class Layer(nnx.Module):
    """A step of a model. Subclasses say what it does in `call`, and make parameters in `build`.

    On symbolic tensors a layer adds itself to a graph; on arrays it computes, normalising and
    dropping as in evaluation. Called again, it shares its parameters.

    Args:
        name: see `LayerOptions`, as the others.
        trainable: the same.
        dtype: the same.
        input_shape: the same.

    Attributes:
        built: the parameters are there.
        nodes: the layer's calls on symbolic tensors.
        rank: axes that an input has to have, the batch's included; None takes any.
        supports_masking: the mask of the input is that of the output.
    """

    rank: ClassVar[int | None] = None
    supports_masking: ClassVar[bool] = False

    def __init__(
        self,
        name: str | None = None,
        trainable: bool = True,
        dtype: DTypeLike | None = None,
        input_shape: Sequence[int | None] | None = None,
    ) -> None:
        self.name = name or unique_name(keras_name(type(self).__name__))
        self.trainable, self.built = trainable, False
        self.dtype = jnp.dtype(jnp.float32 if dtype is None else dtype)
        self.nodes: tuple[Node, ...] = nnx.static(())
        self._declared_input = None if input_shape is None else (None, *input_shape)
        self._weight_names: tuple[str, ...] = ()
        self._regularizers: tuple[tuple[str, Regularizer], ...] = nnx.static(())
        self._channels: int | None = None

    def build(self, input_shape: Any) -> None:
        """Makes the parameters.

        Args:
            input_shape: with None for unknown sizes; a list of shapes where inputs are several.
        """
        self.built = True

    def call(self, inputs: PyTree) -> PyTree:
        """Computes the outputs.

        An override may also name `training` (True in fit), `mask` (of the inputs, or None),
        `row_mask` (`[b]`, False for rows that only fill the batch; None: all count) and `row_keys`
        (a key for each row in training, else None); what it names it is given.
        """
        raise NotImplementedError(f"{type(self).__name__} has no `call`")

    def compute_mask(self, inputs: PyTree, mask: PyTree = None) -> PyTree:
        """Returns the mask of the outputs; one that does not support masking has none."""
        return mask if self.supports_masking else None

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns a declared shape that is believed over the inferred one, or None."""
        return None

    def __call__(self, inputs: PyTree, **keywords: Any) -> PyTree:
        """Adds the layer to a graph where the inputs are symbolic, else computes."""
        leaves = jax.tree.leaves(inputs)
        symbolic = any(isinstance(leaf, SymbolicTensor) for leaf in leaves)
        shapes = jax.tree.map(lambda leaf: shape_of(leaf), inputs)
        self._check_inputs([shape_of(leaf) for leaf in leaves])
        if not self.built:
            if any(isinstance(leaf, Tracer) for leaf in leaves):
                raise RuntimeError(
                    f"layer {self.name!r} makes its parameters when it is first called; call it "
                    "once on a symbolic tensor or an array before it is traced"
                )
            with naming(self.name, inputs):
                self.build(shapes)
            self.built = True
        if not symbolic:
            return self.call(inputs, **keywords)
        declared = self.compute_output_shape(shapes)
        outputs = connect(self, inputs, self.name, named=True, output_shape=declared)
        self.nodes = nnx.static((*self.nodes, jax.tree.leaves(outputs)[0].node))
        return outputs

    def add_weight(
        self,
        name: str,
        shape: Sequence[int],
        initializer: Initializer,
        *,
        trainable: bool = True,
        regularizer: Regularizer | None = None,
    ) -> nnx.Variable:
        """Makes a parameter, keeps it as the attribute `name`, and returns it.

        Args:
            name: of the parameter; `weights` has them in the order in which they are added.
            shape: of the parameter.
            initializer: as those of `jax.nn.initializers`: (key, shape, dtype) to an array.
            trainable: False makes a statistic, which no optimizer touches.
            regularizer: penalty on it, added to the model's loss.

        Raises:
            TypeError: the initializer or the regularizer cannot be called.
        """
        if not callable(initializer):
            raise TypeError(
                f"layer {self.name!r}: an initializer is a function (key, shape, dtype), such as "
                f"jax.nn.initializers.ones; found {initializer!r}"
            )
        value = initializer(next_key(), tuple(shape), self.dtype)
        variable = nnx.Param(value) if trainable else nnx.BatchStat(value)
        setattr(self, name, variable)
        self._weight_names = (*self._weight_names, name)
        self.regularize(name, regularizer)
        return variable

    def regularize(self, name: str, regularizer: Regularizer | None) -> None:
        """Puts a penalty on a weight.

        Raises:
            TypeError: the regularizer cannot be called.
        """
        if regularizer is None:
            return
        if not callable(regularizer):
            raise TypeError(
                f"layer {self.name!r}: a regularizer is a function of the {name}, such as "
                f"regularizers.l2(5e-4); found {regularizer!r}"
            )
        self._regularizers = nnx.static((*self._regularizers, (name, regularizer)))

    def require_channels(self, size: int | None) -> int:
        """Returns the size of the inputs' last axis, and holds later inputs to it.

        Raises:
            ValueError: the size is unknown.
        """
        if size is None:
            raise ValueError(
                f"The last dimension of the inputs to layer {self.name!r} should be defined. "
                "Found `None`."
            )
        self._channels = size
        return size

    def penalty(self) -> Float[Array, ""]:
        """Returns the sum of what the regularizers ask for."""
        weights = self.weights
        found = (regularizer(weights[name][...]) for name, regularizer in self._regularizers)
        return sum(found, jnp.zeros(()))

    @property
    def weights(self) -> dict[str, nnx.Variable]:
        """Returns the layer's variables by Keras's names, in Keras's order."""
        found = {name: getattr(self, name) for name in self._weight_names}
        # Statistics come after parameters, whatever the order in which they were added.
        return dict(sorted(found.items(), key=lambda item: not isinstance(item[1], nnx.Param)))

    def get_weights(self) -> list[np.ndarray]:
        """Returns the arrays of `weights`."""
        return [np.asarray(variable[...]) for variable in self.weights.values()]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Takes arrays in the order of `weights`.

        Raises:
            ValueError: too many or too few, or of other shapes.
        """
        variables = self.weights
        if len(weights) != len(variables):
            raise ValueError(
                f"You called `set_weights` on layer {self.name!r} with {len(weights)} arrays; it "
                f"has {len(variables)} weights: {list(variables)}"
            )
        for (name, variable), value in zip(variables.items(), weights, strict=True):
            if np.shape(value) != variable.shape:
                raise ValueError(
                    f"layer {self.name!r}: the weight {name} has the shape {variable.shape}; "
                    f"found an array of shape {np.shape(value)}"
                )
        for variable, value in zip(variables.values(), weights, strict=True):
            variable.set_value(jnp.asarray(value, variable.dtype))

    def count_params(self) -> int:
        """Returns the number of scalars in the weights.

        Raises:
            ValueError: the layer was never called, so that it has no weights yet.
        """
        if not self.built:
            raise ValueError(
                f"You tried to call `count_params` on layer {self.name!r}, which isn't built; "
                "call it on a tensor first"
            )
        return sum(int(np.prod(variable.shape)) for variable in self.weights.values())

    @property
    def input(self) -> PyTree:
        """Returns the symbolic inputs of the layer's one call."""
        return self._only_node("input").inputs

    @property
    def output(self) -> PyTree:
        """Returns the symbolic outputs of the layer's one call."""
        return self._only_node("output").outputs

    @property
    def input_shape(self) -> Any:
        """Returns the shape of `input`: a list where inputs are several."""
        if not self.nodes and self._declared_input is not None:
            return self._declared_input
        return jax.tree.map(lambda t: t.shape, self._only_node("input_shape").inputs)

    @property
    def output_shape(self) -> Any:
        """Returns the shape of `output`: a list where outputs are several."""
        return jax.tree.map(lambda t: t.shape, self._only_node("output_shape").outputs)

    def _only_node(self, attribute: str) -> Node:
        if len(self.nodes) == 1:
            return self.nodes[0]
        raise AttributeError(
            f"layer {self.name!r} was called {len(self.nodes)} times on symbolic tensors, so its "
            f"`{attribute}` is not defined; see `nodes`"
        )

    def _check_inputs(self, shapes: Sequence[Shape]) -> None:
        for shape in shapes:
            if self.rank is not None and len(shape) != self.rank:
                raise ValueError(
                    f"Input is incompatible with layer {self.name!r}: expected ndim={self.rank}, "
                    f"found ndim={len(shape)}, an input of shape {shape}"
                )
            if self._channels is not None and shape[-1] not in (None, self._channels):
                raise ValueError(
                    f"Input is incompatible with layer {self.name!r}: expected axis -1 to have "
                    f"the size {self._channels}, found an input of shape {shape}"
                )


def apply(layer: nnx.Module, inputs: PyTree, *, name: str | None = None) -> PyTree:
    """Calls any NNX module on symbolic tensors.

    Args:
        layer: a module whose call takes the inputs (a list or dict where there are several). As
            `Layer.call`, it may name `mask`, `row_mask` and `row_keys`.
        inputs: symbolic tensors.
        name: of the layer in its model; None makes one of the class's name.

    Returns:
        Symbolic tensors in the structure that the module returns.

    Raises:
        ValueError: a `Layer`, which has a name already, is given another.
        TypeError: the inputs are not symbolic.
    """
    if isinstance(layer, Layer):
        if name not in (None, layer.name):
            raise ValueError(f"layer {layer.name!r} cannot be called {name!r}: name the layer")
        return layer(inputs)
    made_up = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(layer).__name__).lower()
    return connect(layer, inputs, name or made_up, named=name is not None)
