"""`yolo-jax sweep`."""

import argparse
from pathlib import Path
from typing import Any

from yolo_jax.cli.values import count
from yolo_jax.launch.command import add_job_options, check_taken
from yolo_jax.sweep import command

_HELP = (
    "CONFIG is a Python file with get_config(), and sweep(), which yields each trial's fields, as "
    'in yield {"optimizer.learning_rate": 0.01}. Fields on the command line are of all trials, as '
    "in --epochs 30; `yolo-jax train CONFIG --help` lists them. Exit status 0: all trials are "
    "done; 1: some failed; 2: something has to be mended first."
)


def add_parsers(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        "sweep",
        help="run the trials of a config, and go on with those that are unfinished",
        description=_HELP,
        allow_abbrev=False,
    )
    parser.add_argument("config", type=Path, help="Python file with get_config() and sweep()")
    parser.add_argument(
        "--backend",
        choices=["local", "ray", "slurm"],
        default="local",
        help="where trials run (default local: processes here)",
    )
    parser.add_argument(
        "--parallel", type=count, help="trials at once (default 1; slurm: all are queued)"
    )
    parser.add_argument(
        "--devices-per-trial", type=count, help="of this machine's accelerators (default 1 of many)"
    )
    parser.add_argument(
        "--together",
        choices=["off", "auto"],
        default="off",
        help="auto: train trials that differ in numbers alone in one program (default off)",
    )
    parser.add_argument(
        "--retry", action="store_true", help="run diverged and pruned trials again too"
    )
    parser.add_argument(
        "--search", choices=["optuna"], help="ask a study for trials, by search(trial) of CONFIG"
    )
    parser.add_argument("--trials", type=count, help="that the study is to have")
    parser.add_argument(
        "--study",
        metavar="URL",
        help="the study's storage (default: SQLite in the sweep's folder)",
    )
    parser.add_argument(
        "--metric", help="validation figure of history.csv to search by (default val_loss)"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say how the trials stand, and start none"
    )
    jobs = parser.add_argument_group("of each trial's process, as of yolo-jax train --launch")
    add_job_options(jobs, count)
    parser.set_defaults(command=run, takes_rest=True)


def run(options: argparse.Namespace, overrides: list[str]) -> int:
    """Runs the trials; the overrides are of the base config's fields."""
    check_taken(options, "backend", options.backend)
    return command.sweep(options, overrides)
