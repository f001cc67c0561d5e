"""The console command: `yolo-jax train | plan | detect | convert | doctor | bench`."""

import argparse
import errno
import logging
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import tyro

from yolo_jax import convert, examine, experiment, use
from yolo_jax.config import ExperimentConfig, config_of
from yolo_jax.core.allocator import keep_freed_memory
from yolo_jax.core.interrupts import Terminated, hear_every_interrupt, raise_terminated
from yolo_jax.launch import command as launchers
from yolo_jax.networks.pretrained import PretrainedUnavailable, cache_folder, fetch_pretrained
from yolo_jax.networks.yolov3 import NETWORKS
from yolo_jax.plan.chips import place_of
from yolo_jax.plan.command import plan
from yolo_jax.plan.compiler import in_own_process
from yolo_jax.training import distributed

_TRAIN = (
    "CONFIG is a Python file with get_config(), as experiments/configs/quickstart.py, or data; all "
    "its fields can be set on the command line too, as in --epochs 30 --augment.flip 0. "
    "One of several processes of a run is started with --distributed; on Cloud TPU, SLURM and "
    "Kubernetes that is all, elsewhere --coordinator HOST:PORT (of process 0) --num-processes N "
    "--process-id I say the rest. --start-timeout: seconds that they wait for each other. "
    "--deterministic: the same bits each time on GPUs too, whose fastest operations differ. "
    + launchers.HELP
)
# What a disk or the network refuses with, which another time it may not.
_REFUSALS = (
    errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ECONNREFUSED,
    errno.ECONNRESET, errno.ECONNABORTED, errno.EHOSTUNREACH, errno.ENETUNREACH,
)  # fmt: skip
_EXIT_REFUSED = 74  # EX_IOERR


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a subcommand; an error that a user can mend is one line and exit status 2.

    What a disk or the network refuses is one line and status 74: another time it may not. The
    doctor's status is 1 where something is wrong with the data.
    """
    # By force: a library that is imported may have set up its own form already.
    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.WARNING, force=True)
    logging.getLogger("yolo_jax").setLevel(logging.INFO)
    keep_freed_memory()
    use_compilation_cache()
    # As Ctrl-C does, so that worker processes end and the terminal is left in order.
    signal.signal(signal.SIGTERM, raise_terminated)
    hear_every_interrupt()
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and options.command not in (_train, _bench, _plan):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        status = _run(options, rest)
    except Exception:
        if jax.distributed.is_initialized():
            traceback.print_exc()
            distributed.end_at_once(1)
        raise
    if status and jax.distributed.is_initialized():
        distributed.end_at_once(status)  # to wait for the others would be in vain
    return status


def _run(options: argparse.Namespace, rest: list[str]) -> int:
    try:
        return options.command(options, rest) or 0
    except (ValueError, OSError, PretrainedUnavailable, FloatingPointError) as error:
        text = str(error)
        if isinstance(error, OSError) and error.filename is not None:
            text = f"{error.filename}: {error.strerror}"  # without its number
        print(f"yolo-jax: {text}", file=sys.stderr)
        is_refused = isinstance(error, PretrainedUnavailable) or (
            isinstance(error, OSError) and error.errno in _REFUSALS
        )
        return _EXIT_REFUSED if is_refused else 2
    except KeyboardInterrupt as stop:
        text = "stopped"
        if options.command is _train:
            text += "; what a run had saved stays, and the same command goes on from there"
        print(f"\nyolo-jax: {text}", file=sys.stderr)
        # As the shell says of SIGINT.
        return distributed.EXIT_PREEMPTED if isinstance(stop, Terminated) else 130


def use_compilation_cache() -> None:
    """Reads from the disk what was compiled once; JAX's own variables have the say."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "compiled"))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        # Small ones too: reading one takes a third of the time that compiling it does.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="yolo-jax", description="YOLO detectors on JAX.")
    commands = parser.add_subparsers(required=True)
    _add_train(commands)
    _add_plan(commands)

    detect = commands.add_parser("detect", help="find objects in images")
    detect.add_argument("weights", help="a run folder, a .weights file (COCO), or yolov3-tiny")
    detect.add_argument("images", nargs="+", type=Path)
    detect.add_argument("--out", type=Path, help="folder for the drawn images")
    detect.add_argument("--json", type=Path, help="file for the detections")
    detect.add_argument("--conf", type=float, default=0.25, help="least score (default 0.25)")
    detect.add_argument("--iou", type=float, default=0.45, help="NMS threshold (default 0.45)")
    detect.add_argument(
        "--darknet", action="store_true", help="do as the darknet program: its resize, its mask"
    )
    detect.set_defaults(command=lambda options, _: _detect(options))

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

    bench = commands.add_parser(
        "bench", help="print the figures that the README quotes (from a checkout)", add_help=False
    )
    bench.add_argument("name", nargs="?", help="of a file in experiments/benchmarks")
    bench.set_defaults(command=_bench)
    return parser


