"""Darknet's `.weights`, with the `.cfg` and the class names as that program reads them."""

from collections.abc import Sequence
from pathlib import Path

from yolo_jax.core.anchors import AnchorSet
from yolo_jax.core.files import write_whole
from yolo_jax.networks.cfg.network import CfgNetwork
from yolo_jax.networks.cfg.writing import cfg_text
from yolo_jax.networks.darknet import save_weights
from yolo_jax.networks.yolov3 import Network


def save_darknet(
    path: Path,
    network: Network | CfgNetwork,
    anchors: AnchorSet,
    class_names: Sequence[str],
    input_shape: tuple[int, int],
) -> None:
    """Writes a network's weights, and beside them its `.cfg` and a `.names` file of a class a line.

    A network that was read with a `.cfg` has that one already; none is written for it.

    Args:
        path: of the weights file; replaced when it exists, as are those beside it.
        network: that was trained, its BatchNorm not folded.
        anchors: of the network.
        class_names: name of each class index.
        input_shape: (height, width) of the input, px.

    Raises:
        ValueError: the path is a folder, or ends in `.names` or `.cfg`.
        FileNotFoundError: there is no folder to write in.
    """
    beside = {".names": "".join(f"{name}\n" for name in class_names)}
    if not isinstance(network, CfgNetwork):
        beside[".cfg"] = cfg_text(network, anchors, input_shape)
    if path.suffix in (".names", ".cfg"):
        raise ValueError(
            f"{path} is not for weights: {path.suffix} is for what goes beside them; name it "
            f"{path.with_suffix('.weights')}"
        )
    save_weights(path, network)
    for suffix, text in beside.items():
        with write_whole(path.with_suffix(suffix)) as partial:
            partial.write_text(text, encoding="utf-8")
