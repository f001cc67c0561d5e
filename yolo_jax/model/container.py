"""What a model is before it is trained: inputs, outputs, layers, and who owns their weights."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from yolo_jax.model.darknet_files import DarknetLayers
from yolo_jax.model.graph import Graph, SymbolicTensor
from yolo_jax.model.graph.connect import connect
from yolo_jax.model.graph.session import chosen_name
from yolo_jax.model.graph.tensor import Shape, tensors_of
from yolo_jax.model.graph.weights import (
    Weights,
    trainable_weights_of,
    weight_groups,
    weights_of,
)
from yolo_jax.model.summary import summary_lines
from yolo_jax.model.weight_files import load_weights, save_weights
from yolo_jax.networks import darknet
from yolo_jax.training.distributed import is_first
from yolo_jax.training.parallel import Parallel
from yolo_jax.training.state import copied, create_state, was_given_away

PyTree = Any


class Container:
    """Inputs, outputs and the layers between, callable as a layer itself.

    Between calls the layers' variables hold the weights, so that models which share layers share
    weights. While a model is trained or asked, `state` holds them; `read_layers` and `write_back`
    carry them over. Amid an epoch the layers lag behind until somebody asks this model for layers
    or weights; nothing is carried over for steps that nobody looks at.

    Args:
        inputs: one symbolic input, a list, or a dict.
        outputs: one symbolic tensor, a list, or a dict.
        name: of the model; None numbers it: `model_1`.
        seed: of everything random in training.

    Attributes:
        state: parameters, statistics, optimizer slots, EMA and step.

    Raises:
        TypeError: inputs or outputs are not symbolic tensors.
        ValueError: an output cannot be reached from the inputs, an input is given twice, or two
            layers share a name.
    """

    def __init__(
        self, inputs: PyTree, outputs: PyTree, name: str | None = None, *, seed: int = 0
    ) -> None:
        self.name, self.seed = chosen_name(name, "model"), seed
        self.inputs: list[SymbolicTensor] = tensors_of("inputs", inputs)
        self.outputs: list[SymbolicTensor] = tensors_of("outputs", outputs)
        if len(set(map(id, self.inputs))) < len(self.inputs):
            names = [tensor.name for tensor in self.inputs]
            raise ValueError(f"a Model's inputs are given once each; found {names}")
        self.single_output = isinstance(outputs, SymbolicTensor)
        self.graph = Graph(self.inputs, self.outputs)
        self.graph.owner = nnx.static(self)
        _, params, batch_stats, self._rest = nnx.split(self.graph, nnx.Param, nnx.BatchStat, ...)
        self.parallel = Parallel.over(jax.local_devices()[:1])
        # Copies: the step donates the state, and the layers keep their own arrays.
        self.state = create_state(copied(params), copied(batch_stats), seed=seed)
        self._asked = False
        self._mark_written()

    def __call__(self, inputs: PyTree) -> PyTree:
        """Runs the model as a layer: of another graph, or on arrays in evaluation."""
        leaves = jax.tree.leaves(inputs)
        if any(isinstance(leaf, SymbolicTensor) for leaf in leaves):
            outputs = connect(self.graph, inputs, self.name, named=True)
        else:
            self.refresh_layers()
            self.graph.eval()
            outputs = self.graph(leaves)
        return outputs[0] if self.single_output else outputs

    def read_layers(self) -> None:
        """Takes from the layers the weights that somebody changed since `write_back`."""
        arrays = self._layers_arrays()
        changed = [now is not before for now, before in zip(arrays, self._written, strict=True)]
        if not any(changed):
            return
        was_written = self.state.params is self._written_params
        own, structure = jax.tree.flatten((self.state.params, self.state.batch_stats))
        # The others may lag behind what was trained since.
        taken = [
            copied(now) if is_new else mine
            for now, mine, is_new in zip(arrays, own, changed, strict=True)
        ]
        weights = self.parallel.place(jax.tree.unflatten(structure, taken))
        self.state = self.state._replace(params=weights[0], batch_stats=weights[1])
        if self.state.ema is not None:
            # An average over weights that are gone would not be one of these.
            self.state = self.state._replace(ema=copied(weights[0]))
        self._written = arrays
        if was_written:
            self._written_params = self.state.params

    def write_back(self) -> None:
        """Gives the layers copies of the weights that training made."""
        # The next step gives the state's own arrays away.
        whole = self.parallel.whole((self.state.params, self.state.batch_stats))
        nnx.update(self.graph, *copied(whole))
        self._mark_written()

    def refresh_layers(self) -> None:
        """Writes back, if steps were taken since that was done; the device is not waited for."""
        if was_given_away(self.state):
            return  # the layers keep what was written last
        self.read_layers()
        self._asked = True
        if self.state.params is not self._written_params:
            self.write_back()

    def take_changes(self) -> None:
        """Reads the layers if this model was asked for them: whoever got them may have set them."""
        if self._asked:
            self.read_layers()
            self._asked = False

    def _mark_written(self) -> None:
        """Notes that layers and state agree."""
        # Every step makes new parameters.
        self._written, self._written_params = self._layers_arrays(), self.state.params

    @contextmanager
    def averaged_layers(self) -> Iterator[None]:
        """Lets the layers hold, for a while, the weights that evaluate and predict use.

        Those are the moving average where there is one. Whatever reads layers gets them: saving,
        and models that share layers with this one.
        """
        self.refresh_layers()
        if self.state.ema is None:
            yield
            return
        nnx.update(self.graph, copied(self.parallel.whole(self.state.ema)))
        self._written = self._layers_arrays()
        try:
            yield
        finally:
            self.write_back()

    def _layers_arrays(self) -> list[Any]:
        """Returns the arrays that the layers hold now, in a fixed order."""
        return jax.tree.leaves(nnx.split(self.graph, nnx.Param, nnx.BatchStat, ...)[1:3])

    @property
    def input(self) -> Any:
        """Returns the input, or the list of them."""
        return self.inputs[0] if len(self.inputs) == 1 else self.inputs

    @property
    def output(self) -> Any:
        """Returns the output, or the list of them."""
        return self.outputs[0] if self.single_output else self.outputs

    @property
    def input_shape(self) -> Shape | list[Shape]:
        """Returns the input's shape, or the list of them."""
        shapes = [tensor.shape for tensor in self.inputs]
        return shapes[0] if len(shapes) == 1 else shapes

    @property
    def output_shape(self) -> Shape | list[Shape]:
        """Returns the output's shape, or the list of them."""
        shapes = [tensor.shape for tensor in self.outputs]
        return shapes[0] if self.single_output else shapes

    @property
    def layers(self) -> list[Any]:
        """Returns inputs, layers and the models within in Keras's order."""
        self.refresh_layers()
        found: dict[str, Any] = {tensor.name: tensor for tensor in self.inputs}
        for name, layer in self.graph.layers.items():
            found[name] = layer.owner if isinstance(layer, Graph) and layer.owner else layer
        return [found[name] for name in self.graph.layer_order]

    @property
    def trainable(self) -> bool:
        """Tells whether any layer is trained; setting it sets all of them, for the next compile."""
        return any(layer.trainable for layer in self.graph.keras_layers())

    @trainable.setter
    def trainable(self, value: bool) -> None:
        for layer in self.graph.keras_layers():
            layer.trainable = value

    @property
    def weights(self) -> Weights:
        """Returns the variables as `layer/weight`: parameters first, then statistics, as Keras."""
        self.refresh_layers()
        return weights_of(self.graph)

    @property
    def trainable_weights(self) -> Weights:
        """Returns those of `weights` that are trained: of layers whose `trainable` is not False."""
        self.refresh_layers()
        return trainable_weights_of(self.graph)

    @property
    def non_trainable_weights(self) -> Weights:
        """Returns the others of `weights`."""
        trained = self.trainable_weights
        return {name: value for name, value in self.weights.items() if name not in trained}

    @property
    def losses(self) -> list[jax.Array]:
        """Returns what the layers' regularizers add to the loss now, by weight."""
        self.refresh_layers()
        return [loss for layer in self.graph.keras_layers() for loss in layer.losses]

    def get_layer(self, name: str | None = None, index: int | None = None) -> Any:
        """Returns a layer by its name or its place in `layers`.

        Raises:
            ValueError: there is no such layer.
        """
        layers = self.layers
        if index is not None:
            if not -len(layers) <= index < len(layers):
                raise ValueError(
                    f"Was asked to retrieve layer at index {index} but model only has "
                    f"{len(layers)} layers."
                )
            return layers[index]
        if name not in self.graph.layer_order:
            raise ValueError(f"No such layer: {name}; there are {list(self.graph.layer_order)}")
        return layers[self.graph.layer_order.index(name)]

    def get_weights(self) -> list[np.ndarray]:
        """Returns copies of all weights, layer by layer in Keras's order."""
        return [np.array(variable[...]) for variable in self._variables()]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Takes arrays in the order of `get_weights`.

        Raises:
            ValueError: too many or too few, or of other shapes.
        """
        variables = self._variables()
        if len(weights) != len(variables):
            raise ValueError(
                f"You called `set_weights` on model {self.name!r} with {len(weights)} arrays; it "
                f"has {len(variables)} weights"
            )
        for number, (variable, value) in enumerate(zip(variables, weights, strict=True)):
            if np.shape(value) != variable.shape:
                raise ValueError(
                    f"weight {number} (from 0) of model {self.name!r} has the shape "
                    f"{variable.shape}; found an array of shape {np.shape(value)}"
                )
        for variable, value in zip(variables, weights, strict=True):
            # A copy: on the CPU jnp.asarray may go on reading from the caller's own buffer.
            variable.set_value(jnp.array(value, variable.dtype))
        self.read_layers()

    def _variables(self) -> list[nnx.Variable]:
        self.refresh_layers()
        groups = weight_groups(self.graph).values()
        return [variable for weights in groups for variable in weights.values()]

    def save_weights(self, path: Path | str, overwrite: bool = True) -> None:
        """Writes all weights, in Keras's HDF5 layout: of a moving average where there is one.

        So what is loaded predicts as this model does. To `.safetensors` in that format; to
        `.weights` in Darknet's, of a model that has one.

        Args:
            path: of the file; its folder is made.
            overwrite: replace a file that is there.

        Raises:
            FileExistsError: there is one, and `overwrite` is False.
            IsADirectoryError: the path is a folder.
            ValueError: the model is no Darknet network, and the path ends in `.weights`.
        """
        if Path(path).is_dir():
            raise IsADirectoryError(f"save_weights writes a file; {path} is a folder")
        if not overwrite and Path(path).exists():
            raise FileExistsError(f"{path} is there already: overwrite=True replaces it")
        with self.averaged_layers():  # all processes give their shards
            if not is_first():
                return
            if Path(path).suffix == ".weights":
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                darknet.save_weights(path, DarknetLayers(self.graph))
            else:
                save_weights(path, weight_groups(self.graph))

    def load_weights(
        self, path: Path | str, by_name: bool = False, skip_mismatch: bool = False
    ) -> None:
        """Reads weights that `save_weights`, Keras or Darknet wrote.

        Args:
            path: of the file.
            by_name: match layers by name instead of by their order; layers that the file does not
                name keep their weights. A `.weights` file has no names and is always read in the
                order of its .cfg.
            skip_mismatch: layers whose shapes differ keep their weights, with a warning.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file does not fit; nothing was changed.
        """
        self.refresh_layers()
        if Path(path).suffix == ".weights":
            DarknetLayers(self.graph).load(path, skip_mismatch=skip_mismatch)
        else:
            groups = weight_groups(self.graph)
            load_weights(path, groups, by_name=by_name, skip_mismatch=skip_mismatch)
        self.read_layers()

    def summary(
        self,
        line_length: int | None = None,
        positions: Sequence[float] | None = None,
        print_fn: Callable[[str], Any] | None = None,
    ) -> None:
        """Prints the layers with their output shapes, weights and what they read, as Keras does.

        A chain of layers has three columns: what each reads is the one above.

        Args:
            line_length: characters a line; None: as many as are needed, 65 or 98 at least.
            positions: where each column ends, as shares of the line, or in characters.
            print_fn: called with every line; None prints it.

        Raises:
            ValueError: there are not as many positions as columns.
        """
        for line in summary_lines(self, line_length, positions):
            (print_fn or print)(line)

    def count_params(self) -> int:
        """Returns the number of scalars in all weights."""
        trees = (self.state.params, self.state.batch_stats)
        return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(trees))
