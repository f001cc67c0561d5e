"""A SLURM cluster, by submitit: a task a process, in the queue again after a preemption."""

import contextlib
import functools
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import submitit

from yolo_jax.launch.job import Job
from yolo_jax.training.distributed import EXIT_PREEMPTED

# Before the end of a job's time, or of its machine, in which a run saves and ends.
_NOTICE_SECONDS = 90
# Of sbatch, which `Resources` has by name.
_OWN = {"nodes", "ntasks-per-node", "time", "cpus-per-task", "gpus-per-node", "partition"}


@dataclass(frozen=True)
class Resources:
    """What a job asks SLURM for.

    Attributes:
        nodes: that its processes are spread over.
        minutes: after which SLURM ends it.
        gpus: of each process; 0: none are asked for.
        cpus: of each process; None: as the cluster has it.
        partition: of the cluster; None: its default.
        others: options of sbatch, such as {"account": "vision"}.

    Raises:
        ValueError: one of the others is one of these.
    """

    nodes: int = 1
    minutes: int = 24 * 60
    gpus: int = 0
    cpus: int | None = None
    partition: str | None = None
    others: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in sorted(_OWN & self.others.keys()):
            raise ValueError(f"--sbatch {name} has an option of its own: see yolo-jax train --help")


class Task:
    """A process of the run, as submitit starts it on its node.

    Args:
        job: whose process it is.
        gpus: of the process.
        log: file that what it prints is added to; None: SLURM's own.
    """

    def __init__(self, job: Job, gpus: int, log: Path | None = None) -> None:
        self._job, self._gpus, self._log = job, gpus, log
        self._child: subprocess.Popen | None = None

    def __call__(self) -> int:
        """Runs to the end; returns the exit status: 0, or that of one which was cancelled.

        Raises:
            subprocess.CalledProcessError: it ended with another status.
        """
        # The processes find each other by SLURM's variables, by which JAX takes one GPU for each.
        command = self._job.command(["--distributed"] if self._job.processes > 1 else [])
        environment = os.environ | dict(self._job.environment)
        if self._gpus:
            first = int(os.environ["SLURM_LOCALID"]) * self._gpus
            own = range(first, first + self._gpus)
            environment["JAX_LOCAL_DEVICE_IDS"] = ",".join(map(str, own))
        # SLURM's notice goes to all processes of a task, and would end this one unsaved.
        deaf = functools.partial(signal.signal, signal.SIGUSR2, signal.SIG_IGN)
        with contextlib.ExitStack() as stack:
            out = None if self._log is None else stack.enter_context(self._log.open("ab"))
            self._child = subprocess.Popen(
                command, cwd=self._job.folder, env=environment, preexec_fn=deaf,
                stdout=out, stderr=out,
            )  # fmt: skip
        status = self._child.wait()
        if status == EXIT_PREEMPTED:
            # SLURM forgets a job that ends by itself before its grace is over, and puts none but
            # those that it had to kill in the queue again. submitit does, on this signal.
            if os.environ["SLURM_PROCID"] == "0" and _is_running(os.environ["SLURM_JOB_ID"]):
                signal.raise_signal(signal.SIGUSR2)
        elif status:
            raise subprocess.CalledProcessError(status, command)
        return status

    def checkpoint(self) -> Any:
        """Has the run save and end; returns what is put in the queue again.

        submitit calls it on SLURM's notice, in the first task alone; the run tells the others.
        """
        if self._child is not None:
            self._child.send_signal(signal.SIGTERM)
            # `__call__` waits for it too, and would keep `Popen.wait` from seeing the end here.
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOWAIT)
        return submitit.helpers.DelayedSubmission(Task(self._job, self._gpus, self._log))


def _is_running(job: str) -> bool:
    """Tells whether a job is to go on: nobody has cancelled it."""
    return state_of(job) == "RUNNING"


def state_of(job: str) -> str | None:
    """Returns a job's state in SLURM's words, or None of one that it has forgotten.

    It forgets a job some minutes after its end (MinJobAge).

    Raises:
        subprocess.CalledProcessError: SLURM does not answer.
    """
    show = ["scontrol", "show", "job", "--oneliner", job]
    done = subprocess.run(show, capture_output=True, text=True, check=False)
    if "Invalid job id" not in done.stderr:
        done.check_returncode()
    words = [word for word in done.stdout.split() if word.startswith("JobState=")]
    return words[0].removeprefix("JobState=") if words else None


def launch(
    job: Job, resources: Resources, logs: Path, *, restarts: int = 0, dry_run: bool = False
) -> int:
    """Puts a job into SLURM's queue; returns 0.

    Args:
        job: to run, in a folder that all nodes see.
        resources: that it gets.
        logs: folder for what its processes print; all nodes see it too.
        restarts: times that it is put in the queue again when its minutes are over. After a
            preemption it always is, unless in its last fifth or ten minutes, which submitit takes
            for its end.
        dry_run: print what would be asked for.

    Raises:
        ValueError: the processes do not divide among the nodes, or there is no SLURM here.
    """
    asked = _asked(job, resources)
    if dry_run:
        print("submitit.SlurmExecutor, with " + ", ".join(f"{k}={v!r}" for k, v in asked.items()))
        print(f"each task: {job.shown(['--distributed'] if job.processes > 1 else [])}")
        return 0
    submitted = submit(job, resources, logs, restarts=restarts)
    print(f"job {submitted.job_id} is in the queue; its processes print to {logs}:")
    for number in range(job.processes):
        print(f"  {submitted.paths.folder / f'{submitted.job_id}_{number}_log.out'}")
    return 0


def submit(
    job: Job, resources: Resources, logs: Path, *, restarts: int = 0, log: Path | None = None
) -> submitit.SlurmJob:
    """Puts a job into SLURM's queue, and returns it.

    Args:
        job: to run, in a folder that all nodes see.
        resources: that it gets.
        logs: folder of submitit's files.
        restarts: see `launch`.
        log: file that what its process prints is added to; None: SLURM's own.

    Raises:
        ValueError: see `launch`.
        submitit.core.utils.FailedJobError: SLURM refuses the job.
    """
    asked = _asked(job, resources)
    check_is_here()
    executor = submitit.SlurmExecutor(logs, max_num_timeout=restarts)
    executor.update_parameters(**asked)
    return cast(submitit.SlurmJob, executor.submit(Task(job, resources.gpus, log)))


def check_is_here() -> None:
    """Checks that this machine is of a SLURM cluster.

    Raises:
        ValueError: it is not.
    """
    if shutil.which("srun") is None:
        raise ValueError(
            "there is no SLURM on this machine (no srun). Submit from a machine of the cluster, or "
            "--dry-run"
        )


def _asked(job: Job, resources: Resources) -> dict[str, Any]:
    """Returns what is asked of SLURM, as submitit has it."""
    per_node, rest = divmod(job.processes, resources.nodes)
    if rest or not per_node:
        raise ValueError(
            f"--processes {job.processes} do not divide among --nodes {resources.nodes}; give a "
            "multiple of the nodes"
        )
    asked = {
        "job_name": job.name,
        "nodes": resources.nodes,
        "ntasks_per_node": per_node,
        "time": resources.minutes,
        "cpus_per_task": resources.cpus,
        "gpus_per_node": resources.gpus * per_node or None,
        "partition": resources.partition,
        "signal_delay_s": _NOTICE_SECONDS,
        "stderr_to_stdout": True,
        "additional_parameters": {"requeue": True, **resources.others},
    }
    return {name: value for name, value in asked.items() if value is not None}
