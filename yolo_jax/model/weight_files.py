"""Weights in files: Keras's own HDF5 layout, and safetensors.

Source of the layout: keras/engine/saving.py (Keras 2.3): the root's attribute `layer_names`; a
group for each layer, whose attribute `weight_names` names its datasets; all of it under
`model_weights` in a file of a whole model.
"""

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
from safetensors.numpy import load_file, save_file

from yolo_jax.model.graph import Layer

Stored = dict[str, list[np.ndarray]]


def save_weights(path: Path | str, layers: Sequence[Layer]) -> None:
    """Writes the layers' weights; `.safetensors` in that format, every other name as HDF5.

    The file is replaced as a whole.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    if path.suffix == ".safetensors":
        arrays = {
            f"{layer.name}/{name}": np.ascontiguousarray(array)
            for layer in layers
            for name, array in zip(layer.weights, layer.get_weights(), strict=True)
        }
        # The file keeps no order of its own: that of layers and weights goes beside the arrays.
        save_file(arrays, partial, metadata={"order": "\n".join(arrays)})
    else:
        with h5py.File(partial, "w") as file:
            file.attrs["layer_names"] = _names([layer.name for layer in layers])
            file.attrs["backend"], file.attrs["keras_version"] = "tensorflow", "2.3.1"
            for layer in layers:
                group = file.create_group(layer.name)
                names = [f"{layer.name}/{name}:0" for name in layer.weights]
                group.attrs["weight_names"] = _names(names)
                for name, array in zip(names, layer.get_weights(), strict=True):
                    group.create_dataset(name, data=array)
    partial.replace(path)


def read_weights(path: Path | str) -> Stored:
    """Reads what `save_weights`, or Keras, wrote: arrays by layer name, in the file's order.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no weights file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no weights file {path}")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if not h5py.is_hdf5(path):
        raise ValueError(f"{path} is not an HDF5 file, which Keras's weights are kept in")
    with h5py.File(path, "r") as file:
        root = _group(file, "model_weights") if "model_weights" in file else file
        if "layer_names" not in root.attrs:
            raise ValueError(f"{path} holds no Keras weights: it lacks the attribute layer_names")
        groups = {name: _group(root, name) for name in _listed(root, "layer_names")}
        found = {
            name: [np.asarray(group[weight]) for weight in _listed(group, "weight_names")]
            for name, group in groups.items()
        }
    return {name: arrays for name, arrays in found.items() if arrays}


def load_weights(
    path: Path | str,
    layers: Sequence[Layer],
    *,
    by_name: bool = False,
    skip_mismatch: bool = False,
) -> None:
    """Reads a file into layers, in order or by name.

    Args:
        path: of the file.
        layers: that have weights, in the model's order.
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
        pairs = [(layer, stored[layer.name]) for layer in layers if layer.name in stored]
    elif len(stored) != len(layers):
        raise ValueError(
            f"{path} has {len(stored)} layers with weights, and the model has {len(layers)}; "
            "by_name=True loads those that share a name"
        )
    else:
        pairs = list(zip(layers, stored.values(), strict=True))
    fitting = []
    for layer, arrays in pairs:
        wanted = [variable.shape for variable in layer.weights.values()]
        found = [array.shape for array in arrays]
        if wanted == found:
            fitting.append((layer, arrays))
            continue
        message = (
            f"layer {layer.name!r} has weights of shapes {wanted}, and {path} has {found} for it"
        )
        if not skip_mismatch:
            raise ValueError(f"{message}; skip_mismatch=True with by_name=True leaves it as it is")
        warnings.warn(f"{message}: it keeps its own", stacklevel=3)
    for layer, arrays in fitting:
        layer.set_weights(arrays)


def _read_safetensors(path: Path) -> Stored:
    arrays: Mapping[str, np.ndarray] = load_file(path)
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = file.read(size)
    order = _order(header) or list(arrays)
    found: Stored = {}
    for name in order:
        found.setdefault(name.rpartition("/")[0], []).append(arrays[name])
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


def _listed(group: h5py.Group, attribute: str) -> list[str]:
    """Returns the names that an attribute lists, which h5py gives as bytes or as text."""
    names = np.asarray(group.attrs[attribute]).tolist()
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]
