"""`yolo-jax plan`."""

import argparse
from pathlib import Path
from typing import Any

from yolo_jax.config import config_of
from yolo_jax.plan.chips import place_of
from yolo_jax.plan.command import plan
from yolo_jax.plan.compiler import in_own_process


def add_parsers(commands: Any) -> None:
    """Adds the subcommand."""
    planned = commands.add_parser(
        "plan",
        help="say what a config takes on a slice of TPUs or on GPUs, without one",
        allow_abbrev=False,
        epilog="The config's fields can be set too, as in --batch-size None "
        "--batch-size-per-device 64; `yolo-jax train CONFIG --help` lists them.",
    )
    planned.add_argument("config", type=Path, help="Python file with get_config(), or data")
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
    planned.set_defaults(command=_plan, takes_rest=True)


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
    config = config_of(options.config, overrides, "plan", options=vars(options))
    plan(config, options.target, options.json, options.plot, fit=options.fit)
    return None
