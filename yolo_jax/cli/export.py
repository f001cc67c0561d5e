"""`yolo-jax export`."""

import argparse
from pathlib import Path
from typing import Any

from yolo_jax.cli.network import add_network, network_of
from yolo_jax.detection.nms import Suppression
from yolo_jax.export.darknet import save_darknet
from yolo_jax.export.onnx_file import DEFAULT_OPSET, OPSETS, save_onnx
from yolo_jax.export.program import Program
from yolo_jax.export.saved_model import save_tensorflow
from yolo_jax.export.stablehlo import DEFAULT_PLATFORMS, PLATFORMS, save_stablehlo
from yolo_jax.use.opening import Trained, open_network

FORMATS = ("stablehlo", "onnx", "tf", "darknet")
_CONFIDENCE, _IOU = 0.25, 0.45


def add_parsers(commands: Any) -> None:
    """Adds the subcommand."""
    export = commands.add_parser("export", help="write a trained network for other programs")
    add_network(export, darknet="read the anchors as the darknet program does")
    export.add_argument("--format", required=True, choices=FORMATS)
    export.add_argument(
        "--out", required=True, type=Path, help="the file; of tf a folder, that is new"
    )
    export.add_argument(
        "--batch", type=_batch, metavar="N|any", help="images at once (default any)"
    )
    export.add_argument(
        "--nms", action="store_true", help="suppress boxes that overlap inside the model"
    )
    export.add_argument(
        "--conf", type=float, help=f"least score, with --nms (default {_CONFIDENCE})"
    )
    export.add_argument(
        "--iou", type=float,
        help=f"overlap above which boxes are of one object, with --nms (default {_IOU})",
    )  # fmt: skip
    export.add_argument(
        "--platforms", nargs="+", choices=PLATFORMS,
        help=f"that stablehlo is lowered for (default {' '.join(DEFAULT_PLATFORMS)})",
    )  # fmt: skip
    export.add_argument(
        "--opset", type=int,
        help=f"of onnx, {OPSETS.start} to {OPSETS.stop - 1} (default {DEFAULT_OPSET})",
    )  # fmt: skip
    export.set_defaults(command=_export)


def _batch(text: str) -> int | str:
    try:
        return text if text == "any" else int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"a whole number or any; found {text!r}") from error


def _export(options: argparse.Namespace, _: list[str]) -> None:
    _check(options)
    trained = open_network(**network_of(options))
    out, kind = options.out, options.format
    match kind:
        case "darknet":
            save_darknet(out, *trained)
        case "stablehlo":
            save_stablehlo(out, _program(trained, options), options.platforms or DEFAULT_PLATFORMS)
        case "onnx":
            opset = DEFAULT_OPSET if options.opset is None else options.opset
            save_onnx(out, _program(trained, options), opset)
        case _:
            save_tensorflow(out, _program(trained, options))
    print(f"wrote {out}")


def _program(trained: Trained, options: argparse.Namespace) -> Program:
    how = None
    if options.nms:
        confidence = _CONFIDENCE if options.conf is None else options.conf
        how = Suppression(confidence, _IOU if options.iou is None else options.iou)
    batch = None if options.batch == "any" else options.batch
    return Program(*trained, suppression=how, batch=batch)


def _check(options: argparse.Namespace) -> None:
    """Raises ValueError for an option that the format, or another option, makes nothing of."""
    kind = options.format
    of_formats = {"platforms": ("stablehlo",), "opset": ("onnx",)}
    of_formats |= dict.fromkeys(("nms", "conf", "iou", "size", "batch", "darknet"), FORMATS[:3])
    for name, formats in of_formats.items():
        if getattr(options, name) not in (None, False) and kind not in formats:
            raise ValueError(f"--{name} goes with --format {' or '.join(formats)}, not {kind}")
    if not options.nms and (options.conf is not None or options.iou is not None):
        raise ValueError("--conf and --iou go with --nms: without it all boxes are returned")
