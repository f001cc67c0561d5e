"""What an experiment may vary, through a run's whole length."""

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from test_experiment import coco, config

from yolo_jax import experiment
from yolo_jax.config import (
    FreezeBodyConfig,
    LossConfig,
    NetworkConfig,
    OptimizerConfig,
    TrainConfig,
)
from yolo_jax.core.anchors import TINY, TINY_DARKNET
from yolo_jax.core.types import Annotation, Dataset
from yolo_jax.data.augment import Augment
from yolo_jax.networks.darknet import load_weights
from yolo_jax.networks.yolov3 import create_network
from yolo_jax.use.opening import open_detector

pytestmark = pytest.mark.usefixtures("one_device")


def test_a_run_of_other_forms_and_its_own_anchors(tmp_path: Path):
    train = coco(tmp_path, "train", ["ash", "oak"], boxes=2)
    content = json.loads(train.read_text())
    for index, one in enumerate(content["annotations"]):
        one["bbox"][2:] = [6 + 3 * (index % 6), 8 + 2 * (index % 5)]
    more = [
        one | {"bbox": [1, 2, 5 + 4 * index, 30 - 3 * index]}
        for index, one in enumerate(content["annotations"][:1] * 7)
    ]
    content["annotations"] += more
    wanted = config(
        tmp_path,
        network=NetworkConfig(input_size=32, weights="scratch", anchors="kmeans"),
        loss=LossConfig(
            box="ciou", objectness="iou", classification="focal", label_smoothing=0.1,
            ignore_scope="all", match_iou=0.3, box_weight=0.5,
        ),
        optimizer=OptimizerConfig(kind="lion", schedule="step", weight_decay=1e-3, ema_decay=0.9),
        train=TrainConfig(batch_norm="frozen"),
    )  # fmt: skip
    train.write_text(json.dumps(content))
    experiment.train(wanted)
    run = tmp_path / "runs" / "tiny"

    # Frozen: statistics, scales and shifts are those that the network started with.
    begun, ended = create_network("tiny", 2), create_network("tiny", 2)
    load_weights(run / "final.weights", ended)
    for old, new in zip(begun.convolutions(), ended.convolutions(), strict=True):
        *norms, kernel = zip(old.darknet_parts(), new.darknet_parts(), strict=True)
        assert not np.array_equal(*(part[...] for part in kernel))
        if len(norms) == 4:
            assert all(np.array_equal(a[...], b[...]) for a, b in norms)

    # The run's own anchors: those of its boxes, and what uses the run has them.
    anchors = open_detector(run).anchors
    assert anchors == experiment.choose_anchors(wanted, experiment.open_data(wanted).train.dataset)
    # The smallest is used too.
    assert anchors.masks == TINY_DARKNET.masks and anchors.sizes != TINY.sizes
    header = (run / "history.csv").read_text().splitlines()[0]
    assert "iou_loss" in header and "xy_loss" not in header

    # Gone on with, it keeps them, whatever k-means would find now; so do weights to start with.
    content["annotations"][-1]["bbox"] = [0, 0, 31, 9]
    train.write_text(json.dumps(content))
    experiment.train(dataclasses.replace(wanted, epochs=2))
    assert open_detector(run).anchors == anchors
    network = NetworkConfig(input_size=32, weights=str(run / "final.weights"))
    tuned = experiment.pretrained_network(dataclasses.replace(wanted, network=network), 2)
    load_weights(run / "final.weights", ended)
    for old, new in zip(ended.convolutions(), tuned.convolutions(), strict=True):
        np.testing.assert_array_equal(old.kernel[...], new.kernel[...])


SIZES = [(24, 40), (60, 30), (80, 70), (20, 15), (30, 150), (150, 200)]  # px of the input
WHOLE = {"min_area": 1.0}  # boxes that are cut off go


@pytest.mark.parametrize(
    ("augment", "count", "zooms"),
    [
        (Augment(), 6, [1]),
        (Augment(scale=(0.75, 0.75)), 6, [0.75]),
        (Augment(scale=(0.5, 0.5), placed=0.5), 3, [1, 0.5]),
        (Augment(crop=(200, 200), placed=0.4, **WHOLE), 3, [1, 2]),
        (Augment(mosaic=0.5, mosaic_zoom=(0.8, 0.8), **WHOLE), 3, [1, 0.8]),
        (Augment(crop=(200, 200), mosaic=0.6, mosaic_zoom=(0.8, 0.8), **WHOLE), 3, [2, 1.6]),
        (Augment(quarter_turns=True, copy=0.5), 3, [1]),
    ],
    ids=["whole", "scale", "some scaled", "some cropped", "mosaics", "crops and mosaics", "turns"],
)
def test_anchors_are_of_boxes_as_the_network_sees_them(augment, count, zooms, tmp_path: Path):
    sizes = np.asarray(SIZES[:count], np.float32)
    listed = [
        Annotation(
            index, Path("x.jpg"), 800, 800,
            np.float32([[400, 400, *(400 + 2 * sizes[index % count])]]),
            np.zeros(1, np.int32), np.zeros(1, bool),
        )
        for index in range(120)
    ]  # fmt: skip
    wanted = config(
        tmp_path, network=NetworkConfig(input_size=400, anchors="kmeans"), augment=augment
    )
    dataset = Dataset(listed, ("ash",))
    found = experiment.choose_anchors(wanted, dataset)
    seen = [sizes * zoom for zoom in zooms]
    if augment.quarter_turns:
        seen.append(sizes[:, ::-1])
    seen = np.concatenate(seen)
    np.testing.assert_allclose(sorted(found.sizes), sorted(map(tuple, seen)), rtol=1e-4)
    usual = dataclasses.replace(wanted, network=NetworkConfig())
    assert experiment.choose_anchors(usual, dataset) == TINY