def _add_train(commands: Any) -> None:
    # Its help is of the config's fields too, which tyro knows.
    train = commands.add_parser(
        "train", help="run an experiment config", add_help=False, allow_abbrev=False
    )
    train.add_argument("config", nargs="?", type=Path, help="Python file with get_config()")
    train.add_argument("--distributed", action="store_true")
    train.add_argument("--coordinator", metavar="HOST:PORT")
    train.add_argument("--num-processes", type=int)
    train.add_argument("--process-id", type=int)
    launchers.add_options(train, _count)
    train.add_argument("--deterministic", action="store_true")
    train.add_argument("--start-timeout", type=_count, default=distributed.START_SECONDS)
    train.set_defaults(command=_train)


def _add_plan(commands: Any) -> None:
    planned = commands.add_parser(
        "plan",
        help="say what a config takes on a slice of TPUs or on GPUs, without one",
        allow_abbrev=False,
        epilog="The config's fields can be set too, as in --batch-size None "
        "--batch-size-per-device 64.",
    )
    planned.add_argument("config", type=Path, help="Python file with get_config()")
    planned.add_argument(
        "--target",
        required=True,
        metavar="v5e:16x16",
        help="slice of TPUs, or h100:8x4: GPUs by nodes",
    )
    planned.add_argument(
        "--fit", action="store_true", help="find the most rows a chip that fit, in some compiles"
    )
    planned.add_argument("--json", type=Path, help="file for the figures")
    planned.add_argument("--plot", type=Path, help="picture of images/s by number of chips")
    planned.set_defaults(command=_plan)


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
    parser.set_defaults(command=lambda options, _: _convert(options))


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", help="a data set: .json, data.yaml, .txt, a folder, or tfds:NAME")
    parser.add_argument("--split", help="part of the data set, such as train (default: all)")
    parser.add_argument("--classes", type=Path, help="file of class names, one a line")
    parser.add_argument("--input-size", type=_count, help="of the network, px (default 416)")
    parser.add_argument("--max-boxes", type=_count, help="boxes that training keeps an image")
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
        "--show-augment", type=_count, default=0, metavar="N", help="draw N augmented sheets"
    )
    parser.add_argument(
        "--config", type=Path, help="config whose augmentation is shown, and network taken"
    )
    parser.add_argument(
        "--workers", type=_count, default=os.cpu_count() or 1, help="threads that read images"
    )
    parser.set_defaults(command=lambda options, _: _doctor(options))


def _count(text: str) -> int:
    """Reads a number of 1 or more from the command line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}; expected a whole number of 1 or more")
    return int(text)


def _doctor(options: argparse.Namespace) -> int:
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


def _convert(options: argparse.Namespace) -> None:
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


def _bench(options: argparse.Namespace, rest: list[str]) -> None:
    root = Path(__file__).parents[1]
    files = sorted((root / "experiments" / "benchmarks").glob("[!_]*.py"))
    if not files:
        raise FileNotFoundError(
            "bench runs from a checkout, whose experiments/benchmarks it needs: clone the "
            "repository and install it with `pip install -e .`"
        )
    names = [file.stem for file in files]
    if options.name not in names:
        found = "no name" if options.name is None else options.name
        raise ValueError(f"bench needs one of {', '.join(names)}; found {found}")
    module = f"experiments.benchmarks.{options.name}"
    # Where the user stands, whose paths these are.
    path = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-m", module, *rest]
    done = subprocess.run(command, env=environment, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def _train(options: argparse.Namespace, overrides: list[str]) -> int | None:
    if options.config is None:
        if {"-h", "--help"} & set(overrides):
            tyro.cli(
                ExperimentConfig, prog="yolo-jax train CONFIG", description=_TRAIN, args=["--help"]
            )
        raise ValueError(f"train needs a config file, or data. {_TRAIN}")
    launchers.check_options(options)
    if options.launch is not None:
        return launchers.launch(options, overrides)
    if options.deterministic:
        flags = os.environ.get("XLA_FLAGS", "")  # read when a device is first touched
        os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true".strip()
    config = config_of(options.config, overrides)  # before others wait for this process
    where = options.coordinator, options.num_processes, options.process_id
    if options.distributed:
        distributed.start(*where, timeout=options.start_timeout)
        if not distributed.is_first():
            logging.getLogger("yolo_jax").setLevel(logging.WARNING)
    elif any(value is not None for value in where):
        raise ValueError("--coordinator, --num-processes and --process-id need --distributed")
    experiment.train(config)
    return None


def _plan(options: argparse.Namespace, overrides: list[str]) -> int | None:
    given = ["plan", str(options.config), "--target", options.target, *overrides]
    if options.fit:
        given.append("--fit")
    for name in ("json", "plot"):
        if getattr(options, name) is not None:
            given += [f"--{name}", str(getattr(options, name))]
    place_of(options.target)  # a word about it before anything is loaded
    status = in_own_process("yolo_jax", given)
    if status is not None:
        return status
    config = config_of(options.config, overrides, "plan")
    plan(config, options.target, options.json, options.plot, fit=options.fit)
    return None


def _detect(options: argparse.Namespace) -> None:
    use.detect_files(
        options.weights,
        options.images,
        out=options.out,
        json_file=options.json,
        score_threshold=options.conf,
        iou_threshold=options.iou,
        darknet=options.darknet,
    )
