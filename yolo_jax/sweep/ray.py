"""A sweep's processes in a Ray cluster, each on the resources that it asks for."""

from collections.abc import Mapping
from pathlib import Path

import ray as cluster

from yolo_jax.launch.job import Job
from yolo_jax.launch.ray_cluster import Alone

_PAUSE_SECONDS = 1.0


class Ray:
    """A Ray cluster that this process is connected to.

    Args:
        parallel: processes at once.
        resources: of each, by Ray's names.

    Raises:
        ValueError: the cluster has less than one process asks for.
    """

    def __init__(self, parallel: int, resources: Mapping[str, float]) -> None:
        self.parallel: int | None = parallel
        self.pause = _PAUSE_SECONDS
        self._resources = resources
        has = cluster.cluster_resources()
        lacking = {name: count for name, count in resources.items() if has.get(name, 0) < count}
        if lacking:
            raise ValueError(
                f"each trial asks for {dict(resources)} (--resources), and the Ray cluster has "
                f"{has} in all"
            )

    def start(self, job: Job, log: Path) -> Alone:
        """Starts a process as soon as its resources are free."""
        return Alone(job, self._resources, log.resolve())
