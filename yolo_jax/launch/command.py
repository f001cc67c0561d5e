"""`yolo-jax train CONFIG --launch WHERE`: the options of the launchers, and which one is meant."""

import argparse
import dataclasses
import json
import logging
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from yolo_jax.config import ExperimentConfig
from yolo_jax.core.extras import module_of_extra
from yolo_jax.core.fields import check_fields
from yolo_jax.launch import gke, local, tpu_vm
from yolo_jax.launch.job import Job
from yolo_jax.plan.chips import GPUS, slice_of

_log = logging.getLogger(__name__)
HELP = (
    "--launch starts a run elsewhere, or in parts; with --dry-run it says what it would do. "
    "All take --job-name and --restarts K, of a run that was preempted, and --env NAME=VALUE, "
    "which like all that take NAME=VALUE is given once for each. "
    "local: --processes N here, with --devices D simulated ones each. "
    "slurm: --processes N over --nodes, each with --gpus and --cpus, for --minutes, on "
    "--partition; --sbatch NAME=VALUE for the rest. "
    "gke: a JobSet for --slices of --target v5e:4x4, written to --manifest, with --image, "
    "--mount CLAIM=PATH, --namespace, --queue, --service-account, --cluster. "
    "tpu-vm: the gcloud commands for --tpu NAME --zone ZONE --project. "
    "ray: --processes N in the cluster at --ray-address, each with --resources CPU=8 and "
    "GPU=1, which it waits for, --wait-seconds long. "
    "--folder: that the job works in, where it is another machine's."
)
# Where a job works on machines that are not this one's.
_FOLDERS = {"gke": Path("/workspace"), "tpu-vm": Path("yolo_jax")}
_NAMED = ("slurm", "gke", "tpu-vm")  # that show a job's name, or name files by it
# Options that some launchers alone take, with those.
_TAKEN_BY = {
    "processes": "local slurm ray",
    "devices": "local",
    "nodes": "slurm",
    "minutes": "slurm",
    "gpus": "slurm",
    "cpus": "slurm",
    "partition": "slurm",
    "sbatch": "slurm",
    "logs": "slurm",
    "folder": "slurm gke tpu-vm ray",
    "target": "gke",
    "slices": "gke",
    "manifest": "gke",
    "image": "gke",
    "mount": "gke",
    "namespace": "gke",
    "queue": "gke",
    "service_account": "gke",
    "cluster": "gke",
    "tpu": "tpu-vm",
    "zone": "tpu-vm",
    "project": "tpu-vm",
    "ray_address": "ray",
    "resources": "ray",
    "wait_seconds": "ray",
}


def add_options(parser: argparse.ArgumentParser, count: Callable[[str], int]) -> None:
    """Adds the launchers' options to those of `train`.

    Args:
        parser: of them.
        count: reads a whole number of 1 or more.
    """
    add = parser.add_argument
    add_job_options(parser, count)
    add("--launch", choices=["local", "slurm", "gke", "tpu-vm", "ray"])
    add("--dry-run", action="store_true")
    add("--wait-seconds", type=count)
    for name in ("processes", "devices", "nodes", "slices"):
        add(f"--{name}", type=count)
    for name in ("logs", "manifest"):
        add(f"--{name}", type=Path)
    for name in ("target", "image", "namespace", "queue", "service-account"):
        add(f"--{name}")
    for name in ("cluster", "tpu", "zone", "project"):
        add(f"--{name}")
    add("--mount", action="append", metavar="NAME=VALUE")


def add_job_options(parser: Any, count: Callable[[str], int]) -> None:
    """Adds the options of one process's job, here, on SLURM or on Ray.

    Args:
        parser: of them, or a group of one.
        count: reads a whole number of 1 or more.
    """
    add = parser.add_argument
    add("--job-name")
    add("--restarts", type=lambda text: 0 if text == "0" else count(text), default=0)
    add("--folder", type=Path)
    for name in ("minutes", "gpus", "cpus"):
        add(f"--{name}", type=count)
    for name in ("partition", "ray-address"):
        add(f"--{name}")
    for name in ("env", "sbatch", "resources"):
        add(f"--{name}", action="append", metavar="NAME=VALUE")


def launch(options: argparse.Namespace, overrides: Sequence[str], config: ExperimentConfig) -> int:
    """Starts a run where `--launch` says; returns the exit status.

    Args:
        options: of the command line.
        overrides: of the config's fields.
        config: that they come to.

    Raises:
        ValueError: an option is missing, or the config cannot be.
    """
    # What is wrong with it is said here rather than where it runs, hours later.
    check_fields(config)
    flags = ("deterministic", "reproduce")
    further = [f"--{name}" for name in flags if getattr(options, name)]
    further += [word for one in options.changes or [] for word in ("--changes", json.dumps(one))]
    job = job_of(options, ("train", str(options.config), *overrides, *further), options.launch)
    job = dataclasses.replace(job, processes=options.processes or 1)
    often: dict[str, Any] = {"restarts": options.restarts, "dry_run": options.dry_run}
    match options.launch:
        case "local":
            return local.launch(job, devices=options.devices, **often)
        case "slurm":
            return _slurm(job, options, often)
        case "ray":
            return _ray(job, options, often)
        case "gke":
            return _gke(job, options, config.runs, often)
        case _:
            _check_given(options, "tpu", "zone")
            machines = tpu_vm.Machines(options.tpu, options.zone, options.project)
            return tpu_vm.launch(job, machines, restarts=options.restarts)


