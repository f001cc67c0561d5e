"""`yolo-jax train`."""

import argparse
import logging
import os
from pathlib import Path
from typing import Any

import tyro

from yolo_jax import experiment
from yolo_jax.cli.values import changes, count
from yolo_jax.config import ExperimentConfig, config_of
from yolo_jax.config.flat import with_changes
from yolo_jax.launch import command as launchers
from yolo_jax.provenance import compare_runs, config_again, was_deterministic
from yolo_jax.training import distributed

_TRAIN = (
    "CONFIG is a Python file with get_config(), as experiments/configs/quickstart.py, or data; all "
    "its fields can be set on the command line too, as in --epochs 30 --augment.flip 0. "
    "One of several processes of a run is started with --distributed; on Cloud TPU, SLURM and "
    "Kubernetes that is all, elsewhere --coordinator HOST:PORT (of process 0) --num-processes N "
    "--process-id I say the rest. --start-timeout: seconds that they wait for each other. "
    "--deterministic: the same bits each time on GPUs too, whose fastest operations differ. "
    "--changes: fields of a sweep's trial as JSON, which go before all others; given several times "
    "for trials that differ in numbers alone, which one program trains. "
    "--reproduce RUN, in the place of CONFIG, starts the run of that folder again under another "
    "--name (RUN_again): it tells what differs in versions, devices and data, and at the end "
    "whether the figures are the same to the bit (if not, its exit status is 1). "
    "--replay RUN, in the place of CONFIG, takes the update again that was refused in that run as "
    "a number in it was not finite: it tells of what images, which losses and gradients, and where "
    "it began. --step N: not the last such update, but that of step N. " + launchers.HELP
)


def add_parsers(commands: Any) -> None:
    """Adds the subcommand."""
    # Its help is of the config's fields too, which tyro knows.
    train = commands.add_parser(
        "train", help="run an experiment config", add_help=False, allow_abbrev=False
    )
    train.add_argument("config", nargs="?", type=Path)
    train.add_argument("--distributed", action="store_true")
    train.add_argument("--coordinator", metavar="HOST:PORT")
    train.add_argument("--num-processes", type=int)
    train.add_argument("--process-id", type=int)
    launchers.add_options(train, count)
    train.add_argument("--deterministic", action="store_true")
    train.add_argument("--changes", action="append", metavar="JSON", type=changes)
    train.add_argument("--reproduce", action="store_true")  # what stands for CONFIG is a run
    train.add_argument("--replay", action="store_true")  # so does it here
    train.add_argument("--step", type=int)
    train.add_argument("--start-timeout", type=count, default=distributed.START_SECONDS)
    train.set_defaults(command=run, takes_rest=True)


def run(options: argparse.Namespace, overrides: list[str]) -> int | None:
    """Trains; the overrides are of the config's fields.

    Raises:
        ValueError: options do not go together, the config is wrong, or so are the data.
    """
    if options.replay or options.step is not None:
        return _replay(options, overrides)
    if options.config is None:
        if {"-h", "--help"} & set(overrides):
            tyro.cli(
                ExperimentConfig, prog="yolo-jax train CONFIG", description=_TRAIN, args=["--help"]
            )
        raise ValueError(f"train needs a config file, or data. {_TRAIN}")
    launchers.check_options(options)
    trials = options.changes or []
    if len(trials) > 1 and (options.distributed or options.launch is not None):
        raise ValueError("--changes is given several times, for trials that one process trains")
    if options.launch is not None:
        # What is wrong with it is said here rather than where it runs, hours later.
        return launchers.launch(options, overrides, _config(options, overrides))
    again: Path | None = options.config if options.reproduce else None
    if options.deterministic or (again is not None and was_deterministic(again)):
        flags = os.environ.get("XLA_FLAGS", "")  # read when a device is first touched
        os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true".strip()
    config = _config(options, overrides)  # before others wait for this process
    if len(trials) > 1:
        each = [with_changes(config, one) for one in trials]
        experiment.train_together(each, source=options.config)
        return None
    where = options.coordinator, options.num_processes, options.process_id
    if options.distributed:
        distributed.start(*where, timeout=options.start_timeout)
        if not distributed.is_first():
            logging.getLogger("yolo_jax").setLevel(logging.WARNING)
    elif any(value is not None for value in where):
        raise ValueError("--coordinator, --num-processes and --process-id need --distributed")
    if again is None:
        experiment.train(config, source=options.config)
        return None
    experiment.train(config, reproduces=again)
    if not distributed.is_first():
        return None
    return _tell_outcome(again, config.runs / config.name)


def _replay(options: argparse.Namespace, overrides: list[str]) -> int:
    """Takes a refused update again; the exit status says whether it is refused again."""
    others = options.reproduce or options.distributed or options.launch or options.changes
    if not options.replay or options.config is None or others or overrides:
        raise ValueError(
            "--replay takes a run's folder and nothing but --step N, as in "
            "yolo-jax train --replay runs/quickstart; found other options beside it, or --step "
            "without it"
        )
    return 0 if experiment.replay(options.config, options.step) else 1


def _config(options: argparse.Namespace, overrides: list[str]) -> ExperimentConfig:
    trials = options.changes or []
    if options.reproduce:
        if trials:
            raise ValueError(f"--reproduce {options.config} takes no --changes; found some")
        return config_again(options.config, overrides)
    changes = trials[0] if len(trials) == 1 else None
    return config_of(
        options.config, overrides, changes=changes, description=_TRAIN, options=vars(options)
    )


def _tell_outcome(there: Path, here: Path) -> int:
    """Says whether a run has another one's figures; returns the exit status."""
    found = compare_runs(there, here)
    if found is None:
        print(f"reproduced: all epochs, weights and figures of {there}, to the bit, in {here}")
        return 0
    print(f"not reproduced: {here} differs from {there} first in {found}")
    return 1
