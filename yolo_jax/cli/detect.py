"""`yolo-jax detect`."""

import argparse
from pathlib import Path
from typing import Any, get_args

from yolo_jax.cli.network import add_network, network_of
from yolo_jax.cli.values import count
from yolo_jax.detection.detector import Resize
from yolo_jax.detection.nms import Kind, Suppression
from yolo_jax.inference.sources import expand
from yolo_jax.use.detecting import Outputs, detect_sources
from yolo_jax.use.opening import load


def add_parsers(commands: Any) -> None:
    """Adds the subcommand."""
    detect = commands.add_parser("detect", help="find objects in images, videos or a camera's view")
    add_network(detect)
    detect.add_argument(
        "sources", nargs="+", metavar="source",
        help="an image, a video, a folder, a pattern such as 'a/*.jpg', the number of a camera, or "
        "the address of an image",
    )  # fmt: skip
    places = detect.add_argument_group("what is found goes to")
    places.add_argument("--out", type=Path, help="a folder, drawn: images, and videos as MP4")
    places.add_argument("--json", type=Path, help="a file, by image")
    places.add_argument("--csv", type=Path, help="a file, a row for each object")
    places.add_argument("--coco", type=Path, help="a file, as a COCO data set")
    places.add_argument("--txt", type=Path, help="a folder, as YOLO's labels (without scores)")
    rules = detect.add_argument_group("rules")
    rules.add_argument("--conf", type=float, default=0.25, help="least score (default 0.25)")
    rules.add_argument(
        "--iou", type=float, default=0.45,
        help="overlap above which boxes are of one object (default 0.45)",
    )  # fmt: skip
    rules.add_argument(
        "--nms", choices=get_args(Kind), default="greedy",
        help="what becomes of those that overlap: the best stays, others score less, or all are "
        "averaged (default greedy)",
    )  # fmt: skip
    rules.add_argument(
        "--agnostic", action="store_true", help="boxes of different classes suppress each other too"
    )
    rules.add_argument(
        "--max-det", type=count, default=100, help="most objects of an image (default 100)"
    )
    rules.add_argument(
        "--augment", action="store_true", help="look three times: smaller and mirrored too"
    )
    rules.add_argument(
        "--letterbox", choices=get_args(Resize),
        help="what fits images into the network's input (default opencv, as in training)",
    )  # fmt: skip
    rules.add_argument("--batch-size", type=count, help="images at once (default: by the device)")
    detect.set_defaults(command=_detect)


def _detect(options: argparse.Namespace, _: list[str]) -> None:
    how = Suppression(
        options.conf, options.iou, options.nms, options.agnostic, max_detections=options.max_det
    )
    sources = expand(options.sources)
    outputs = Outputs(options.out, options.json, options.csv, options.coco, options.txt)
    outputs.prepare(sources)
    model = load(**network_of(options), letterbox=options.letterbox)
    detect_sources(
        model,
        sources,
        outputs,
        suppression=how,
        augment=options.augment,
        batch_size=options.batch_size,
    )
