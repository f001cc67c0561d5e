"""The report's command: reads run folders and sweeps, writes a page."""

from collections.abc import Sequence
from pathlib import Path

from yolo_jax.report.page import MARK, render
from yolo_jax.report.sets import read_sets

_HEAD = 1000  # characters of a page that hold its mark


def write_report(runs: Sequence[Path], out: Path) -> None:
    """Writes a page of some runs, and says where it is; whole or not at all.

    Args:
        runs: run folders and sweep folders.
        out: file to write; an earlier report is written over.

    Raises:
        FileNotFoundError: there is no such run.
        ValueError: a folder is neither a run's nor a sweep's, or `out` is something else than a
            report.
        OSError: the disk is full, or may not be written to.
    """
    _check_out(out)
    sets = read_sets(runs)
    page = render(sets)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f"{out.name}.partial")
    # Names of files may hold halves of surrogate pairs, which UTF-8 has no form for.
    partial.write_text(page, encoding="utf-8", errors="backslashreplace")
    partial.replace(out)
    found = [run for one in sets for run in one.runs]
    for run in found:
        for fault in run.faults:
            print(f"{run.name}: {fault}")
    states = [run.state for run in found]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    print(f"page: {out} ({out.stat().st_size / 1e6:.1f} MB), runs: {counts}")


def _check_out(out: Path) -> None:
    """Refuses to write over what is no report."""
    if out.is_dir():
        raise ValueError(f"--out {out} is a folder; name a file, as {out / 'report.html'}")
    if not out.exists():
        return
    with out.open(encoding="utf-8", errors="replace") as file:
        if MARK not in file.read(_HEAD):
            raise ValueError(f"--out {out} is there and is no report; name another file")
