"""Which configs can share a program, and their numbers."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from yolo_jax.config import DataConfig, ExperimentConfig
from yolo_jax.config.flat import with_changes
from yolo_jax.data.augment import Augment
from yolo_jax.experiment.together import train_together
from yolo_jax.experiment.trial_numbers import (
    NUMBERS,
    differing,
    group_trials,
    numbers_of,
    static_fields,
    with_numbers,
)

BASE = ExperimentConfig("base", DataConfig(Path("data.yaml")), augment=Augment(crop=(100, 200)))


def trials(*changes: dict) -> list[ExperimentConfig]:
    return [with_changes(BASE, {"name": f"t{n}", **one}) for n, one in enumerate(changes)]


def test_every_number_is_a_field_of_a_config():
    assert static_fields(BASE).keys() >= NUMBERS


def test_trials_share_a_program_where_only_numbers_differ():
    configs = trials(
        {},
        {"optimizer.learning_rate": 0.1, "loss.box_weight": 3.0},
        {"augment.crop": [50, 150], "augment.flip": 0.0},
        {"loss.box": "ciou"},
        {"loss.box": "ciou", "loss.label_smoothing": 0.1},
        {"augment.crop": None},
    )
    assert group_trials(configs) == [[0, 1, 2], [3, 4], [5]]
    assert differing([configs[0], configs[3]]) == ["loss.box"]
    assert differing([configs[0], configs[5]]) == ["augment.crop"]


def test_seeds_share_a_program_where_the_data_have_an_order_of_their_own():
    assert group_trials(trials({"seed": 1}, {"seed": 2})) == [[0], [1]]
    order = {"data.order_seed": 0}
    assert group_trials(trials({"seed": 1, **order}, {"seed": 2, **order})) == [[0, 1]]
    kmeans = {"network.anchors": "kmeans", **order}
    assert group_trials(trials({"seed": 1, **kmeans}, {"seed": 2, **kmeans})) == [[0], [1]]


def test_anchors_by_kmeans_are_of_one_augmentation():
    kmeans = {"network.anchors": "kmeans"}
    configs = trials(kmeans, {"loss.box_weight": 3.0, **kmeans}, {"augment.flip": 0.1, **kmeans})
    assert group_trials(configs) == [[0, 1], [2]]
    assert differing(configs) == ["augment.flip"]


@pytest.mark.parametrize(
    "change",
    [
        {"augment.multi_scale": [320, 416]},
        {"optimizer.schedule": "plateau"},
        {"early_stopping": 3},
        {"validation_ap_every": 1},
    ],
)
def test_what_looks_at_one_model_keeps_trials_apart(change):
    assert group_trials(trials(change, change)) == [[0], [1]]


def test_numbers_come_and_go_by_field():
    configs = trials({}, {"optimizer.learning_rate": 0.1, "augment.crop": [50, 150]})
    numbers = numbers_of(configs)
    assert numbers.keys() == {"optimizer.learning_rate", "augment.crop"}
    np.testing.assert_array_equal(numbers["augment.crop"], [[100, 200], [50, 150]])
    second = with_numbers(configs[0], {name: values[1] for name, values in numbers.items()})
    assert second.optimizer.learning_rate == np.float32(0.1)
    assert second.augment.crop == (50, 150)
    assert second.loss == BASE.loss


def test_what_cannot_share_a_program_is_refused_by_its_fields(tmp_path):
    configs = [
        dataclasses.replace(config, runs=tmp_path)
        for config in trials({}, {"loss.box": "ciou", "epochs": 3})
    ]
    said = r"t0, t1 differ in epochs, loss\.box, optimizer\.horizon, which one program"
    with pytest.raises(ValueError, match=said):
        train_together(configs)
    assert not list(tmp_path.iterdir())
