"""Runs that are killed end as those that never stopped."""

import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_detector import Stream, make_batches, make_model
from tensorboardX.proto.event_pb2 import Event, SessionLog

from yolo_jax.model.callbacks import TensorBoard

PATIENCE = 200  # s; more than a busy machine takes

# A run with all that has a state of its own, each of which acts in it: no epoch improves upon the
# first, so that the rate falls and the fit stops early. It kills itself where it is told to.
_RUN = """
import json, os, signal, sys
from pathlib import Path
import jax, numpy as np, optax
from small_detector import Stream, flat, make_batches, make_model
from yolo_jax.callbacks import (
    Callback, Checkpoint, CSVLogger, EarlyStopping, ReduceLROnPlateau, TensorBoard,
)

folder, hook, epoch, batch, update_freq = Path(sys.argv[1]), *sys.argv[2:6]
update_freq = int(update_freq) if update_freq.isdecimal() else update_freq

def kill(self, index, logs=None):
    run = self.model.run
    if run.epoch == int(epoch) and (hook == "on_epoch_end" or index == int(batch)):
        if self.wait:
            self.wait.wait()
        os.kill(os.getpid(), signal.SIGKILL)

rate = optax.inject_hyperparams(optax.sgd)(learning_rate=1e-3, momentum=0.9)
schedule = optax.cosine_decay_schedule(1.0, 30)
model = make_model(optax.chain(rate, optax.scale_by_schedule(schedule)), ema_decay=0.9)
saver = Checkpoint(folder / "checkpoints", monitor=None, every_steps=2)
killer = type("Killer", (Callback,), {hook: kill} if hook != "never" else {})()
# Amid an epoch the checkpoints before are whole; at its end a save may be under way.
killer.wait = saver._checkpoints if hook == "on_epoch_end" else None
stopping = EarlyStopping("val_loss", min_delta=1e9, patience=3, restore_best_weights=True)
reducing = ReduceLROnPlateau("val_loss", factor=0.5, patience=1, min_delta=1e9)
history = model.fit(
    Stream(make_batches(40)), validation_data=Stream(make_batches(24, seed=1)),
    epochs=9, verbose=0, resume=folder / "checkpoints",
    callbacks=[
        reducing, stopping, CSVLogger(folder / "log.csv"),
        TensorBoard(folder / "board", update_freq=update_freq), killer, saver,
    ],
)
np.save(folder / "state.npy", flat(model.state))
known = {
    "history": history.history, "epochs": history.epoch, "lr": float(model.optimizer.lr),
    "stopping": [stopping.wait, stopping.stopped_epoch, stopping.best],
    "reducing": [reducing.wait, reducing.cooldown_counter, reducing.best],
}
(folder / "known.json").write_text(json.dumps(known))
"""


def run(
    folder: Path, hook: str = "never", epoch: int = 0, batch: int = 0, update_freq: str = "epoch"
) -> int:
    """Runs it in a process of its own and returns the status."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-c", _RUN, folder, hook, str(epoch), str(batch), update_freq]
    paths = {"PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(
        command, env=os.environ | paths, capture_output=True, text=True, timeout=PATIENCE,
        check=False,
    )  # fmt: skip
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


def events(folder: Path) -> Iterator[Event]:
    """Reads events files in the order of their names, as TensorBoard does.

    The last record of a file may be cut off: its writer was killed.
    """
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        while len(content) >= 12:
            (size,) = struct.unpack("<Q", content[:8])
            if len(content) < 16 + size:
                break
            yield Event.FromString(content[12 : 12 + size])
            content = content[16 + size :]


def shown(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Returns the steps and values of each tag that TensorBoard shows.

    At the start of a session it drops what it has read of that step and later ones (its
    `EventAccumulator._Purge`), of all tags.
    """
    found: dict[str, list[tuple[int, float]]] = {}
    for event in events(folder):
        if event.HasField("session_log") and event.session_log.status == SessionLog.START:
            for tag, points in found.items():
                found[tag] = [point for point in points if point[0] < event.step]
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of a run that nobody killed."""
    folder = tmp_path_factory.mktemp("exact") / "whole"
    assert run(folder) == 0
    known = json.loads((folder / "known.json").read_text())
    # All that has a state has acted.
    assert known["epochs"] == [0, 1, 2, 3] and known["stopping"][:2] == [3, 3]
    assert known["history"]["lr"] == pytest.approx([1e-3, 1e-3, 5e-4, 2.5e-4])
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hook", "epoch", "batch"),
    [
        ("on_train_batch_end", 0, 3),
        ("on_train_batch_end", 2, 3),
        ("on_test_batch_end", 2, 1),
        # Behind what TensorBoard and CSVLogger write, before the checkpoint of that epoch.
        ("on_epoch_end", 0, 0),
        ("on_epoch_end", 2, 0),
    ],
)
def test_killed_anywhere_it_ends_as_if_it_never_was(
    hook: str, epoch: int, batch: int, whole: Path, tmp_path: Path
):
    assert run(tmp_path, hook, epoch, batch) == -signal.SIGKILL
    assert not (tmp_path / "known.json").exists()
    assert run(tmp_path) == 0
    for name in ("state.npy", "known.json", "log.csv"):
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes(), name
    board = shown(whole / "board")
    assert {tag: [step for step, _ in points] for tag, points in board.items()} == {
        tag: [0, 1, 2, 3] for tag in json.loads((whole / "known.json").read_text())["history"]
    }
    assert shown(tmp_path / "board") == board


@pytest.mark.slow
def test_scalars_by_samples_have_no_gaps_and_no_repeats(tmp_path: Path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run(whole, update_freq="16") == 0
    assert run(killed, "on_train_batch_end", 2, 3, update_freq="16") == -signal.SIGKILL
    assert run(killed, update_freq="16") == 0
    steps = [step for step, _ in shown(whole / "board")["loss"]]
    # An epoch is 40 rows; its end writes what its last batch wrote already.
    assert steps == sorted(steps) and set(steps) >= {40, 80, 120, 160}
    assert shown(killed / "board") == shown(whole / "board")


def test_two_fits_within_a_second_keep_both_their_events(tmp_path: Path):
    model = make_model()
    rows = Stream(make_batches(8))
    for epoch in range(3):
        board = TensorBoard(tmp_path)
        model.fit(rows, epochs=epoch + 1, initial_epoch=epoch, verbose=0, callbacks=[board])
    assert [step for step, _ in shown(tmp_path)["loss"]] == [0, 1, 2]
