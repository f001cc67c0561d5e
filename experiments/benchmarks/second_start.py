"""Seconds from the command to the end of quickstart's first step: first start, and second.

Command: yolo-jax bench second_start
Hardware: 2 CPU cores, about a minute.
"""

import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from yolo_jax import experiment
from yolo_jax.cli import use_compilation_cache
from yolo_jax.config import load_config
from yolo_jax.model.callbacks import Callback, Logs
from yolo_jax.networks.pretrained import fetch_pretrained

CONFIG = Path(__file__).parents[1] / "configs" / "quickstart.py"


class StopAfterFirstStep(Callback):
    """Reports the time and leaves."""

    def __init__(self, started: float) -> None:
        self.started = started

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Waits for the loss, which the device computes last."""
        loss = (logs or {})["loss"]
        print(f"{time.time() - self.started:.1f} s (loss {loss:.2f})", flush=True)
        # Nothing of this run is wanted: nothing needs to be finished or saved.
        os._exit(0)


def main() -> None:
    """Starts quickstart twice with one folder of compiled programs, empty at first."""
    fetch_pretrained()  # once and for all; not what is measured
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": f"{folder}/compiled"}
        for name in ("first", "second"):
            module = "experiments.benchmarks.second_start"
            command = [sys.executable, "-m", module, f"{folder}/{name}", str(time.time())]
            print(f"{name} start to the end of its first step: ", end="", flush=True)
            subprocess.run(command, env=environment, check=True)


def child(runs: Path, started: float) -> None:
    """Runs quickstart to the end of its first step."""
    use_compilation_cache()
    config = dataclasses.replace(load_config(CONFIG), runs=runs)
    experiment.train(config, callbacks=[StopAfterFirstStep(started)])


if __name__ == "__main__":
    if len(sys.argv) > 1:
        child(Path(sys.argv[1]), float(sys.argv[2]))
    else:
        main()
