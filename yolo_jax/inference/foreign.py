"""Weights of other programs' YOLOv3: keras-yolo3's HDF5, PyTorch's as safetensors.

Neither says where in the network its arrays belong, so they are put in by their order, which is
Darknet's in both, and checked by their shapes. Pickled files (`.pt`, `.pth`) run whatever code they
hold when they are read, and are not read here.
"""

import re
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.numpy import load_file

from yolo_jax.model.weight_files import read_weights
from yolo_jax.networks.darknet import DarknetNetwork
from yolo_jax.networks.normalisation import EPSILON

# What the programs add to the variance, where a model does not say otherwise.
KERAS_EPSILON, TORCH_EPSILON = 1e-3, 1e-5
_PICKLED = (".bin", ".ckpt", ".pkl", ".pt", ".pth")


class Layers(NamedTuple):
    """The arrays of a file, in the network's order, by name.

    Attributes:
        convolutions: (name, [kernel HWIO] or [kernel, bias]).
        norms: (name, [gamma, beta, mean, variance]).
        epsilon: that is added to the variance.
    """

    convolutions: list[tuple[str, list[np.ndarray]]]
    norms: list[tuple[str, list[np.ndarray]]]
    epsilon: float


def is_foreign(path: Path) -> bool:
    """Tells by its suffix whether a weights file is another program's."""
    return path.suffix.lower() in (".h5", ".hdf5", ".safetensors", *_PICKLED)


def read_layers(path: Path, epsilon: float | None = None) -> Layers:
    """Reads the convolutions and normalisations of a file.

    Args:
        path: of keras-yolo3's `.h5` (weights, or a whole model), or of a PyTorch state dict as
            `.safetensors`, whose names sort as its modules stand.
        epsilon: of batch normalisation there; None: 1e-3 of Keras, 1e-5 of PyTorch.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, of another kind, or pickled.
    """
    if path.suffix.lower() in _PICKLED:
        raise ValueError(
            f"{path} is a pickle, which can run any code when it is read: save the state dict by "
            "safetensors.torch.save_file, where you trust it"
        )
    if path.suffix.lower() == ".safetensors":
        layers = _of_torch(path, TORCH_EPSILON if epsilon is None else epsilon)
    else:
        layers = _of_keras(path, KERAS_EPSILON if epsilon is None else epsilon)
    for name, arrays in (*layers.convolutions, *layers.norms):
        for array in arrays:
            if array.dtype.kind not in "fiu":
                raise ValueError(f"{path}: {name} holds {array.dtype}; expected numbers")
    return layers


def assign(layers: Layers, network: DarknetNetwork, path: Path) -> None:
    """Puts the arrays into a network's variables; none where one does not fit.

    Args:
        layers: of the file.
        network: filled in place.
        path: of the file, for messages.

    Raises:
        ValueError: there are more or fewer convolutions or normalisations, or one has another
            shape.
    """
    parts = [list(one.darknet_parts()) for one in network.convolutions()]
    normed = sum(len(one) > 2 for one in parts)
    found, wanted = (len(layers.convolutions), len(layers.norms)), (len(parts), normed)
    if found != wanted:
        raise ValueError(
            f"{path} has {found[0]} convolutions and {found[1]} batch normalisations; "
            f"{type(network).__name__} has {wanted[0]} and {wanted[1]}"
        )
    norms, pairs = iter(layers.norms), []
    for variables, (name, arrays) in zip(parts, layers.convolutions, strict=True):
        kernel, *bias = arrays
        if len(variables) > 2:
            norm, (gamma, beta, mean, variance) = next(norms)
            # Darknet adds its epsilon to the root: so both divide by the same.
            with np.errstate(invalid="ignore"):  # of what is below 0 becomes NaN, refused below
                root = np.sqrt(np.asarray(variance, np.float64) + layers.epsilon) - EPSILON
            if bias:  # which the normalisation takes off again
                mean = mean - bias[0]
            pairs += zip([f"{norm}"] * 4, variables, [beta, gamma, mean, root**2], strict=False)
        else:
            pairs.append((name, variables[0], bias[0] if bias else np.zeros(kernel.shape[-1])))
        pairs.append((name, variables[-1], kernel))
    for name, variable, array in pairs:
        if variable.shape != array.shape:
            raise ValueError(
                f"{path}: {name} has an array of shape {list(array.shape)}, where "
                f"{type(network).__name__} of {network.num_classes} classes has "
                f"{list(variable.shape)}"
            )
        if not np.isfinite(array).all():
            raise ValueError(f"{path}: {name} holds NaN or infinity; it is damaged")
    for _, variable, array in pairs:
        _set(variable, array)


def _set(variable: nnx.Variable, array: Float[np.ndarray, "..."]) -> None:
    variable[...] = jnp.asarray(array, variable[...].dtype)


def _of_keras(path: Path, epsilon: float) -> Layers:
    stored = read_weights(path)
    names = list(stored)
    numbered = [
        name for name in names if re.fullmatch(r"(conv2d|batch_normalization)(_\d+)?", name)
    ]
    # Keras numbers layers as they are made, which is Darknet's order; a model lists them by depth.
    names = sorted(numbered, key=_natural) if len(numbered) == len(names) else names
    convolutions = [(name, stored[name]) for name in names if stored[name][0].ndim == 4]
    norms = [(name, stored[name]) for name in names if stored[name][0].ndim == 1]
    for name, arrays in norms:
        if len(arrays) != 4:
            raise ValueError(
                f"{path}: the layer {name} has {len(arrays)} arrays; expected the gamma, beta, "
                "mean and variance of a batch normalisation"
            )
    return Layers(convolutions, norms, epsilon)


def _of_torch(path: Path, epsilon: float) -> Layers:
    if not path.is_file():
        raise FileNotFoundError(f"there is no weights file {path}")
    try:
        arrays = load_file(path)
    except (SafetensorError, OSError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is damaged, or holds numbers that NumPy has not, such as bfloat16: {error}"
        ) from error
    modules: dict[str, dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        module, _, leaf = name.rpartition(".")
        modules.setdefault(module, {})[leaf] = array
    convolutions, norms = [], []
    for module in sorted(modules, key=_natural):
        own = modules[module]
        if "running_mean" in own:
            try:
                norms.append(
                    (module, [own[k] for k in ("weight", "bias", "running_mean", "running_var")])
                )
            except KeyError as error:
                raise ValueError(f"{path}: {module} lacks {error}") from error
        elif own.get("weight", np.zeros(0)).ndim == 4:
            kernel = own["weight"].transpose(2, 3, 1, 0)
            convolutions.append((module, [kernel, *([own["bias"]] if "bias" in own else [])]))
    return Layers(convolutions, norms, epsilon)


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Returns what sorts `conv2d_10` behind `conv2d_9`, and `conv2d` before both."""
    parts = re.split(r"(\d+)", name)
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]
