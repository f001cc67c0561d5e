"""`--launch slurm` on a real SLURM of one node, which the test starts: Debian's slurm-wlm."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import submitit
from child_processes import PATIENCE, ended
from submitit.core.utils import cloudpickle_dump
from sweeps import finish, started

from yolo_jax.launch.job import Job, free_port
from yolo_jax.launch.slurm import Resources
from yolo_jax.sweep.run import NotStarted
from yolo_jax.sweep.slurm import QueuedJob, Slurm

CONFIG = Path(__file__).parents[1] / "configs" / "short.py"
_CONF = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=60
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF
"""


def wait_until(is_so: Callable[[], bool], what: str, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        said = log.read_text() if log.exists() else "nothing"
        assert time.monotonic() < deadline, f"{what} did not come; {log} says {said}"
        time.sleep(0.2)


def said_by(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Starts a cluster, and returns the folder of its logs."""
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}{os.pathsep}/usr/sbin")
    if shutil.which("slurmctld") is None or os.geteuid() != 0:
        pytest.skip("needs Debian's slurm-wlm, and root to start it")
    folder = tmp_path / "slurm"
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    host, cpus = socket.gethostname().split(".")[0], max(os.cpu_count() or 1, 2)
    conf = folder / "slurm.conf"
    ports = {"controller": free_port(), "node": free_port()}
    conf.write_text(_CONF.format(host=host, folder=folder, cpus=cpus, **ports))
    monkeypatch.setenv("SLURM_CONF", str(conf))
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    files = [f"--{kind}-file={folder}/munge.{kind}" for kind in ("pid", "log", "seed")]
    munged = ["munged", "--foreground", "--force", f"--key-file={key}", *files]
    commands = [
        [*munged, f"--socket={folder}/munge.socket"],
        ["slurmctld", "-D"],
        ["slurmd", "-D", "-N", host],
    ]
    with ExitStack() as stack:
        for command in commands:
            log = (folder / f"{command[0]}.out").open("w")
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
            stack.enter_context(ended(process))
            time.sleep(1)  # the next one needs it
        stack.callback(said_by, "scancel", "--user=root")
        idle = ["sinfo", "--noheader", "--partition=low", "--format=%t"]
        wait_until(lambda: "idle" in said_by(*idle), "the node", folder / "slurmd.log")
        yield folder


@pytest.mark.slow
def test_a_preempted_run_is_queued_again_and_goes_on(slurm: Path, tmp_path: Path):
    runs, logs = tmp_path / "runs", tmp_path / "logs"
    command = [sys.executable, "-m", "yolo_jax", "train", str(CONFIG), "--runs", str(runs)]
    where = ["--launch", "slurm", "--processes", "2", "--cpus", "1", "--minutes", "60"]
    variables = ["--env", "JAX_PLATFORMS=cpu"]
    submitted = said_by(*command, *where, *variables, "--logs", str(logs))
    job = submitted.split()[1]
    log = logs / f"{job}_0_log.out"
    assert f"job {job} is in the queue" in submitted and str(log) in submitted

    def state() -> str:
        return said_by("scontrol", "show", "job", "--oneliner", job)

    wait_until(lambda: log.exists() and "Epoch 1/4" in log.read_text(), "an epoch", log)
    # One that goes before it, for both cores.
    subprocess.run(["srun", "--partition=high", "--ntasks=2", "true"], check=True, timeout=PATIENCE)
    assert "asked to stop" in log.read_text()
    wait_until(lambda: "JobState=PENDING" in state(), "the queue", log)
    said_by("scontrol", "update", f"jobid={job}", "StartTime=now")  # SLURM's own pause is 2 minutes
    wait_until(lambda: "JobState=COMPLETED" in state(), "the end", log)
    assert "Restarts=1" in state()
    assert f"resumed from {runs / 'short' / 'checkpoints'}" in log.read_text()
    rows = (runs / "short" / "history.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["epoch", "0", "1", "2", "3"]
    assert (runs / "short" / "final.weights").exists()


@pytest.mark.slow
def test_a_cancelled_run_saves_and_stays_away(slurm: Path, tmp_path: Path):
    runs, logs = tmp_path / "runs", tmp_path / "logs"
    command = [sys.executable, "-m", "yolo_jax", "train", str(CONFIG), "--runs", str(runs)]
    variables = ["--env", "JAX_PLATFORMS=cpu"]
    submitted = said_by(*command, "--launch", "slurm", *variables, "--logs", str(logs))
    job = submitted.split()[1]
    log = logs / f"{job}_0_log.out"
    wait_until(lambda: log.exists() and "Epoch 1/4" in log.read_text(), "an epoch", log)
    said_by("scancel", job)
    show = ("scontrol", "show", "job", "--oneliner", job)
    wait_until(lambda: "JobState=CANCELLED" in said_by(*show), "the end", log)
    wait_until(lambda: "asked to stop" in log.read_text(), "the save", log)
    assert "Restarts=0" in said_by(*show)


@pytest.mark.parametrize(
    ("state", "outcome", "status"),
    [
        ("RUNNING", None, None),
        ("COMPLETED", ("success", 0), 0),
        ("CANCELLED", ("success", 143), 143),  # it saved, and ended in time
        ("CANCELLED", None, 143),
        ("FAILED", ("error", "returned non-zero exit status 3."), 3),
        ("OUT_OF_MEMORY", None, 1),
    ],
)
def test_what_became_of_a_job(state, outcome, status, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("yolo_jax.sweep.slurm.state_of", lambda number: state)
    job = submitit.SlurmJob(tmp_path, "7")
    if outcome is not None:
        cloudpickle_dump(outcome, job.paths.result_pickle)
    assert QueuedJob(job, tmp_path / "ticket").status() == status


def test_what_slurm_refuses_and_where_there_is_none(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match=r"no SLURM on this machine \(no srun\)\. Submit from"):
        Slurm(None, Resources(), 0)
    for name, does in {
        "srun": "exit 0",
        "sbatch": "echo the partition is down >&2; exit 1",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    with pytest.raises(NotStarted, match="SLURM did not take the job: the partition is down"):
        Slurm(None, Resources(), 0).start(Job(("train",)), tmp_path / "trial.log")
    assert not (tmp_path / "trial.job.json").exists()
    with pytest.raises(ValueError, match="--sbatch time has an option of its own"):
        Resources(others={"time": "3"})


@pytest.mark.slow
def test_a_sweep_queues_its_trials_and_finds_them_again(slurm: Path, tmp_path: Path):
    log, where = tmp_path / "log", ["--runs", str(tmp_path), "--backend", "slurm", "--cpus", "1"]
    where += ["--env", "JAX_PLATFORMS=cpu"]
    trial = tmp_path / "swept" / "box=ciou,flip=0.5.log"
    with started(log, *where) as sweep:
        wait_until(trial.exists, "a trial", log)
        sweep.kill()
    job = trial.with_name(f"{trial.stem}.job.json").read_text().strip()
    assert job in said_by("squeue", "--noheader", "--format=%i").split()
    status, said = finish(log, *where)
    assert status == 1
    assert "1 done, 1 crashed, 1 diverged" in said
    assert trial.read_text().count("Epoch 4/4") == 1
    assert "resumed from" not in trial.read_text()
