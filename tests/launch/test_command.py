"""What the launchers' options may be, and the commands for TPU machines."""

import os
import shlex
import subprocess

import pytest

from yolo_jax import cli
from yolo_jax.launch import tpu_vm
from yolo_jax.launch.job import Job

CONFIG = "experiments/configs/quickstart.py"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--dry-run", "--dry-run needs --launch"),
        ("--launch local --distributed", "--launch starts the processes itself"),
        ("--launch local --batch-size 0 --dry-run", "batch_size is 0"),
        ("--launch gke --image i --target h100:8x1", "--launch gke takes slices of TPUs"),
        (
            "--launch gke --image i --target v5e:2x2 --mount a=/b --mount c=/b",
            "--mount takes CLAIM=/PATH, each path once; found c=/b",
        ),
        ("--launch slurm --sbatch time=5 --dry-run", "--sbatch time has an option of its own"),
        ("--distributed --coordinator here", "are given together"),
        ("--processes 2", "--processes is of --launch local, slurm, ray; found no --launch"),
        ("--launch local --nodes 2", "--nodes is of --launch slurm; found --launch local"),
        ("--launch gke --target v5e:2x2", "--launch gke needs --image"),
        (
            "--launch gke --image i --target v5e:3x3",
            "there is no target 'v5e:3x3'; there are GPUs",
        ),
        ("--launch tpu-vm --tpu t", "--launch tpu-vm needs --zone"),
        ("--launch local --env A", "--env takes NAME=VALUE; found 'A'"),
        ("--launch local --job-name A_b", "the job's name is 'A_b'; expected up to 40 of a-z"),
        ("--launch ray --resources CPU=much", "--resources takes numbers, as in CPU=8"),
        (
            "--launch slurm --processes 3 --nodes 2",
            "--processes 3 do not divide among --nodes 2; give a multiple of the nodes",
        ),
    ],
)
def test_options_that_cannot_be(options, said, capsys):
    assert cli.main(["train", CONFIG, *options.split()]) == 2
    assert said in capsys.readouterr().err


def test_a_dry_run_shows_each_process(capsys):
    where = ["--launch", "local", "--processes", "2", "--devices", "4", "--dry-run"]
    assert cli.main(["train", CONFIG, *where, "--deterministic", "--epochs", "2"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    for number, line in enumerate((first, second)):
        assert "--xla_force_host_platform_device_count=4" in line
        assert f"yolo-jax train {CONFIG} --epochs 2 --deterministic --distributed" in line
        assert line.endswith(f"--num-processes 2 --process-id {number}")


def test_without_slurm_it_says_so(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "/nowhere")
    assert cli.main(["train", CONFIG, "--launch", "slurm"]) == 2
    assert "Submit from a machine of the cluster, or --dry-run" in capsys.readouterr().err


def test_the_commands_for_tpu_machines(capsys):
    where = "--launch tpu-vm --tpu pod --zone us-east1-d --project p --restarts 3"
    assert cli.main(["train", *where.split(), "--env", "A=x y", CONFIG, "--epochs", "3"]) == 0
    printed = capsys.readouterr().out.splitlines()
    commands = {
        what.removeprefix("# "): shlex.split(command)
        for what, command in zip(printed[::2], printed[1::2], strict=True)
    }
    packed = commands.pop("pack what is committed here")
    assert packed == ["git", "archive", "--format=tgz", "-o", "quickstart.tgz", "HEAD"]
    for words in commands.values():
        assert words[:4] == ["gcloud", "compute", "tpus", "tpu-vm"]
        assert words[-2:] == ["--zone=us-east1-d", "--project=p"]
    run = commands["run"]
    assert run[4:7] == ["ssh", "pod", "--worker=all"]
    script = shlex.split(run[7].partition("=")[2])
    loop = script[script.index("-c") + 1]
    typed = f"A='x y' yolo-jax train {CONFIG} --epochs 3 --distributed"
    assert loop.startswith(f"for i in $(seq 4); do {typed}; s=$?; [ $s = 143 ]")
    assert not [words for words in commands.values() if {"create", "delete"} & set(words)]


@pytest.mark.parametrize(
    ("statuses", "expected", "runs"),
    [("0", 0, 1), ("143 143 0", 0, 3), ("143 143 143 143 0", 143, 4), ("143 2 0", 2, 2)],
)
def test_a_tpu_machines_run_goes_on_after_preemptions_alone(statuses, expected, runs, tmp_path):
    """The shell's loop itself, with a stand-in for the command that ends with these statuses."""
    stub = tmp_path / "yolo-jax"
    stub.write_text(
        f"#!/bin/sh\ncd {tmp_path}; echo x >> calls; n=$(wc -l < calls)\n"
        f"set -- {statuses}; shift $((n - 1)); exit $1\n"
    )
    stub.chmod(0o755)
    script = tpu_vm.restarting(Job(("train", CONFIG)), restarts=3)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(["sh", "-c", script], env={"PATH": path}, check=False)
    assert done.returncode == expected
    assert len((tmp_path / "calls").read_text().split()) == runs
