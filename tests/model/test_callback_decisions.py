"""Callbacks that watch a log key decide as Keras's do, resumed or not."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from driven_callbacks import Tiny, drive

from yolo_jax.model.callbacks import (
    EarlyStopping,
    ModelCheckpoint,
    ReduceLROnPlateau,
)

DECISIONS = json.loads(
    (Path(__file__).parents[1] / "golden" / "keras" / "10_callback_decisions.json").read_text()
)["cases"]


@pytest.mark.parametrize("case", DECISIONS, ids=lambda c: f"{c['callback']}-{c['name']}")
@pytest.mark.filterwarnings("ignore:.*which is not available")
def test_decisions_are_keras_s(case):
    kind = {"EarlyStopping": EarlyStopping, "ReduceLROnPlateau": ReduceLROnPlateau}
    callback, model = kind[case["callback"]](**case["kwargs"]), Tiny()
    rows = case["expected"]["rows"]
    epochs = 0
    for epoch, (logs, rate) in enumerate(
        drive(callback, case["values"], case["monitored_key"], model=model)
    ):
        row = rows[epoch]
        assert rate == pytest.approx(row["lr_used"], rel=1e-8)
        assert model.optimizer.lr == pytest.approx(row["lr_after"], rel=1e-8)
        assert callback.wait == row["wait"]
        assert (callback.best if math.isfinite(callback.best) else None) == row["best"]
        assert model.stop_training == row["stop"]
        assert sorted(logs.keys() - {"loss", case["monitored_key"]}) == row["extra_logs"]
        assert getattr(callback, "cooldown_counter", None) == row.get("cooldown")
        epochs += 1
    assert epochs == len(rows)
    assert model.weights[0].item() == case["expected"]["weight_after_train_end"]
    assert getattr(callback, "stopped_epoch", None) == case["expected"]["stopped_epoch"]


@pytest.mark.parametrize("stop", [1, 4, 8])
@pytest.mark.parametrize(
    "make",
    [
        lambda: EarlyStopping(patience=3, restore_best_weights=True),
        lambda: ReduceLROnPlateau(factor=0.5, patience=2, cooldown=1),
    ],
)
def test_a_resumed_run_decides_as_if_it_had_never_stopped(make, stop):
    values = DECISIONS[3]["values"]
    whole, whole_model = make(), Tiny()
    rates = [rate for _, rate in drive(whole, values, model=whole_model)]
    first, model = make(), Tiny()
    head = [rate for _, rate in drive(first, values[:stop], model=model, end=False)]
    second = make()
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    tail = [rate for _, rate in drive(second, values[stop:], model=model, first=stop)]
    assert head + tail == rates
    assert second.state_dict() == whole.state_dict()
    np.testing.assert_array_equal(model.weights, whole_model.weights)
    # The next fit starts afresh.
    second.on_train_begin()
    assert second.wait == 0
    assert second.best == math.inf


def test_a_missing_monitor_warns_and_an_unknown_mode_falls_back():
    for callback in (EarlyStopping(), ReduceLROnPlateau(), ModelCheckpoint("x", save_best_only=1)):
        with pytest.warns(RuntimeWarning, match="`val_loss` which is not available.*loss"):
            list(drive(callback, [None]))
    with pytest.warns(RuntimeWarning, match="fallback to auto"):
        assert EarlyStopping("val_acc", mode="best").mode == "max"
    with pytest.raises(ValueError, match="factor >= 1.0"):
        ReduceLROnPlateau(factor=1.0)
    with pytest.warns(UserWarning, match="use `min_delta`"):
        assert ReduceLROnPlateau(epsilon=0.5).min_delta == 0.5
