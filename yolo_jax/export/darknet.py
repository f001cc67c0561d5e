"""Darknet's `.weights`, with the class names as that program reads them."""

from collections.abc import Sequence
from pathlib import Path

from yolo_jax.core.files import write_whole
from yolo_jax.networks.darknet import DarknetNetwork, save_weights


def save_darknet(path: Path, network: DarknetNetwork, class_names: Sequence[str]) -> None:
    """Writes a network's weights, and beside them a `.names` file of a class a line.

    Args:
        path: of the weights file; replaced when it exists.
        network: that was trained, its BatchNorm not folded.
        class_names: name of each class index.

    Raises:
        ValueError: the path is a folder, or ends in `.names`.
        FileNotFoundError: there is no folder to write in.
    """
    names = path.with_suffix(".names")
    if names == path:
        raise ValueError(f"{path} is for the class names; name the weights file beside it")
    save_weights(path, network)
    with write_whole(names) as partial:
        partial.write_text("".join(f"{name}\n" for name in class_names), encoding="utf-8")
