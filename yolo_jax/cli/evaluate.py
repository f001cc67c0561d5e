"""`yolo-jax evaluate`."""

import argparse
from pathlib import Path
from typing import Any

from yolo_jax.cli.network import add_network
from yolo_jax.cli.values import count
from yolo_jax.evaluate import evaluate


def add_parsers(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        "evaluate",
        help="score a network on a data set",
        description="Scores a network on a data set by COCO's rules and VOC's, and says what kinds "
        "of errors it makes. Without --data a run is scored on its own held-out images.",
    )
    add_network(parser, is_sized=False)
    parser.add_argument("--data", help="a data set: .json, data.yaml, .txt, a folder, tfds:NAME")
    parser.add_argument(
        "--split", help="part of the data set (default test, else val, where there are parts)"
    )
    parser.add_argument("--classes", type=Path, help="file of the data's class names, one a line")
    parser.add_argument(
        "--batch-size", type=count, help="images at once, over all devices (default the run's, 16)"
    )
    parser.add_argument("--conf", type=float, help="least score (default the run's, or 0.001)")
    parser.add_argument("--iou", type=float, help="NMS threshold (default the run's, or 0.6)")
    parser.add_argument("--out", type=Path, help="folder for figures.json, tables and pictures")
    parser.add_argument(
        "--save-json", type=Path, help="file for the detections, in COCO's results format"
    )
    parser.set_defaults(command=_evaluate)


def _evaluate(options: argparse.Namespace, _: list[str]) -> None:
    evaluate(
        options.weights,
        data=options.data,
        split=options.split,
        class_names_file=options.classes,
        batch_size=options.batch_size,
        score_threshold=options.conf,
        iou_threshold=options.iou,
        out=options.out,
        results_file=options.save_json,
        darknet=options.darknet,
        cfg=options.cfg,
        names=options.names,
    )
