"""`yolo-jax convert` and `yolo-jax doctor`."""

import argparse
import os
from pathlib import Path
from typing import Any

from yolo_jax import convert, examine
from yolo_jax.cli.values import count
from yolo_jax.networks.pretrained import fetch_pretrained
from yolo_jax.networks.yolov3 import NETWORKS


def add_parsers(commands: Any) -> None:
    """Adds the subcommands."""
    _add_convert(commands.add_parser("convert", help="convert a data set, or fetch weights"))
    _add_doctor(
        commands.add_parser(
            "doctor",
            help="say what is wrong with a data set",
            description="Reads a data set once, says what is wrong with it, and writes a page with "
            "its figures and worst examples. Exit status 0: nothing is wrong; 1: something is; 2: "
            "the data set cannot be read.",
        )
    )


def _add_convert(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data", nargs="?", help="a data set: .json, data.yaml, .txt, a folder, or tfds:NAME"
    )
    parser.add_argument("--to", choices=list(convert.WRITERS), help="format to write")
    parser.add_argument("--out", type=Path, help="new folder for it")
    parser.add_argument("--split", help="part of the data set, such as train")
    parser.add_argument("--classes", type=Path, help="file of class names, one a line")
    parser.add_argument("--strict", action="store_true", help="stop at bad records")
    parser.add_argument("--pretrained", choices=["yolov3-tiny"], help="weights to fetch instead")
    parser.add_argument("--source", type=Path, help="take this weights file instead of fetching")
    parser.set_defaults(command=_convert)


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", help="a data set: .json, data.yaml, .txt, a folder, or tfds:NAME")
    parser.add_argument("--split", help="part of the data set, such as train (default: all)")
    parser.add_argument("--classes", type=Path, help="file of class names, one a line")
    parser.add_argument("--input-size", type=count, help="of the network, px (default 416)")
    parser.add_argument("--max-boxes", type=count, help="boxes that training keeps an image")
    parser.add_argument(
        "--network", choices=list(NETWORKS), help="whose anchors are to fit (default tiny)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="folder of the page, new or of an earlier one (default doctor/NAME)",
    )
    parser.add_argument("--fix", type=Path, help="new folder for a cleaned copy, as COCO")
    parser.add_argument(
        "--show-augment", type=count, default=0, metavar="N", help="draw N augmented sheets"
    )
    parser.add_argument(
        "--config", type=Path, help="config whose augmentation is shown, and network taken"
    )
    parser.add_argument(
        "--workers", type=count, default=os.cpu_count() or 1, help="threads that read images"
    )
    parser.set_defaults(command=_doctor)


def _doctor(options: argparse.Namespace, _: list[str]) -> int:
    is_wrong = examine.examine_dataset(
        options.data,
        split=options.split,
        class_names_file=options.classes,
        input_size=options.input_size,
        max_boxes=options.max_boxes,
        network=options.network,
        out=options.out,
        fix=options.fix,
        show_augment=options.show_augment,
        config_file=options.config,
        workers=options.workers,
    )
    return int(is_wrong)


def _convert(options: argparse.Namespace, _: list[str]) -> None:
    of_data = ("to", "out", "split", "classes", "strict")
    given = [f"--{name}" for name in of_data if getattr(options, name)]
    if options.data is not None:
        given.insert(0, options.data)
    if options.pretrained is not None:
        if given:
            raise ValueError(
                f"--pretrained converts weights, and {' '.join(given)} a data set; do one at a time"
            )
        print(fetch_pretrained(options.source))
        return
    if options.source is not None:
        raise ValueError("--source is a weights file; it needs --pretrained yolov3-tiny")
    if options.data is None or options.to is None or options.out is None:
        raise ValueError(
            "to convert a data set takes `DATA --to FORMAT --out FOLDER`, to fetch weights takes "
            f"`--pretrained yolov3-tiny`; found {' '.join(given) or 'neither'}"
        )
    convert.convert_dataset(
        options.data,
        options.to,
        options.out,
        split=options.split,
        class_names_file=options.classes,
        strict=options.strict,
    )
