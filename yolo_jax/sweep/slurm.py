"""A sweep's processes in a SLURM cluster, a job each; a killed sweep finds its jobs again."""

import logging
import re
import subprocess
from pathlib import Path

import submitit
from submitit.core.utils import FailedJobError

from yolo_jax.launch.job import Job
from yolo_jax.launch.slurm import Resources, check_is_here, state_of, submit
from yolo_jax.sweep.run import NotStarted
from yolo_jax.training.distributed import EXIT_PREEMPTED

_log = logging.getLogger(__name__)
_PAUSE_SECONDS = 5.0
# Of a job that is to go on, in SLURM's words.
_UNDER_WAY = {
    "PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "REQUEUED",
    "REQUEUE_HOLD", "REQUEUE_FED", "RESIZING", "SIGNALING", "STAGE_OUT", "SPECIAL_EXIT",
}  # fmt: skip
_STATUS = re.compile(r"non-zero exit status (\d+)")  # as subprocess says it


class QueuedJob:
    """A job that is in the queue, runs, or has run.

    Args:
        job: as submitit has it.
        ticket: file with its number, which goes with its end.
    """

    def __init__(self, job: submitit.SlurmJob, ticket: Path) -> None:
        self._job, self._ticket = job, ticket

    def status(self) -> int | None:
        """Returns the exit status, or None while it waits or runs.

        It is 143 of one that was cancelled, or of which SLURM knows no more.
        """
        result = self._job.paths.result_pickle
        try:
            state = state_of(self._job.job_id)
        except subprocess.CalledProcessError as error:
            _log.warning("SLURM does not say how job %s stands: %s", self._job.job_id, error.stderr)
            return None
        if state in _UNDER_WAY:
            return None
        self._ticket.unlink(missing_ok=True)
        if result.exists() or state == "COMPLETED":
            error = self._job.exception()
            if error is None:
                return self._job.result()  # of one that saved when it was cancelled not 0
            told = _STATUS.search(str(error))
            return int(told[1]) if told else 1
        return 1 if state in ("FAILED", "OUT_OF_MEMORY", "TIMEOUT") else EXIT_PREEMPTED

    def stop(self) -> None:
        """Has the run save and end, and stay away."""
        subprocess.run(["scancel", self._job.job_id], check=False)

    def kill(self) -> None:
        """Ends the run at once."""
        subprocess.run(["scancel", "--signal=KILL", "--full", self._job.job_id], check=False)


class Slurm:
    """A SLURM cluster.

    Args:
        parallel: jobs in its queue at once; None: all.
        resources: of each.
        restarts: times that a job is put in the queue again when its minutes are over.

    Raises:
        ValueError: there is none here.
    """

    def __init__(self, parallel: int | None, resources: Resources, restarts: int) -> None:
        check_is_here()
        self.parallel = parallel
        self.pause = _PAUSE_SECONDS
        self._resources, self._restarts = resources, restarts

    def start(self, job: Job, log: Path) -> QueuedJob:
        """Puts a job in the queue, unless an earlier start of the sweep did, and it is there.

        Raises:
            NotStarted: SLURM refuses it, or does not say whether it is there.
        """
        files, ticket = log.parent / "slurm", log.with_name(f"{log.stem}.job.json")
        try:
            if ticket.is_file():
                number = ticket.read_text(encoding="utf-8").strip()
                if state_of(number) in _UNDER_WAY:
                    return QueuedJob(submitit.SlurmJob(files, number), ticket)
            submitted = submit(
                job, self._resources, files, restarts=self._restarts, log=log.resolve()
            )
        except (FailedJobError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", "") or error
            raise NotStarted(f"SLURM did not take the job: {said}") from error
        ticket.write_text(f"{submitted.job_id}\n", encoding="utf-8")
        return QueuedJob(submitted, ticket)
