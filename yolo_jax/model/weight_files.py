"""Weights in files: Keras's own HDF5 layout, and safetensors.

Source of the layout: keras/engine/saving.py (Keras 2.3): the root's attribute `layer_names`; a
group for each layer, whose attribute `weight_names` names its datasets; all of it under
`model_weights` in a file of a whole model.
"""

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from yolo_jax.core.caller import warn_caller
from yolo_jax.model.graph.session import NUMBERED

Groups = Mapping[str, Mapping[str, nnx.Variable]]
Stored = dict[str, list[np.ndarray]]
_BETWEEN = "/"  # layer and weight, in safetensors
# What h5py and safetensors raise on damaged files.
_DAMAGE = (SafetensorError, OSError, KeyError, RuntimeError, TypeError, UnicodeError)
_OF_KERAS_3 = (
    ", whose layout is not read here: load it there and write Keras 2's, model.save('model.h5'), "
    "which load_weights takes"
)


def save_weights(path: Path | str, groups: Groups) -> None:
    """Writes weights; `.safetensors` in that format, every other name as HDF5.

    The file is replaced as a whole.

    Args:
        path: of the file; its folder is made.
        groups: variables by name, by layer.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    arrays = {
        name: {weight: np.asarray(variable[...]) for weight, variable in weights.items()}
        for name, weights in groups.items()
    }
    if path.suffix == ".safetensors":
        flat = {
            f"{name}{_BETWEEN}{weight}": np.ascontiguousarray(array)
            for name, weights in arrays.items()
            for weight, array in weights.items()
        }
        # The file keeps no order of its own: that of layers and weights goes beside the arrays.
        save_file(flat, partial, metadata={"order": "\n".join(flat)})
    else:
        with h5py.File(partial, "w") as file:
            file.attrs["layer_names"] = _names(list(arrays))
            file.attrs["backend"], file.attrs["keras_version"] = "tensorflow", "2.3.1"
            for name, weights in arrays.items():
                group = file.create_group(name)
                # The weights of a model within are named after its own layers.
                full = [w if "/" in w else f"{name}/{w}" for w in weights]
                group.attrs["weight_names"] = _names([f"{one}:0" for one in full])
                for one, array in zip(full, weights.values(), strict=True):
                    group.create_dataset(f"{one}:0", data=array)
    partial.replace(path)


def read_weights(path: Path | str) -> Stored:
    """Reads what `save_weights`, or Keras, wrote: arrays by layer name, in the file's order.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no weights file, is damaged, or of a layout of Keras 3's own.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no weights file {path}")
    try:
        return _read_safetensors(path) if path.suffix == ".safetensors" else _read_hdf5(path)
    except _DAMAGE as error:
        raise ValueError(f"{path} is damaged, or no weights file: {error}") from error


def _read_hdf5(path: Path) -> Stored:
    if zipfile.is_zipfile(path):
        raise ValueError(f"{path} is a `.keras` file of Keras 3{_OF_KERAS_3}")
    if not h5py.is_hdf5(path):
        raise ValueError(f"{path} is not an HDF5 file, which Keras's weights are kept in")
    with h5py.File(path, "r") as file:
        root = _group(file, "model_weights") if "model_weights" in file else file
        if "layer_names" not in root.attrs and "layers" in root:
            raise ValueError(f"{path} is a `.weights.h5` file of Keras 3{_OF_KERAS_3}")
        if "layer_names" not in root.attrs:
            raise ValueError(f"{path} holds no Keras weights: it lacks the attribute layer_names")
        groups = {name: _group(root, name) for name in _listed(root, "layer_names")}
        found = {
            name: [_array(group, weight) for weight in _listed(group, "weight_names")]
            for name, group in groups.items()
        }
    return {name: arrays for name, arrays in found.items() if arrays}


def load_weights(
    path: Path | str,
    groups: Groups,
    *,
    by_name: bool = False,
    skip_mismatch: bool = False,
) -> None:
    """Reads a file into variables, layer by layer in order or by name.

    Args:
        path: of the file.
        groups: variables by name, by layer, in the model's order.
        by_name: layers that the file does not name keep their weights.
        skip_mismatch: with `by_name`, a layer whose shapes differ keeps its weights, with a
            warning.

    Raises:
        ValueError: the file does not fit; nothing was changed.
    """
    stored = read_weights(path)
    if skip_mismatch and not by_name:
        raise ValueError("skip_mismatch is for loading by name: add by_name=True")
    if by_name:
        pairs = [(name, name) for name in groups if name in stored]
        if not pairs and groups and stored:
            raise ValueError(
                f"{path} and the model share no layer's name, so that nothing can be loaded by "
                f"name: there are {list(stored)[:3]} … there, and {list(groups)[:3]} … here. "
                f"{NUMBERED}; without by_name layers are read in their order"
            )
    elif len(stored) != len(groups):
        raise ValueError(
            f"{path} has {len(stored)} layers with weights, and the model has {len(groups)}; "
            "by_name=True loads those that share a name"
        )
    else:
        pairs = list(zip(groups, stored, strict=True))
    fitting: list[tuple[nnx.Variable, np.ndarray]] = []
    for own, theirs in pairs:
        variables, arrays = list(groups[own].values()), stored[theirs]
        wanted = [variable.shape for variable in variables]
        found = [array.shape for array in arrays]
        if wanted == found:
            fitting += zip(variables, arrays, strict=True)
            continue
        message = f"layer {own!r} has weights of shapes {wanted}, and {path} has {found} for it"
        if not skip_mismatch:
            raise ValueError(f"{message}; skip_mismatch=True with by_name=True leaves it as it is")
        warn_caller(f"{message}: it keeps its own")
    for variable, array in fitting:
        variable.set_value(jnp.asarray(array, variable.dtype))


def _read_safetensors(path: Path) -> Stored:
    arrays: Mapping[str, np.ndarray] = load_file(path)
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = file.read(size)
    order = _order(header) or list(arrays)
    found: Stored = {}
    for name in order:
        found.setdefault(name.partition(_BETWEEN)[0], []).append(arrays[name])
    return found


def _order(header: bytes) -> list[str]:
    metadata = json.loads(header).get("__metadata__", {})
    return metadata.get("order", "").split("\n") if metadata.get("order") else []


def _names(names: Sequence[str]) -> np.ndarray:
    """Returns bytes of fixed length, which every version of Keras decodes."""
    return np.asarray([name.encode() for name in names], dtype="S")


def _group(parent: h5py.Group, name: str) -> h5py.Group:
    """Returns a group of a file.

    Raises:
        ValueError: there is something else, or nothing, of that name.
    """
    found = parent.get(name)
    if not isinstance(found, h5py.Group):
        raise ValueError(
            f"{parent.file.filename} holds no Keras weights: its group {name!r} is missing"
        )
    return found


def _array(group: h5py.Group, name: str) -> np.ndarray:
    try:
        return np.asarray(group[name])
    except ValueError as error:  # floats of sizes that NumPy has not
        raise TypeError(f"{name} cannot be read: {error}") from error


def _listed(group: h5py.Group, attribute: str) -> list[str]:
    """Returns the names that an attribute lists, which h5py gives as bytes or as text."""
    names = np.asarray(group.attrs[attribute]).tolist()
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]
