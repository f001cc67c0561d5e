"""`Layer`, whose parameters are made at its first call."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NoReturn, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.core import Tracer
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from yolo_jax.model.graph.connect import check_called_on, connect, naming, shape_of
from yolo_jax.model.graph.session import chosen_name, keras_name, next_key
from yolo_jax.model.graph.tensor import (
    Node,
    Shape,
    SymbolicTensor,
    as_dtype,
    fits,
    row_shape,
)

PyTree = Any
Initializer = Callable[..., Array]
Regularizer = Callable[[Array], Array]


class LayerOptions(TypedDict, total=False):
    """Keywords that every layer takes.

    Attributes:
        name: of the layer; left out, it is numbered by kind: `dense_1`.
        trainable: False freezes the layer's parameters when a model is compiled.
        dtype: of the parameters; float32 if left out.
        input_shape: of one row: read as `layer.input_shape` before the first call, and held to in
            it.
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
        trainable: see `LayerOptions`.
        built: the parameters are there.
        nodes: the layer's calls on symbolic tensors.
        rank: axes that an input has to have, the batch's included; None takes any.
        supports_masking: the mask of the input is that of the output.

    Raises:
        TypeError: an argument that is none of these.
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
        self.name = chosen_name(name, keras_name(type(self).__name__))
        self.trainable, self.built = trainable, False
        what = f"layer {self.name!r}"
        self.dtype = as_dtype(what, jnp.float32 if dtype is None else dtype)
        self.nodes: tuple[Node, ...] = nnx.static(())
        self._declared_input: Shape | None = None
        if input_shape is not None:
            self._declared_input = (None, *row_shape(f"{what}: input_shape", input_shape))
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
        """Adds the layer to a graph where the inputs are symbolic, else computes.

        Raises:
            ValueError: the inputs do not fit the layer.
            RuntimeError: its first call is traced, where it cannot make its parameters.
        """
        check_called_on(self.name, inputs)
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

    @property
    def losses(self) -> list[Float[Array, ""]]:
        """Returns what the regularizers ask for, by weight."""
        weights = self.weights
        return [regularizer(weights[name][...]) for name, regularizer in self._regularizers]

    def penalty(self) -> Float[Array, ""]:
        """Returns the sum of `losses`."""
        return sum(self.losses, jnp.zeros(()))

    @property
    def trainable(self) -> bool:
        """Tells whether the parameters are trained; setting it counts at the next compile."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        if not isinstance(value, bool | int | np.bool_) or value not in (0, 1):
            raise TypeError(f"layer {self.name!r}: trainable is True or False; found {value!r}")
        self._trainable = bool(value)

    @property
    def weights(self) -> dict[str, nnx.Variable]:
        """Returns the layer's variables by Keras's names, in Keras's order."""
        found = {name: getattr(self, name) for name in self._weight_names}
        # Statistics come after parameters, whatever the order in which they were added.
        return dict(sorted(found.items(), key=lambda item: not isinstance(item[1], nnx.Param)))

    @property
    def trainable_weights(self) -> dict[str, nnx.Variable]:
        """Returns those of `weights` that are trained: none of a layer that is not `trainable`."""
        found = self.weights.items() if self.trainable else ()
        return {name: variable for name, variable in found if isinstance(variable, nnx.Param)}

    @property
    def non_trainable_weights(self) -> dict[str, nnx.Variable]:
        """Returns the others of `weights`."""
        trained = self.trainable_weights
        return {name: value for name, value in self.weights.items() if name not in trained}

    def get_config(self) -> NoReturn:
        """Says what keeps a layer.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            f"layer {self.name!r} has no config: a model is its Python code, which builds it again;"
            " model.save_weights keeps the weights"
        )

    def get_weights(self) -> list[np.ndarray]:
        """Returns copies of the arrays of `weights`."""
        return [np.array(variable[...]) for variable in self.weights.values()]

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
            # A copy: on the CPU jnp.asarray may go on reading from the caller's own buffer.
            variable.set_value(jnp.array(value, variable.dtype))

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
        declared = self._declared_input
        if declared is not None and len(shapes) == 1 and not fits(shapes[0][1:], declared[1:]):
            raise ValueError(
                f"layer {self.name!r} was made with input_shape={declared[1:]}, and is called on "
                f"an input of shape {shapes[0]}: leave input_shape out, or make them equal"
            )
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
