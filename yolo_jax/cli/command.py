"""The console command: picks the subcommand, and says of an error what a user can mend."""

import argparse
import errno
import logging
import os
import signal
import sys
import traceback
from collections.abc import Sequence

import jax

from yolo_jax.cli import bench, data, detect, evaluate, export, plan, report, serve, sweep, train
from yolo_jax.core.allocator import keep_freed_memory
from yolo_jax.core.interrupts import Terminated, hear_every_interrupt, raise_terminated
from yolo_jax.networks.pretrained import PretrainedUnavailable, cache_folder
from yolo_jax.training import distributed

# What a disk or the network refuses with, which another time it may not.
_REFUSALS = (
    errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ECONNREFUSED,
    errno.ECONNRESET, errno.ECONNABORTED, errno.EHOSTUNREACH, errno.ENETUNREACH,
)  # fmt: skip
_EXIT_REFUSED = 74  # EX_IOERR


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a subcommand; an error that a user can mend is one line and exit status 2.

    What a disk or the network refuses is one line and status 74: another time it may not. A run
    whose loss was not finite ends with status 3. The doctor's status is 1 where something is wrong
    with the data.
    """
    # By force: a library that is imported may have set up its own form already.
    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.WARNING, force=True)
    logging.getLogger("yolo_jax").setLevel(logging.INFO)
    keep_freed_memory()
    use_compilation_cache()
    # As Ctrl-C does, so that worker processes end and the terminal is left in order.
    signal.signal(signal.SIGTERM, raise_terminated)
    hear_every_interrupt()
    parser = make_parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and not options.takes_rest:
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
        if isinstance(error, FloatingPointError):
            return distributed.EXIT_DIVERGED
        is_refused = isinstance(error, PretrainedUnavailable) or (
            isinstance(error, OSError) and error.errno in _REFUSALS
        )
        return _EXIT_REFUSED if is_refused else 2
    except KeyboardInterrupt as stop:
        text = "stopped"
        if options.command in (train.run, sweep.run):
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


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of all subcommands."""
    parser = argparse.ArgumentParser(prog="yolo-jax", description="YOLO detectors on JAX.")
    parser.set_defaults(takes_rest=False)  # of arguments that it does not know, for the command
    commands = parser.add_subparsers(required=True)
    for one in (train, sweep, report, plan, detect, evaluate, serve, export, data, bench):
        one.add_parsers(commands)
    return parser