def job_of(options: argparse.Namespace, arguments: tuple[str, ...], where: str) -> Job:
    """Returns a job of one process.

    Args:
        options: of the command line.
        arguments: of `yolo-jax`.
        where: it is to run.

    Raises:
        ValueError: an option cannot be.
    """
    own = options.config.stem.replace("_", "-").lower() if where in _NAMED else Job.name
    return Job(
        arguments,
        environment=_pairs("env", options.env or []),
        folder=options.folder or _FOLDERS.get(where, Path.cwd()),
        name=options.job_name or own,
    )


def _slurm(job: Job, options: argparse.Namespace, often: dict[str, Any]) -> int:
    slurm = launcher("slurm", extra="slurm")
    logs = options.logs or job.folder / "runs" / "slurm"
    return slurm.launch(job, slurm_resources(options), logs, **often)


def slurm_resources(options: argparse.Namespace) -> Any:
    """Returns the `slurm.Resources` that the options ask for."""
    wanted = {name: getattr(options, name, None) for name in ("nodes", "minutes", "gpus")}
    return launcher("slurm", extra="slurm").Resources(
        cpus=options.cpus,
        partition=options.partition,
        others=_pairs("sbatch", options.sbatch or []),
        **{name: value for name, value in wanted.items() if value is not None},
    )


def _ray(job: Job, options: argparse.Namespace, often: dict[str, Any]) -> int:
    ray_cluster = launcher("ray_cluster", extra="ray")
    wait = options.wait_seconds or ray_cluster.WAIT_SECONDS
    where = {"address": ray_address(options), "wait_seconds": wait}
    return ray_cluster.launch(job, ray_resources(options), **where, **often)


def ray_address(options: argparse.Namespace) -> str:
    """Returns where the Ray cluster is."""
    return options.ray_address or "auto"


def ray_resources(options: argparse.Namespace) -> dict[str, float]:
    """Returns what a process asks Ray for.

    Raises:
        ValueError: a number is none, or not above 0.
    """
    try:
        asked = _pairs("resources", options.resources or ["CPU=1"])
        resources = {name: float(value) for name, value in asked.items()}
        if not all(0 < value < math.inf for value in resources.values()):
            raise ValueError("expected numbers above 0")
    except ValueError as error:
        raise ValueError(f"--resources takes numbers, as in CPU=8 ({error})") from error
    return resources


def _gke(job: Job, options: argparse.Namespace, runs: Path, often: dict[str, Any]) -> int:
    _check_given(options, "target", "image")
    if options.target.partition(":")[0] in GPUS:
        raise ValueError(f"--launch gke takes slices of TPUs; found --target {options.target}")
    place = slice_of(options.target)
    volumes: dict[str, str] = {}
    for claim, path in (text.split("=", 1) for text in _checked("mount", options.mount or [])):
        if not path.startswith("/") or path in volumes:
            raise ValueError(f"--mount takes CLAIM=/PATH, each path once; found {claim}={path}")
        volumes[path] = claim
    if not any((job.folder / runs).is_relative_to(path) for path in volumes):
        _log.warning(
            "the run folder %s lies in the pods and goes with them, and each has its own: "
            "give --mount CLAIM=PATH of a volume that all of them see, and --runs within it",
            job.folder / runs,
        )
    wanted = {
        "slices": options.slices,
        "namespace": options.namespace,
        "name": options.cluster,
    }
    cluster = gke.Cluster(
        image=options.image,
        queue=options.queue,
        service_account=options.service_account,
        volumes=volumes,
        **{name: value for name, value in wanted.items() if value is not None},
    )
    out = options.manifest or Path(f"{job.name}.yaml")
    return gke.launch(job, place, cluster, out, **often)


def check_options(options: argparse.Namespace) -> None:
    """Checks that the launcher's options are of the one that is asked for, if any.

    Raises:
        ValueError: one is not.
    """
    if options.launch is None:
        for name in ("dry_run", "job_name", "env", "restarts"):
            if getattr(options, name):
                raise ValueError(f"--{name.replace('_', '-')} needs --launch; found no --launch")
    elif options.distributed or options.coordinator is not None:
        raise ValueError("--launch starts the processes itself; leave out --distributed")
    check_taken(options, "launch", options.launch)


def check_taken(options: argparse.Namespace, choice: str, where: str | None) -> None:
    """Checks that options which some launchers alone take are of the one that is asked for.

    Args:
        options: of the command line.
        choice: name of the option that asks for it.
        where: its value.

    Raises:
        ValueError: one is not.
    """
    for name, launchers in _TAKEN_BY.items():
        if getattr(options, name, None) is not None and where not in launchers.split():
            found = f"--{choice} {where}" if where else f"no --{choice}"
            raise ValueError(
                f"--{name.replace('_', '-')} is of --{choice} {launchers.replace(' ', ', ')}; "
                f"found {found}"
            )


def _check_given(options: argparse.Namespace, *names: str) -> None:
    for name in names:
        if getattr(options, name) is None:
            raise ValueError(f"--launch {options.launch} needs --{name}")


def _checked(option: str, texts: Sequence[str]) -> Sequence[str]:
    for text in texts:
        if not re.fullmatch(r"[\w.-]+=.*", text, re.DOTALL):
            raise ValueError(f"--{option} takes NAME=VALUE; found {text!r}")
    return texts


def _pairs(option: str, texts: Sequence[str]) -> dict[str, str]:
    return dict(text.split("=", 1) for text in _checked(option, texts))


def launcher(module: str, *, extra: str) -> Any:
    """Returns a launcher whose library is an extra, and is not there everywhere."""
    return module_of_extra(f"yolo_jax.launch.{module}", extra, f"--launch {extra}")
