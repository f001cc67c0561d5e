"""The same ten steps over other devices, in other processes, by other strategies.

With YOLO_JAX_POD_NETWORK=tiny of the tiny network, which takes a quarter of an hour on two cores.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import jax
import numpy as np
import pod_worker
import pytest
from pod_worker import MOVED, STEPS, STRATEGIES, go_on, train

from yolo_jax.launch.job import free_port

# The design's: losses relative, weights by the norm of the whole tree, with SGD and momentum.
TOLERANCE = 1e-5
NETWORK = os.environ.get("YOLO_JAX_POD_NETWORK", "small")
WORKER = Path(pod_worker.__file__)
PODS = [(2, 4), (4, 2)]
MOVES = (6, 18)  # steps behind which a run changes devices, amid epochs
Part = dict[str, np.ndarray]


def run_pod(processes: int, devices: int, out: Path) -> Part:
    """Returns what the processes of a pod make, by strategy and batch normalisation."""
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, str(WORKER), NETWORK, str(out), str(devices)]
    children = [
        subprocess.Popen(
            [*command, address, str(processes), str(number)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(processes)
    ]
    for child in children:
        output, _ = child.communicate(timeout=600)
        assert child.returncode == 0, output
    return dict(np.load(out))


@pytest.fixture(scope="module")
def one_process() -> dict[tuple[int, bool], Part]:
    """Returns losses and weights under pmap, by number of devices and sync."""
    devices = jax.devices()
    return {
        (count, sync): train(NETWORK, "pmap", sync, devices[:count])
        for count, sync in ((1, True), (8, True), (8, False))
    }


def check_same(found: Part, expected: Part) -> None:
    """Checks that two trainings are one, up to rounding."""
    np.testing.assert_allclose(found["losses"], expected["losses"], rtol=TOLERANCE)
    distance = np.linalg.norm(found["weights"] - expected["weights"])
    assert distance <= TOLERANCE * np.linalg.norm(expected["weights"])


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_eight_devices_of_one_process(strategy, one_process):
    synced = train(NETWORK, strategy, True)
    check_same(synced, one_process[8, True])
    check_same(synced, one_process[1, True])
    check_same(train(NETWORK, strategy, False), one_process[8, False])


@pytest.fixture(scope="module")
def began(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[Part]]]:
    """Returns the folder of runs over 8 devices and then 4, and their parts by strategy."""
    folder, parts = tmp_path_factory.mktemp("began"), {}
    for strategy in MOVED:
        runs = folder / f"{strategy}_moved"
        first = go_on(strategy, runs, MOVES[0])
        parts[strategy] = [first, go_on(strategy, runs, MOVES[1], jax.devices()[:4])]
    return folder, parts


@pytest.fixture(scope="module")
def pod(began: tuple[Path, dict[str, list[Part]]]) -> Callable[[int, int], Part]:
    """Returns what makes pods, each once."""
    return cache(lambda processes, devices: run_pod(processes, devices, began[0] / "found.npz"))


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "devices"), PODS)
def test_eight_devices_of_several_processes(processes, devices, one_process, pod):
    found = pod(processes, devices)
    for strategy in STRATEGIES:
        synced, local = (
            {name: found[f"{strategy}_{norm}_{name}"] for name in ("losses", "weights")}
            for norm in ("sync", "local")
        )
        check_same(synced, one_process[1, True])
        check_same(local, one_process[8, False])


@pytest.mark.slow
def test_a_run_moves_from_8_devices_to_4_and_to_2_processes_of_4(began, pod, tmp_path: Path):
    found = pod(2, 4)
    whole = go_on("pmap", tmp_path, 4 * STEPS)
    for strategy, parts in began[1].items():
        last = {name: found[f"{strategy}_moved_{name}"] for name in ("losses", "batches")}
        lengths = [len(part["losses"]) for part in (*parts, last)]
        assert lengths == [MOVES[0], MOVES[1] - MOVES[0], 4 * STEPS - MOVES[1]]
        losses, batches = (
            np.concatenate([part[name] for part in (*parts, last)])
            for name in ("losses", "batches")
        )
        assert batches.tolist() == list(range(4 * STEPS))
        difference = np.abs(losses / whole["losses"] - 1)
        print(f"{strategy}, 8 to 4 to 2 × 4 devices: losses differ by {difference.max():.1e}")
        np.testing.assert_allclose(losses, whole["losses"], rtol=TOLERANCE)
