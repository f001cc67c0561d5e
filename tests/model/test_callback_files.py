"""What callbacks write: weights, CSV files, TensorBoard's events."""

import csv
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from driven_callbacks import Tiny, drive

from yolo_jax.model.callbacks import (
    CSVLogger,
    ModelCheckpoint,
    TensorBoard,
)
from yolo_jax.training.parallel import Parallel


def test_model_checkpoint_names_files_and_counts_periods(tmp_path: Path, capsys):
    pattern = tmp_path / "made" / "ep{epoch:03d}-loss{loss:.3f}-{val_loss:.2f}.h5"
    list(drive(ModelCheckpoint(pattern, save_weights_only=True, period=2), [3, 2, 1, 0.5, 9]))
    found = {path.name: path.read_text() for path in (tmp_path / "made").iterdir()}
    assert found == {"ep002-loss1.000-2.00.h5": "weights", "ep004-loss1.000-0.50.h5": "weights"}
    best = ModelCheckpoint(tmp_path / "best{epoch}.h5", save_best_only=True, verbose=1)
    list(drive(best, [2, 3, 1, 1, math.nan]))
    assert {path.name for path in tmp_path.glob("best*")} == {"best1.h5", "best3.h5"}
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    assert lines[0].startswith("Epoch 00001: val_loss improved from inf to 2.00000, saving model")
    assert lines[1] == "Epoch 00002: val_loss did not improve from 2.00000"
    with pytest.raises(KeyError, match="names 'mae'; the logs have epoch, loss, val_loss"):
        list(drive(ModelCheckpoint("{mae}.h5"), [1]))


def test_model_checkpoints_best_survives_resuming(tmp_path: Path):
    def make():
        return ModelCheckpoint(tmp_path / "{epoch}", save_best_only=True)

    first, second = make(), make()
    list(drive(first, [2, 1]))
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    list(drive(second, [1.5, 0.5], first=2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2", "4"]


def read(path: Path, **options):
    with path.open(newline="") as file:
        return list(csv.reader(file, **options))


def test_csv_logger_writes_sorted_keys_and_na(tmp_path: Path):
    path = tmp_path / "made" / "log.csv"
    logger, model = CSVLogger(path, separator=";"), Tiny()
    logger.set_model(model)
    logger.on_train_begin()
    logger.on_epoch_end(0, {"mae": 0.5, "loss": 1.0})
    logger.on_epoch_end(1, {"mae": 0.5, "loss": 0.1, "val_loss": 2.0})
    assert read(path, delimiter=";") == [
        ["epoch", "loss", "mae", "val_loss"],
        ["0", "1.0", "0.5", "NA"],
        ["1", "0.1", "0.5", "2.0"],
    ]


@pytest.mark.parametrize("append", [False, True])
def test_csv_logger_is_exact_under_resume(tmp_path: Path, append):
    def fit(path, epochs, first=0, state=None):
        logger = CSVLogger(path, append=append)
        if state is not None:
            logger.load_state_dict(state)
        logger.set_model(Tiny(first))
        logger.on_train_begin()
        states = []
        for epoch in range(first, epochs):
            logger.on_epoch_end(epoch, {"loss": 1 / (epoch + 3)})
            states.append(logger.state_dict())
        return states

    whole, broken = tmp_path / "whole.csv", tmp_path / "broken.csv"
    fit(whole, 4)
    # The checkpoint is that of epoch 1; epoch 2 was written, and the run killed.
    states = fit(broken, 3)
    fit(broken, 4, first=2, state=states[1])
    assert broken.read_bytes() == whole.read_bytes()


def test_csv_logger_appends_or_starts_anew(tmp_path: Path):
    path = tmp_path / "log.csv"
    for append in (False, True, True):
        list(drive(CSVLogger(path, append=append), [1, 2]))
    assert [row[0] for row in read(path)] == ["epoch", "0", "1", "0", "1", "0", "1"]
    list(drive(CSVLogger(path), [1]))
    assert [row[0] for row in read(path)] == ["epoch", "0"]


def test_tensorboard_writes_scalars_and_histograms(tmp_path: Path):
    model = Tiny()
    model.state = SimpleNamespace(params={"dense": {"kernel": np.arange(6.0)}})
    model.parallel = Parallel.over()
    list(drive(TensorBoard(tmp_path / "epochs", histogram_freq=2), [3, 2], model=model))
    (events,) = (tmp_path / "epochs").iterdir()
    for tag in (b"val_loss", b"loss", b"dense/kernel"):
        assert tag in events.read_bytes()
    board = TensorBoard(tmp_path / "batches", update_freq=8)
    board.set_model(model)
    for batch in range(4):
        board.on_train_batch_end(batch, {"batch": batch, "size": 4, "loss": 0.5})
    board.on_epoch_end(0, {"loss": 0.5})
    board.close()
    (events,) = (tmp_path / "batches").iterdir()
    assert events.read_bytes().count(b"loss") == 3
    board.log_after_fit(1, {"held_out_AP50": 0.5})
    written = {
        path.read_bytes().count(b"held_out_AP50") for path in (tmp_path / "batches").iterdir()
    }
    assert written == {0, 1}
    list(drive(TensorBoard(tmp_path / "none"), []))
    assert not (tmp_path / "none").exists()
    with pytest.raises(ValueError, match="write_images is not supported"):
        TensorBoard(write_images=True)
    with pytest.raises(ValueError, match="update_freq is 'epoch'"):
        TensorBoard(update_freq="step")
