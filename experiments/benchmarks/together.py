"""Eight learning rates in one program against eight runs: seconds, and what a trial holds on TPUs.

The runs are quickstart's with 96 px and three epochs, each with its start, its compilation, its
input and its held-out figures: eight at once by `train --changes … --changes …`, eight processes
one after the other with one folder of compiled programs, and eight in one process behind a first
one that compiled. All start with an empty folder of compiled programs but the last.

With --compile the step of as many trials is compiled for TPUs that this machine need not have: the
bytes that a chip holds and moves for each trial.

Command: yolo-jax bench together; yolo-jax bench together --compile v5e:2x4
Needs: pip install -e '.[plan]' for --compile.
Hardware: 2 CPU cores, about 10 minutes.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import topologies

from yolo_jax import experiment
from yolo_jax.cli import use_compilation_cache
from yolo_jax.config import load_config
from yolo_jax.config.flat import with_changes
from yolo_jax.detection.loss import DetectionLoss
from yolo_jax.model.graph import Input, apply
from yolo_jax.model.losses import detection
from yolo_jax.model.model import Model
from yolo_jax.model.trials import Recipe, Trials, TrialsModel
from yolo_jax.networks.pretrained import fetch_pretrained
from yolo_jax.networks.yolov3 import NETWORKS, create_network
from yolo_jax.plan import hlo
from yolo_jax.plan.chips import slice_of
from yolo_jax.plan.compiler import bytes_held, in_own_process
from yolo_jax.training.step import Fed

CONFIG = Path(__file__).parents[1] / "configs" / "quickstart.py"
RATES = (1e-4, 2e-4, 4e-4, 7e-4, 1e-3, 2e-3, 4e-3, 7e-3)
SIZE, EPOCHS, BOXES, CLASSES = 96, 3, 50, 80
CHANGES = {"network.input_size": SIZE, "epochs": EPOCHS, "augment.crop": [42, 81]}


def main() -> None:
    """Prints the seconds and their ratios, or what a trial takes on a chip."""
    parser = argparse.ArgumentParser(prog="yolo-jax bench together", description=__doc__)
    parser.add_argument("--compile", metavar="v5e:2x4", help="compile for a slice of TPUs")
    parser.add_argument("--trials", type=int, default=8, help="that are compiled (default 8)")
    parser.add_argument("--batch", type=int, default=8, help="rows of a batch (default 8)")
    parser.add_argument("--size", type=int, default=SIZE, help="of the input, px (default 96)")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--warm", type=Path, help=argparse.SUPPRESS)  # the third side's process
    options = parser.parse_args()
    if options.warm:
        warm_runs(options.warm)
        return
    if options.compile:
        status = in_own_process("experiments.benchmarks.together", sys.argv[1:])
        if status is not None:
            sys.exit(status)
        figures = compiled_figures(options)
    else:
        figures = run_sides()
    for name, value in figures.items():
        print(f"  {name:44s}{value:10.4g}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def trials() -> list[dict[str, Any]]:
    """Returns the changes of each trial."""
    return [CHANGES | {"name": f"rate_{rate:g}", "optimizer.learning_rate": rate} for rate in RATES]


def run_sides() -> dict[str, float]:
    """Returns the seconds of the three sides, and the ratios of the first to the others."""
    fetch_pretrained()  # once and for all; not what is measured
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        together = timed(folder, "together", trials())
        apart = sum(timed(folder, "apart", [one]) for one in trials())
        print(f"{len(RATES)} in one warm process:", flush=True)
        command = [sys.executable, "-m", "experiments.benchmarks.together", "--warm", name]
        cache = os.environ | {"JAX_COMPILATION_CACHE_DIR": f"{folder}/cache_apart"}
        done = subprocess.run(command, env=cache, check=True, capture_output=True, text=True)
        warm = float(done.stdout.splitlines()[-1])
        same = largest_difference(folder / "together", folder / "apart")
    return {
        "seconds, together": together,
        "seconds, eight processes": apart,
        "seconds, one warm process": warm,
        "together / eight processes": together / apart,
        "together / one warm process": together / warm,
        "largest relative difference of a loss": same,
    }


def timed(folder: Path, side: str, changes: list[dict[str, Any]]) -> float:
    """Runs trials by one command, and returns its seconds."""
    words = [word for one in changes for word in ("--changes", json.dumps(one))]
    command = [sys.executable, "-m", "yolo_jax", "train", str(CONFIG)]
    command += ["--runs", str(folder / side), *words]
    cache = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(folder / f"cache_{side}")}
    start = time.perf_counter()
    subprocess.run(command, env=cache, check=True, capture_output=True)
    seconds = time.perf_counter() - start
    print(f"{side}, {len(changes)}: {seconds:.1f} s", flush=True)
    return seconds


def warm_runs(folder: Path) -> None:
    """Prints the seconds of eight runs one after the other, behind one that compiled."""
    use_compilation_cache()
    base = dataclasses.replace(load_config(CONFIG), runs=folder / "warm")
    experiment.train(with_changes(base, trials()[0] | {"name": "first"}))
    start = time.perf_counter()
    for one in trials():
        experiment.train(with_changes(base, one))
    print(time.perf_counter() - start)


def largest_difference(first: Path, second: Path) -> float:
    """Returns by how much the losses of two folders of runs differ at most."""

    def losses(path: Path) -> np.ndarray:
        return np.genfromtxt(path, delimiter=",", names=True)["loss"]

    found = []
    for path in sorted(first.glob("rate_*/history.csv")):
        own, other = losses(path), losses(second / path.parent.name / path.name)
        found.append(np.abs(own / other - 1).max())
    return float(max(found))


def compiled_figures(options: argparse.Namespace) -> dict[str, float]:
    """Returns what a chip of a slice holds and moves for each trial of its own."""
    place = slice_of(options.compile)
    devices = topologies.get_topology_desc(platform="tpu", topology_name=options.compile).devices
    module = create_network("tiny", CLASSES, backend="tpu")
    image = Input((options.size, options.size, 3), name="image", dtype=jnp.uint8)
    single = Model(image, list(apply(module, image)))
    model = TrialsModel(single, [single.state] * options.trials)
    rates = np.geomspace(1e-4, 1e-2, options.trials, dtype=np.float32)
    names = tuple(f"rate {rate:g}" for rate in rates)
    model.compile_trials(Trials(names, {"rate": rates}, recipe), devices=jax.devices()[:1])
    side, rows = options.size, options.batch
    boxes, classes = np.zeros((rows, BOXES, 4), np.float32), np.zeros((rows, BOXES), np.int32)
    images = np.zeros((rows, side, side, 3), np.uint8)
    fed = Fed({"image": images}, {"boxes": boxes, "classes": classes}, None, None)
    sums = model.compiled.zero_sums(model.state, fed, training=True)
    executable = model.compiled.lower(model.state, sums, fed, devices).compile()
    text, memory = executable.as_text(), executable.memory_analysis()
    own = options.trials / len(devices)
    moved = sum(one.gigabytes for one in hlo.instructions(text))
    state = sum(leaf.nbytes for leaf in jax.tree.leaves(model.state)) / options.trials
    print(f"{options.trials} trials of tiny at {side}², {rows} rows, on {options.compile}")
    return {
        "trials a chip": own,
        f"MiB held by a chip (of {place.chip.hbm_gib} GiB)": bytes_held(memory) / 2**20,
        "MiB held for each trial": bytes_held(memory) / 2**20 / own,
        "MiB of a trial's state": state / 2**20,
        "GB of HBM moved a step, by a turn of the loop": moved,
        "collectives": sum(map(len, hlo.between_chips(text, len(devices)).values())),
    }


def recipe(numbers: Any) -> Recipe:
    """Returns SGD by the trial's rate."""
    loss = DetectionLoss(NETWORKS["tiny"][1], CLASSES)
    return Recipe(optax.sgd(numbers["rate"], momentum=0.9), detection(loss))


if __name__ == "__main__":
    main()
