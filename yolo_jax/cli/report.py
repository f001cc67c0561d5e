"""`yolo-jax report`."""

import argparse
from pathlib import Path
from typing import Any

from yolo_jax.report.command import write_report


def add_parsers(commands: Any) -> None:
    """Adds the subcommand."""
    report = commands.add_parser(
        "report",
        help="make a page of runs and sweeps",
        description="Makes one HTML file of run folders and sweep folders: configs, curves, "
        "figures over seeds, the worst and best images. It needs no network to be looked at. Runs "
        "that are broken or unfinished are shown as such.",
    )
    report.add_argument("runs", nargs="+", type=Path, help="run folders, sweep folders")
    report.add_argument(
        "--out",
        type=Path,
        default=Path("report.html"),
        help="the page, new or of an earlier report (default report.html)",
    )
    report.set_defaults(command=_report)


def _report(options: argparse.Namespace, _: list[str]) -> None:
    write_report(options.runs, options.out)
