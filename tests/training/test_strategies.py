"""The same ten steps over other devices, in other processes, by other strategies.

With YOLO_JAX_POD_NETWORK=tiny of the tiny network, which takes a quarter of an hour on two cores.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pod_worker
import pytest
from pod_worker import STRATEGIES, train

# The design's: losses relative, weights by the norm of the whole tree, with SGD and momentum.
TOLERANCE = 1e-5
NETWORK = os.environ.get("YOLO_JAX_POD_NETWORK", "small")
WORKER = Path(pod_worker.__file__)
PODS = [(2, 4), (4, 2)]


def run_pod(processes: int, devices: int, out: Path) -> dict[str, np.ndarray]:
    """Returns what the processes of a pod make, by strategy and batch normalisation."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    command = [sys.executable, str(WORKER), NETWORK, str(out), str(devices)]
    environment = os.environ | {"XLA_FLAGS": ""}
    children = [
        subprocess.Popen(
            [*command, address, str(processes), str(number)],
            env=environment,
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
def one_process() -> dict[tuple[int, bool], dict[str, np.ndarray]]:
    """Returns losses and weights under pmap, by number of devices and sync."""
    devices = jax.devices()
    return {
        (count, sync): train(NETWORK, "pmap", sync, devices[:count])
        for count, sync in ((1, True), (8, True), (8, False))
    }


def check_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
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


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "devices"), PODS)
def test_eight_devices_of_several_processes(processes, devices, one_process, tmp_path: Path):
    found = run_pod(processes, devices, tmp_path / "found.npz")
    for strategy in STRATEGIES:
        synced, local = (
            {name: found[f"{strategy}_{norm}_{name}"] for name in ("losses", "weights")}
            for norm in ("sync", "local")
        )
        check_same(synced, one_process[1, True])
        check_same(local, one_process[8, False])
