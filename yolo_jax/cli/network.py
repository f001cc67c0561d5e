"""The arguments that name a trained network, for every command that opens one."""

import argparse
from pathlib import Path
from typing import Any


def add_network(
    parser: argparse.ArgumentParser,
    *,
    is_sized: bool = True,
    darknet: str = "do as the darknet program: its resize, its mask",
) -> None:
    """Adds the arguments, `weights` first.

    Args:
        parser: of the command.
        is_sized: whether its input may have another size.
        darknet: help of --darknet, for a command that does not resize.
    """
    group = parser.add_argument_group("the network")
    group.add_argument(
        "weights",
        help="a run folder, a weights file (.weights, .h5, .safetensors), or yolov3-tiny",
    )
    group.add_argument("--cfg", type=Path, help="Darknet's .cfg file of the weights' network")
    group.add_argument("--names", type=Path, help="file of the weights' class names, one a line")
    if is_sized:
        group.add_argument(
            "--size", type=int, help="side of the input, px (default: the run's, the cfg's, or 416)"
        )
    group.add_argument("--darknet", action="store_true", help=darknet)


def network_of(options: argparse.Namespace) -> dict[str, Any]:
    """Returns what `yolo_jax.load` and `open_network` take of them, the size too."""
    return {
        "weights": options.weights,
        "cfg": options.cfg,
        "names": options.names,
        "input_size": options.size,
        "darknet": options.darknet,
    }
