"""A Ray cluster: each process of a run in an actor, on the resources that it asks for."""

import logging
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import ray
from ray.exceptions import RayActorError
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from yolo_jax.launch.job import Job, as_shell_says, free_port, run_again_if_preempted
from yolo_jax.training.distributed import EXIT_PREEMPTED

WAIT_SECONDS = 600  # for what a run asks for to be free


def launch(
    job: Job,
    resources: Mapping[str, float],
    *,
    address: str = "auto",
    restarts: int = 0,
    wait_seconds: int = WAIT_SECONDS,
    dry_run: bool = False,
) -> int:
    """Runs a job's processes on a Ray cluster to their end, and prints what they do.

    SIGTERM and Ctrl-C have the run save and end for good.

    Args:
        job: to run, in a folder that all nodes see.
        resources: of each process, by Ray's names, such as {"CPU": 8, "GPU": 1} or {"TPU": 4}.
        address: of the cluster: HOST:PORT, ray://HOST:PORT, or auto for the one that this machine
            is in.
        restarts: times that a run which was preempted (exit status 143) is started again.
        wait_seconds: for the resources to be free.
        dry_run: print what would be asked for.

    Returns:
        The exit status of the first process that failed, or 0.

    Raises:
        ValueError: there is no cluster, or it has no such resources free in time.
    """
    if dry_run:
        print(f"ray.init({address!r}); {job.processes} actors, each with {dict(resources)}:")
        print(job.shown(job.joining("HOST:PORT", 0)))
        return 0
    with connected(address):
        return run_again_if_preempted(lambda: _run(job, dict(resources), wait_seconds), restarts)


@contextmanager
def connected(address: str, *, prints: bool = True) -> Iterator[None]:
    """Is a part of a cluster for as long as the block lasts.

    Args:
        address: of the cluster; see `launch`.
        prints: what the actors print, and what Ray finds in logs of the TPUs' library.

    Raises:
        ValueError: there is no cluster.
    """
    try:
        _check_there(address)
        ray.init(address=address, log_to_driver=prints, logging_level=logging.WARNING)
    except OSError as error:
        raise ValueError(f"found no Ray cluster at --ray-address {address} ({error})") from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_there(address: str) -> None:
    """Raises OSError where nobody listens; Ray would try again for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=10).close()


class _Process:
    """A process of the run; lives on one node of the cluster."""

    def __init__(self) -> None:
        self._child: subprocess.Popen | None = None

    def address(self) -> str:
        """Returns HOST:PORT at which the others can find this one."""
        return f"{ray.util.get_node_ip_address()}:{free_port('')}"

    def run(self, job: Job, number: int, address: str, gpus: int, log: Path | None = None) -> int:
        """Runs to the end, and returns the exit status; prints to a log where there is one."""
        environment = os.environ | dict(job.environment)
        if gpus:
            # All that Ray lets it see. Within a SLURM job JAX would take one.
            environment["JAX_LOCAL_DEVICE_IDS"] = ",".join(map(str, range(gpus)))
        with ExitStack() as stack:
            self._child = subprocess.Popen(
                job.command(job.joining(address, number)),
                cwd=job.folder,
                env=environment,
                stdout=subprocess.PIPE if log is None else stack.enter_context(log.open("ab")),
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
        for line in self._child.stdout or ():
            print(f"[{number}] {line}" if job.processes > 1 else line, end="", flush=True)
        return self._child.wait()

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Has the run save and end, or end at once by another signal."""
        if self._child is not None:
            self._child.send_signal(number)


class Alone:
    """A job of one process, which waits for its resources, runs, or has run.

    Args:
        job: to run, in a folder that all nodes see.
        resources: of the process.
        log: file that what it prints is added to; all nodes see it too.
    """

    def __init__(self, job: Job, resources: Mapping[str, float], log: Path) -> None:
        self._group = placement_group([dict(resources)])
        self._actor = _actor(self._group, dict(resources), 0)
        gpus = int(resources.get("GPU", 0))
        self._end = self._actor.run.remote(job, 0, "", gpus, log)

    def status(self) -> int | None:
        """Returns the exit status as a shell says it, or None while it waits or runs."""
        done, _ = ray.wait([self._end], timeout=0)
        if not done:
            return None
        try:
            status = as_shell_says(ray.get(self._end))
        except RayActorError:  # its node is gone, or it was killed
            status = EXIT_PREEMPTED
        remove_placement_group(self._group)
        return status

    def stop(self) -> None:
        """Has the run save and end."""
        if self._group.wait(0):
            self._actor.stop.remote()
        else:
            ray.kill(self._actor)  # it waits, and has nothing to save

    def kill(self) -> None:
        """Ends the run at once."""
        self._actor.stop.remote(signal.SIGKILL)


def _run(job: Job, resources: dict[str, float], wait_seconds: int) -> tuple[int, bool]:
    """Runs the processes once.

    Returns:
        The status of the first that failed, or 0; and whether a signal to this process ended them.
    """
    group = placement_group([resources] * job.processes, strategy="SPREAD")
    if not group.wait(wait_seconds):
        remove_placement_group(group)
        raise ValueError(
            f"the Ray cluster has not had {job.processes} times {resources} free for "
            f"{wait_seconds} s; it has {ray.cluster_resources()} in all"
        )
    actors = [_actor(group, resources, number) for number in range(job.processes)]
    address = ray.get(actors[0].address.remote())

    stopped = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True
        actors[0].stop.remote()  # which tells the others

    usual = {n: signal.signal(n, stop) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        gpus = int(resources.get("GPU", 0))
        left = [actor.run.remote(job, n, address, gpus) for n, actor in enumerate(actors)]
        first = 0
        while left:
            done, left = ray.wait(left)
            try:
                first = first or ray.get(done[0])
            except RayActorError:  # its node is gone
                first = first or EXIT_PREEMPTED
        return as_shell_says(first), stopped
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
        remove_placement_group(group)


def _actor(group: PlacementGroup, resources: dict[str, float], number: int) -> Any:
    others = {name: count for name, count in resources.items() if name not in ("CPU", "GPU")}
    return (
        ray.remote(_Process)
        .options(
            num_cpus=resources.get("CPU", 0),
            num_gpus=resources.get("GPU", 0),
            resources=others,
            max_concurrency=2,  # to be stopped while it runs
            scheduling_strategy=PlacementGroupSchedulingStrategy(
                group, placement_group_bundle_index=number
            ),
        )
        .remote()
    )
