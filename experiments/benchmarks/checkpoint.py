"""What a checkpoint of YOLOv3 costs: how long the loop is held, the whole save, and the way back.

The state is that of SGD with momentum: weights and slots, 0.5 GB.

Command: yolo-jax bench checkpoint
Hardware: 2 CPU cores, half a minute and 3 GB of memory.
"""

import argparse
import tempfile
import threading
import time

import jax
import numpy as np
import optax
import psutil
from flax import nnx

from yolo_jax.networks.yolov3 import create_network
from yolo_jax.training.checkpoint import Checkpoints


class PeakMemory:
    """The most memory that this process has within the block, beyond what it had before."""

    def __enter__(self) -> "PeakMemory":
        """Starts to look."""
        self._process, self._over = psutil.Process(), threading.Event()
        self.before = self.most = self._process.memory_info().rss
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Ends it."""
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.005):
            self.most = max(self.most, self._process.memory_info().rss)


def main() -> None:
    """Prints medians of a few saves and restores."""
    parser = argparse.ArgumentParser(prog="yolo-jax bench checkpoint", description=__doc__)
    parser.add_argument("--saves", type=int, default=5)
    options = parser.parse_args()
    params = nnx.split(create_network("yolov3", 80), nnx.Param, ...)[1]
    state = jax.block_until_ready((params, optax.trace(0.9).init(params)))
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    held, whole, restored, memory = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(folder, keep=1, monitor=None)
        for step in range(options.saves):
            state = jax.block_until_ready(jax.tree.map(lambda leaf: leaf + 1, state))
            with PeakMemory() as peak:
                start = time.perf_counter()
                checkpoints.save(step, state, {"epoch": step}, {})
                held.append(time.perf_counter() - start)
                checkpoints.wait()
                whole.append(time.perf_counter() - start)
            memory.append((peak.most - peak.before) / size)
        for _ in range(3):
            start = time.perf_counter()
            found = checkpoints.restore(state)
            assert found is not None
            jax.block_until_ready(found.arrays)
            restored.append(time.perf_counter() - start)
        checkpoints.close()
    print(f"state                                {size / 1e9:6.2f} GB")
    print(f"the loop is held for                 {1e3 * np.median(held):6.0f} ms")
    print(f"a save takes in all                  {np.median(whole):6.2f} s")
    print(f"a restore takes                      {np.median(restored):6.2f} s")
    print(f"memory that a save adds / state      {max(memory):6.2f}")


if __name__ == "__main__":
    main()
