"""`yolo-jax detect`."""

import argparse
from pathlib import Path
from typing import Any

from yolo_jax import use


def add_parsers(commands: Any) -> None:
    """Adds the subcommand."""
    detect = commands.add_parser("detect", help="find objects in images")
    detect.add_argument("weights", help="a run folder, a .weights file (COCO), or yolov3-tiny")
    detect.add_argument("--cfg", type=Path, help="Darknet .cfg file of the weights' network")
    detect.add_argument(
        "--names", type=Path, help="file of the class names of --cfg's network, one a line"
    )
    detect.add_argument("images", nargs="+", type=Path)
    detect.add_argument("--out", type=Path, help="folder for the drawn images")
    detect.add_argument("--json", type=Path, help="file for the detections")
    detect.add_argument("--conf", type=float, default=0.25, help="least score (default 0.25)")
    detect.add_argument("--iou", type=float, default=0.45, help="NMS threshold (default 0.45)")
    detect.add_argument(
        "--darknet", action="store_true", help="do as the darknet program: its resize, its mask"
    )
    detect.set_defaults(command=_detect)


def _detect(options: argparse.Namespace, _: list[str]) -> None:
    use.detect_files(
        options.weights,
        options.images,
        cfg=options.cfg,
        names=options.names,
        out=options.out,
        json_file=options.json,
        score_threshold=options.conf,
        iou_threshold=options.iou,
        darknet=options.darknet,
    )
