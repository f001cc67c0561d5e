"""Trains for hours, stopped by SIGTERM every ten minutes and begun again; fails on what grows.

YOLOv3-tiny learns drawn images at 96 px, with two worker processes, mosaics, jitter and colours, a
checkpoint, a validation loss and a score by average precision after every epoch. Of the process and
its children memory, open files and threads are read every five seconds, and every epoch's time per
image. What counts is the growth within a start, its first minutes apart: the slope of a line by
least squares, with an offset for each start.

Command: yolo-jax bench endurance --minutes 120
Hardware: any; nothing else should run beside it.
Expected: memory grows by less than 1 MB a minute; files, threads and time per image do not grow.
"""

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
from jaxtyping import Float

from experiments.benchmarks.rehearsal import draw_images
from yolo_jax.core.json_files import save_json
from yolo_jax.report.runs import read_run

NAME = "endurance"
_READ_EVERY = 5.0  # seconds
_MOST_MEMORY = 1.0  # MB a minute
_MOST_OTHERS = 0.01  # a minute: one more in 100 minutes
_MOST_TIME = 1.05  # last by first, on the fitted line
_COMPILING = 2  # epochs of a start
_STOPPED = 128 + signal.SIGTERM
_FIELDS = (
    "--name", NAME, "--epochs", "1000000", "--steps-per-epoch", "20", "--batch-size", "16",
    "--network.kind", "tiny", "--network.weights", "scratch", "--network.input-size", "96",
    "--augment.mosaic", "0.5", "--augment.scale", "0.5", "1.5",
    "--augment.hsv", "0.1", "1.5", "1.5",
    "--data.workers", "2", "--validation-ap-every", "1", "--optimizer.learning-rate", "1e-4",
)  # fmt: skip


class Reading(NamedTuple):
    """What the run holds at a moment.

    Attributes:
        start: number of the process, from 0.
        minute: since that process began.
        memory: resident, of it and its children, MB.
        files: open ones.
        threads: of it and its children.
    """

    start: int
    minute: float
    memory: float
    files: float
    threads: float


def main() -> None:
    """Trains, prints what grew, and ends with 1 where it is too much."""
    parser = argparse.ArgumentParser(prog="yolo-jax bench endurance", description=__doc__)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--restart", type=float, default=10, help="minutes of a start")
    parser.add_argument("--warm-up", type=float, default=3, help="minutes that do not count")
    parser.add_argument("--runs", type=Path, default=Path("runs/bench"))
    parser.add_argument("--json", type=Path, help="write figures and readings")
    options = parser.parse_args()
    folder = options.runs / NAME
    if folder.exists():
        parser.error(f"{folder} is there; remove it, for a run that goes on would be measured")
    images = draw_images(options.runs / f"{NAME}_images")
    command = ["-m", "yolo_jax", "train", str(images), "--runs", str(options.runs), *_FIELDS]
    log, readings, epochs = options.runs / f"{NAME}.log", [], [0]
    kept = {"readings": readings, "epochs": epochs}
    end = time.monotonic() + 60 * options.minutes
    for start in range(sys.maxsize):
        seconds = min(60 * options.restart, end - time.monotonic())
        if seconds < 60 * options.warm_up:
            break
        own = watch(start, command, seconds, log)
        readings += [reading for reading in own if reading.minute >= options.warm_up]
        epochs.append(len(_speeds(folder)))
        memory = readings[-1].memory
        print(f"start {start}: {memory:.0f} MB, {epochs[-1]} epochs so far", flush=True)
        if options.json is not None:
            save_json(options.json, kept)  # an hour's readings outlive what happens later
    figures = tell(readings, steady(_speeds(folder), epochs))
    if options.json is not None:
        save_json(options.json, kept | {"figures": figures})
    sys.exit(not is_flat(figures))


def watch(start: int, command: Sequence[str], seconds: float, log: Path) -> list[Reading]:
    """Starts the run, reads it for some seconds, and has it stop.

    Raises:
        RuntimeError: it ended by itself, or otherwise than one that is asked to stop.
    """
    readings = []
    with log.open("a") as said:
        process = psutil.Popen([sys.executable, *command], stdout=said, stderr=said)
        begun = time.monotonic()
        while time.monotonic() - begun < seconds and process.poll() is None:
            time.sleep(_READ_EVERY)
            family = [process, *process.children(recursive=True)]
            minute = (time.monotonic() - begun) / 60
            held = np.sum([_held(member) for member in family], axis=0).tolist()
            readings.append(Reading(start, minute, *held))
        process.send_signal(signal.SIGTERM)
        status = process.wait(120)
    if status != _STOPPED:
        raise RuntimeError(f"start {start} ended with {status}, expected {_STOPPED}; see {log}")
    return readings


def _held(process: psutil.Process) -> tuple[float, int, int]:
    """Returns the memory in MB, open files and threads of a process; nothing of one that ended."""
    try:
        with process.oneshot():
            return process.memory_info().rss / 1e6, process.num_fds(), process.num_threads()
    except psutil.NoSuchProcess:
        return 0.0, 0, 0


def _speeds(folder: Path) -> list[float]:
    """Returns the seconds an image of each epoch's steps; none before the first ends.

    An epoch that was stopped behind its last step, and is ended by the next start, has no speed.
    """
    speeds = read_run(folder, NAME).speed.get("images_per_second", [])
    return [1 / speed for speed in speeds if speed]


def steady(speeds: Sequence[float], epochs: Sequence[int]) -> list[tuple[int, float]]:
    """Returns (epoch, seconds an image) without the first epochs of each start, which compile.

    Args:
        speeds: of every epoch.
        epochs: that were done before each start, and after the last.
    """
    compiling = {first + index for first in epochs for index in range(_COMPILING)}
    return [(epoch, speed) for epoch, speed in enumerate(speeds) if epoch not in compiling]


def tell(readings: Sequence[Reading], speeds: Sequence[tuple[int, float]]) -> dict[str, float]:
    """Prints and returns what grew."""
    table = np.asarray(readings, np.float64)
    starts, minutes = table[:, 0], table[:, 1]
    memory, files, threads = (slope(starts, minutes, column) for column in table[:, 2:].T)
    epochs, seconds = np.asarray(speeds, np.float64).T
    line = slope(np.zeros_like(epochs), epochs, seconds) * (epochs - epochs.mean()) + seconds.mean()
    figures = {
        "starts": len(np.unique(starts)),
        "epochs": int(epochs[-1]) + 1,
        "memory, MB": float(np.median(table[:, 2])),
        "memory, MB a minute": memory,
        "files a minute": files,
        "threads a minute": threads,
        "time an image, last by first": float(line[-1] / line[0]),
    }
    for name, value in figures.items():
        print(f"{name:<30} {value:.4g}")
    return figures


def slope(
    groups: Float[np.ndarray, "n"], x: Float[np.ndarray, "n"], y: Float[np.ndarray, "n"]
) -> float:
    """Returns the slope of least squares over x, with an offset for each group."""
    _, index = np.unique(groups, return_inverse=True)
    counts = np.bincount(index)
    x, y = (v - (np.bincount(index, v) / counts)[index] for v in (x, y))
    return float(x @ y / (x @ x))


def is_flat(figures: dict[str, float]) -> bool:
    """Tells that nothing grew by more than it may."""
    return (
        figures["memory, MB a minute"] < _MOST_MEMORY
        and figures["files a minute"] < _MOST_OTHERS
        and figures["threads a minute"] < _MOST_OTHERS
        and figures["time an image, last by first"] < _MOST_TIME
    )


if __name__ == "__main__":
    main()
