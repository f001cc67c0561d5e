"""The JobSet of `--launch gke`, against models of the JobSet and Kubernetes schemas."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubeflow_trainer_api.models import JobsetV1alpha2JobSet

from yolo_jax import cli

CONFIG = "experiments/configs/keras_yolo3_two_stage.py"


def written(tmp_path: Path, *options: str) -> dict[str, Any]:
    out = tmp_path / "job.yaml"
    where = ["--launch", "gke", "--image", "registry/yolo:1", "--manifest", str(out)]
    assert cli.main(["train", CONFIG, *where, *options]) == 0
    return yaml.safe_load(out.read_text())


@pytest.mark.parametrize(
    ("target", "accelerator", "hosts", "tpu_type"),
    [
        ("v5e:2x2", "tpu-v5-lite-podslice", 1, "v5litepod-4"),
        ("v5e:16x16", "tpu-v5-lite-podslice", 64, "v5litepod-256"),
        ("v6e:4x8", "tpu-v6e-slice", 8, "v6e-32"),
        ("v5p:4x4x8", "tpu-v5p-slice", 32, "v5p-256"),
        ("v4:2x2x4", "tpu-v4-podslice", 4, "v4-32"),
    ],
)
def test_a_slice_has_its_nodes_and_hosts(
    target, accelerator, hosts, tpu_type, tmp_path: Path, capsys
):
    found = written(tmp_path, "--target", target, "--slices", "2", "--restarts", "7")
    # The models drop what they do not know, and refuse what is missing or of another type.
    model = JobsetV1alpha2JobSet.from_dict(found)
    assert model is not None and model.to_dict() == found
    assert found["metadata"]["name"] == "keras-yolo3-two-stage"
    policy = found["spec"]["failurePolicy"]
    assert policy["maxRestarts"] == 7
    # Its webhook takes no others.
    assert all(re.fullmatch(r"[A-Za-z]([\w,:]*\w)?", rule["name"]) for rule in policy["rules"])
    (replicated,) = found["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    assert (replicated["replicas"], job["parallelism"], job["completions"]) == (2, hosts, hosts)
    pod = job["template"]["spec"]
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": accelerator,
        "cloud.google.com/gke-tpu-topology": target.split(":")[1],
    }
    assert pod["terminationGracePeriodSeconds"] > 30  # in which a run saves
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == {"google.com/tpu": 4}
    assert container["command"] == ["yolo-jax", "train", CONFIG, "--distributed"]
    printed = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert printed[:3] == ["xpk", "workload", "create"]
    assert printed[printed.index("--tpu-type") + 1] == tpu_type
    assert printed[-1].endswith(shlex.join(container["command"]))


def test_what_is_asked_for_is_in_it(tmp_path: Path):
    found = written(
        tmp_path,
        *("--target", "v5e:2x2", "--job-name", "night-run", "--namespace", "vision"),
        *("--queue", "tpus", "--service-account", "trainer", "--env", "A=1", "--env", "B=x y"),
        *("--mount", "claim.1=/data", "--mount", "claim.1=/cache"),
        *("--folder", "/code", "--runs", "/data/runs"),
    )
    assert JobsetV1alpha2JobSet.from_dict(found).to_dict() == found  # pyright: ignore
    assert found["metadata"] == {
        "name": "night-run",
        "namespace": "vision",
        "labels": {"kueue.x-k8s.io/queue-name": "tpus"},
    }
    pod = found["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == "trainer"
    claimed = {"name": "volume-0", "persistentVolumeClaim": {"claimName": "claim.1"}}
    assert pod["volumes"] == [claimed]
    (container,) = pod["containers"]
    # One host needs no others.
    assert container["command"] == ["yolo-jax", "train", CONFIG, "--runs", "/data/runs"]
    assert container["workingDir"] == "/code"
    assert container["env"] == [{"name": "A", "value": "1"}, {"name": "B", "value": "x y"}]
    assert container["volumeMounts"] == [
        {"name": "volume-0", "mountPath": "/data"},
        {"name": "volume-0", "mountPath": "/cache"},
    ]


def test_a_dry_run_writes_nothing(tmp_path: Path, capsys):
    out = tmp_path / "job.yaml"
    where = ["--launch", "gke", "--image", "i", "--target", "v5e:2x2", "--manifest", str(out)]
    assert cli.main(["train", CONFIG, *where, "--dry-run"]) == 0
    assert not out.exists()
    assert "kind: JobSet" in capsys.readouterr().out