@pytest.mark.parametrize(("augment", "told"), [(Augment(), True), (Augment(crop=(99, 99)), False)])
def test_it_is_told_which_share_of_the_boxes_no_scale_of_tiny_learns(
    augment: Augment, told: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """Anchor 0 has 10×14 px, and is of no scale."""
    corners = np.float32([[0, 0, 22, 26], [0, 0, 24, 28], [0, 0, 70, 70], [0, 0, 99, 99]])
    one = Annotation(1, Path("x.jpg"), 800, 800, corners, np.zeros(4, np.int32), np.zeros(4, bool))
    wanted = config(tmp_path, network=NetworkConfig(input_size=416), augment=augment)
    assert experiment.choose_anchors(wanted, Dataset([one], ("ash",))) == TINY
    assert ("50% of the boxes teach nothing" in caplog.text) == told


def test_a_frozen_network_is_as_in_evaluation():
    usual, frozen = (create_network("tiny", 1, frozen_batch_norm=f) for f in (False, True))
    image = jnp.asarray(np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3), np.uint8))
    usual.eval()
    for ours, theirs in zip(nnx.jit(frozen)(image), nnx.jit(usual)(image), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    stats = jax.tree.leaves(nnx.state(frozen, nnx.BatchStat))
    assert all(set(np.unique(stat)) <= {0.0, 1.0} for stat in stats)


@pytest.mark.slow
def test_a_run_whose_validation_loss_stands_still_slows_down_and_ends(tmp_path: Path, capsys):
    """At so small a rate no weight moves; ended before it was scored it trains no further."""
    wanted = config(
        tmp_path,
        train=TrainConfig(batch_norm="frozen"),
        optimizer=OptimizerConfig(
            learning_rate=1e-20, schedule="plateau", plateau_factor=0.5, plateau_patience=1
        ),
        epochs=9,
        early_stopping=2,
    )
    folder = tmp_path / "runs" / "tiny"
    histories = []
    for _ in range(2):
        experiment.train(wanted)
        with (folder / "history.csv").open() as file:
            histories.append(list(csv.DictReader(file)))
        figures = json.loads((folder / "metrics.json").read_text())
        assert (figures["epochs"], figures["stopped_early"]) == (3, True)
        (folder / "metrics.json").rename(tmp_path / "metrics.json")
    assert histories[0] == histories[1]
    assert [float(row["lr"]) for row in histories[0]] == pytest.approx([1e-20, 1e-20, 5e-21])
    assert len({row["val_loss"] for row in histories[0]}) == 1
    (tmp_path / "metrics.json").rename(folder / "metrics.json")
    experiment.train(dataclasses.replace(wanted, epochs=20))
    assert "is complete after 3 epochs: it stopped early" in capsys.readouterr().out


@pytest.mark.slow
def test_both_stages_and_a_resumed_run_are_one_run_of_a_tracker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    mlflow: Any = pytest.importorskip("mlflow")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    horizon = OptimizerConfig(horizon=3)
    freeze = FreezeBodyConfig(epochs=1)
    wanted = config(tmp_path, track=("mlflow",), epochs=2, freeze_body=freeze, optimizer=horizon)
    experiment.train(wanted)
    assert not (wanted.runs / "tiny" / "tensorboard").exists()
    tracked = ("mlflow", "tensorboard")
    experiment.train(dataclasses.replace(wanted, epochs=3, track=tracked))
    events = list((wanted.runs / "tiny" / "tensorboard").iterdir())
    assert any(b"held_out_AP50" in file.read_bytes() for file in events)
    client = mlflow.MlflowClient(tracking_uri=uri)
    (run,) = client.search_runs([client.get_experiment_by_name("yolo_jax").experiment_id])
    assert (run.info.run_name, run.info.status) == ("tiny", "FINISHED")
    assert run.data.params["network.input_size"] == "32"
    steps = [one.step for one in client.get_metric_history(run.info.run_id, "val_loss")]
    assert sorted(steps) == [0, 1, 2]
    figures = json.loads((wanted.runs / "tiny" / "metrics.json").read_text())
    last = client.get_metric_history(run.info.run_id, "held_out_AP")
    assert [one.step for one in last] == [2, 3]  # after either start
    assert last[-1].value == figures["AP"]
