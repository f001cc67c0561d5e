"""Slices of TPUs in Google's Kubernetes: a JobSet, and the xpk command that does the same.

Sources: JobSet's v1alpha2 API; GKE's labels of TPU nodes.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from yolo_jax.launch.job import Job
from yolo_jax.plan.chips import Slice
from yolo_jax.training.distributed import EXIT_DIVERGED

# In which a run saves and ends, once its machine is to be given back.
_GRACE_SECONDS = 90
_COORDINATOR_PORT = 8476
_NO_RESTART_HELPS = [2, EXIT_DIVERGED]  # exit statuses: a user's error, a loss not finite


@dataclass(frozen=True)
class Cluster:
    """Where a job runs in a Kubernetes cluster, and with what.

    Attributes:
        image: of the container, which has yolo_jax and its TPU extra.
        slices: that the run has.
        namespace: of the job.
        queue: Kueue's, None where the cluster has none.
        service_account: that it runs as.
        volumes: persistent volume claims by the path that they are mounted at; the run folder and
            the data lie there, for all hosts to see.
        name: of the cluster, as xpk knows it.
    """

    image: str
    slices: int = 1
    namespace: str = "default"
    queue: str | None = None
    service_account: str | None = None
    volumes: Mapping[str, str] = field(default_factory=dict)
    name: str = "CLUSTER"


def launch(
    job: Job, place: Slice, cluster: Cluster, out: Path, *, restarts: int = 0, dry_run: bool = False
) -> int:
    """Writes a JobSet, and prints the commands that submit it; returns 0.

    Args:
        job: to run; its processes are the hosts of the slices.
        place: one slice.
        cluster: where it runs.
        out: file of the manifest.
        restarts: of the whole job, whatever ended it but an error of the user's, or a loss or an
            update that was not finite.
        dry_run: print the manifest in place of writing it.
    """
    text = yaml.safe_dump(manifest(job, place, cluster, restarts), sort_keys=False, width=100)
    if dry_run:
        print(text)
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text)
        print(f"wrote {out}")
    print("submit it with either of")
    print(f"  {shlex.join(['kubectl', 'apply', '-f', str(out)])}")
    print(f"  {shlex.join(xpk(job, place, cluster, restarts))}")
    return 0


def _command(job: Job, place: Slice, cluster: Cluster) -> list[str]:
    alone = place.hosts * cluster.slices == 1
    return job.typed([] if alone else ["--distributed"])


def manifest(job: Job, place: Slice, cluster: Cluster, restarts: int) -> dict[str, Any]:
    """Returns the JobSet: a Job a slice, a pod a host, all of them started again together.

    Args:
        job: to run.
        place: one slice.
        cluster: where it runs.
        restarts: of the whole.
    """
    metadata: dict[str, Any] = {"name": job.name, "namespace": cluster.namespace}
    if cluster.queue:
        metadata["labels"] = {"kueue.x-k8s.io/queue-name": cluster.queue}
    if place.hosts > 1:
        # A node pool is a slice; two jobs may not share one.
        topology = {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"}
        metadata["annotations"] = topology
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": metadata,
        "spec": {
            "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
            "failurePolicy": {
                "maxRestarts": restarts,
                "rules": [
                    {
                        "name": "noRestartHelps",  # JobSet takes no hyphens here
                        "action": "FailJobSet",
                        "onJobFailureReasons": ["PodFailurePolicy"],
                    }
                ],
            },
            "replicatedJobs": [
                {
                    "name": "slice",
                    "replicas": cluster.slices,
                    "template": {"spec": _job_of_slice(job, place, cluster)},
                }
            ],
        },
    }


def _job_of_slice(job: Job, place: Slice, cluster: Cluster) -> dict[str, Any]:
    no_restart = {"containerName": "train", "operator": "In", "values": _NO_RESTART_HELPS}
    return {
        "parallelism": place.hosts,
        "completions": place.hosts,
        "completionMode": "Indexed",
        "backoffLimit": 0,  # a run goes on with all its processes or not at all
        "podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": no_restart}]},
        "template": {"spec": _pod(job, place, cluster)},
    }


def _pod(job: Job, place: Slice, cluster: Cluster) -> dict[str, Any]:
    chips = {"google.com/tpu": place.chips // place.hosts}
    # A claim's name may have dots, which a volume's may not.
    names = {
        claim: f"volume-{i}" for i, claim in enumerate(dict.fromkeys(cluster.volumes.values()))
    }
    container: dict[str, Any] = {
        "name": "train",
        "image": cluster.image,
        "command": _command(job, place, cluster),
        "workingDir": str(job.folder),
        "env": [{"name": name, "value": value} for name, value in job.environment.items()],
        # libtpu's own, by which hosts of a slice meet, and that of JAX's first process.
        "ports": [{"containerPort": port, "protocol": "TCP"} for port in (8471, _COORDINATOR_PORT)],
        "resources": {"requests": dict(chips), "limits": chips},
        "volumeMounts": [
            {"name": names[claim], "mountPath": path} for path, claim in cluster.volumes.items()
        ],
    }
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
        "nodeSelector": {
            "cloud.google.com/gke-tpu-accelerator": place.chip.gke,
            "cloud.google.com/gke-tpu-topology": "x".join(map(str, place.shape)),
        },
        "containers": [{name: value for name, value in container.items() if value}],
    }
    if cluster.service_account:
        spec["serviceAccountName"] = cluster.service_account
    if cluster.volumes:
        spec["volumes"] = [
            {"name": name, "persistentVolumeClaim": {"claimName": claim}}
            for claim, name in names.items()
        ]
    return spec


def xpk(job: Job, place: Slice, cluster: Cluster, restarts: int) -> list[str]:
    """Returns the xpk command that runs the same.

    Volumes, the queue and the account are xpk's own there, set up with the cluster.
    """
    typed = shlex.join(_command(job, place, cluster))
    words = ["xpk", "workload", "create", "--cluster", cluster.name, "--workload", job.name]
    words += ["--tpu-type", place.vm_type, "--num-slices", str(cluster.slices)]
    words += ["--docker-image", cluster.image, "--max-restarts", str(restarts)]
    words += ["--termination-grace-period-seconds", str(_GRACE_SECONDS)]
    for name, value in job.environment.items():
        words += ["--env", f"{name}={value}"]
    return [*words, "--command", f"cd {shlex.quote(str(job.folder))} && {typed}"]
