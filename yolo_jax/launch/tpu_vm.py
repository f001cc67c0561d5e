"""TPU machines that are there already: the `gcloud` commands that run a job on all of them."""

import shlex
from dataclasses import dataclass

from yolo_jax.launch.job import Job
from yolo_jax.training.distributed import EXIT_PREEMPTED


@dataclass(frozen=True)
class Machines:
    """TPU machines of one name.

    Attributes:
        name: of the TPU.
        zone: of it.
        project: None for gcloud's own.
    """

    name: str
    zone: str
    project: str | None = None


def launch(job: Job, machines: Machines, *, restarts: int = 0) -> int:
    """Prints the commands that set machines up, run a job on them, watch and stop it; returns 0.

    Args:
        job: to run, in a folder of each machine's; the run folder has to be one that all of them
            see, as `--runs` on a mounted disk or bucket.
        machines: to run it on.
        restarts: times that a run which was preempted goes on, where its machines stay.
    """
    folder, log, packed = shlex.quote(str(job.folder)), f"{job.name}.log", f"{job.name}.tgz"
    # What git has alone: an environment that was made here runs nowhere else.
    python = "$(command -v python3.12 || command -v python3.11 || echo python3)"
    steps = {
        "pack what is committed here": shlex.split(f"git archive --format=tgz -o {packed} HEAD"),
        "copy it to all of them": _gcloud(
            machines, "scp", "--worker=all", packed, f"{machines.name}:{packed}"
        ),
        "set them up (Python 3.11 or newer)": _everywhere(
            machines,
            f"mkdir -p {folder} && tar xzf {packed} -C {folder} && cd {folder} && "
            f"{python} -m venv --clear .venv && .venv/bin/pip install --quiet -e '.[tpu]'",
        ),
        "run": _everywhere(
            machines,
            # In braces: ssh would wait for a shell that was put in the background with it.
            f"cd {folder} && {{ PATH=$PWD/.venv/bin:$PATH nohup sh -c "
            f"{shlex.quote(restarting(job, restarts))} > {log} 2>&1 < /dev/null & }}",
        ),
        "watch": _gcloud(
            machines, "ssh", machines.name, "--worker=0", f"--command=tail -F {folder}/{log}"
        ),
        "stop it, saved": _everywhere(machines, "pkill -TERM -f 'yolo-jax train'"),
    }
    for what, words in steps.items():
        print(f"# {what}")
        print(shlex.join(words))
    return 0


def restarting(job: Job, restarts: int) -> str:
    """Returns the shell's words for a run that goes on after so many preemptions."""
    run = job.shown(["--distributed"])
    if not restarts:
        return run
    return (
        f"for i in $(seq {restarts + 1}); do {run}; s=$?; "
        f"[ $s = {EXIT_PREEMPTED} ] || exit $s; done; exit $s"
    )


def _everywhere(machines: Machines, command: str) -> list[str]:
    return _gcloud(machines, "ssh", machines.name, "--worker=all", f"--command={command}")


def _gcloud(machines: Machines, verb: str, *words: str) -> list[str]:
    place = [f"--zone={machines.zone}"]
    if machines.project:
        place.append(f"--project={machines.project}")
    return ["gcloud", "compute", "tpus", "tpu-vm", verb, *words, *place]
