"""Checkpoints that are damaged, cut off amid a save, or of another version."""

import json
import shutil
import signal
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from yolo_jax.training.checkpoint import Checkpoints
from yolo_jax.training.checksums import FORMAT

STATE = {"kernel": jnp.arange(5000.0), "bias": jnp.ones(7)}


def folder_of(tmp_path: Path, steps: int) -> Path:
    """Returns a folder of checkpoints; the kernel of each is multiplied by its number."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=5, monitor=None)
    for step in range(1, steps + 1):
        state = jax.tree.map(lambda leaf, step=step: leaf * step, STATE)
        checkpoints.save(step, state, {"epoch": step}, {})
        checkpoints.wait()
    checkpoints.close()
    return tmp_path / "checkpoints"


def restored_step(folder: Path) -> int:
    """Returns the step that a restart goes on from, whose arrays have to be those saved."""
    checkpoints = Checkpoints(folder, monitor=None, read_only=True)
    restored = checkpoints.restore(STATE)
    checkpoints.close()
    assert restored is not None
    np.testing.assert_array_equal(restored.arrays["kernel"], STATE["kernel"] * restored.step)
    assert restored.progress == {"epoch": restored.step}
    return restored.step


def largest_file(checkpoint: Path) -> Path:
    """Returns the file that has the arrays."""
    files = [path for path in checkpoint.rglob("*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


def flip(checkpoint: Path) -> None:
    """Flips one bit in the middle of the arrays."""
    path = largest_file(checkpoint)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(checkpoint: Path) -> None:
    """Cuts the arrays' file in half."""
    path = largest_file(checkpoint)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def lose(checkpoint: Path) -> None:
    """Deletes the file."""
    largest_file(checkpoint).unlink()


def lose_progress(checkpoint: Path) -> None:
    """Deletes what is beside the arrays."""
    next((checkpoint / "progress").iterdir()).unlink()


def lose_checksums(checkpoint: Path) -> None:
    """Deletes the list."""
    (checkpoint / "checksums.json").unlink()


@pytest.mark.parametrize("damage", [flip, truncate, lose, lose_progress, lose_checksums])
def test_the_newest_sound_checkpoint_is_taken(damage, tmp_path: Path, caplog):
    folder = folder_of(tmp_path, 3)
    damage(folder / "3")
    assert restored_step(folder) == 2
    assert f"{folder / '3'} is damaged" in caplog.text
    assert "set aside as 3.damaged; going on from 2" in caplog.text
    assert (folder / "3.damaged").is_dir()  # nothing is deleted
    # The run saves that step again, and goes on from there.
    checkpoints = Checkpoints(folder, keep=2, monitor=None)
    checkpoints.save(3, jax.tree.map(lambda leaf: leaf * 3, STATE), {"epoch": 3}, {})
    checkpoints.close()
    assert restored_step(folder) == 3


def test_one_that_is_saved_anew_replaces_the_other(tmp_path: Path):
    folder = folder_of(tmp_path, 2)
    checkpoints = Checkpoints(folder, monitor=None)
    for made in ("before", "anew"):
        checkpoints.save(2, STATE, {"epoch": made}, {})
        checkpoints.wait()
    assert {path.name for path in folder.iterdir()} == {"1", "2", "2.replaced"}
    checkpoints.close()
    assert {path.name for path in folder.iterdir()} == {"1", "2"}
    restored = Checkpoints(folder, monitor=None, read_only=True).restore(STATE)
    assert restored is not None and restored.progress == {"epoch": "anew"}


def test_where_all_are_damaged_it_says_so(tmp_path: Path):
    folder = folder_of(tmp_path, 2)
    flip(folder / "1")
    truncate(folder / "2")
    with pytest.raises(ValueError, match=r"all checkpoints of .* are damaged \(2: .*; 1: .*"):
        restored_step(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["1", "2"]


@pytest.mark.parametrize("has_sum", [True, False])
def test_a_later_versions_checkpoint_is_refused(has_sum: bool, tmp_path: Path):
    folder = folder_of(tmp_path, 2)
    path = folder / "2" / "checksums.json"
    later = json.loads(path.read_text()) | {"format": FORMAT + 1}
    del later["sum"]
    if has_sum:
        later["sum"] = zlib.crc32(json.dumps([later["format"], later["files"]]).encode())
    path.write_text(json.dumps(later))
    with pytest.raises(ValueError, match=f"has the format {FORMAT + 1}, which a later yolo_jax"):
        restored_step(folder)


# Saves 1, 2, … and is killed at a stage of the save of 3.
_KILLED = """
import os, signal, sys, threading, time
from pathlib import Path
import jax, jax.numpy as jnp
from yolo_jax.training import manager
from yolo_jax.training.checkpoint import Checkpoints

folder, stage = Path(sys.argv[1]), sys.argv[2]
def die():
    os.kill(os.getpid(), signal.SIGKILL)

real = manager._SummedPath.finalize
async def finalize(self):
    if stage == "before commit" and self.get_final().name == "3":
        (Path(self.get()) / "checksums.json").write_text("{}")
        die()
    await real(self)
    if stage == "after commit" and self.get_final().name == "3":
        die()
manager._SummedPath.finalize = finalize

def watch():
    while True:
        if any(p.is_file() for t in folder.glob("3.*tmp*") for p in t.rglob("*")):
            die()

checkpoints = Checkpoints(folder, keep=2, monitor=None)
state = {"kernel": jnp.arange(5000.0), "bias": jnp.ones(7)}
steps = [1, 2, 3, 4]
if stage == "before commit, of one saved anew":
    steps = [1, 2, 3, 3]
for number, step in enumerate(steps):
    if number == 3:
        stage = "before commit"
    if step == 3 and stage == "before":
        die()
    if step == 3 and stage == "amid files":
        threading.Thread(target=watch, daemon=True).start()
    checkpoints.save(step, jax.tree.map(lambda leaf: leaf * step, state), {"epoch": step}, {})
    checkpoints.wait()
"""


@pytest.mark.parametrize(
    ("stage", "left"),
    [
        ("before", {2}),
        ("amid files", {2}),
        ("before commit", {2}),
        ("after commit", {3}),
        ("before commit, of one saved anew", {3}),
    ],
)
def test_killed_at_any_stage_of_a_save_it_loses_nothing(stage: str, left: set, tmp_path: Path):
    command = [sys.executable, "-c", _KILLED, str(tmp_path), stage]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert {restored_step(tmp_path)} == left
    # What the kill left is cleared away by the next run that writes, whose saves go on.
    checkpoints = Checkpoints(tmp_path, keep=2, monitor=None)
    checkpoints.save(9, jax.tree.map(lambda leaf: leaf * 9, STATE), {"epoch": 9}, {})
    checkpoints.close()
    assert restored_step(tmp_path) == 9


@pytest.mark.parametrize(
    ("place", "newest"), [("wait_until_finished", 1), ("_add_checkpoint_info", 2)]
)
def test_a_save_interrupted_before_its_threads_have_it_ends_at_once(
    place: str, newest: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What is written already is whole; what is not leaves the one before."""
    folder = folder_of(tmp_path, steps=1)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    checkpoints = Checkpoints(folder, monitor=None)
    usual = getattr(checkpoints._manager, place)

    def interrupted(*arguments: object) -> object:
        signal.raise_signal(signal.SIGINT)
        return usual(*arguments)

    try:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(checkpoints._manager, place, interrupted)
            checkpoints.save(2, jax.tree.map(lambda leaf: leaf * 2, STATE), {"epoch": 2}, {})
    finally:
        signal.signal(signal.SIGINT, before)
    closing = threading.Thread(target=checkpoints.close, daemon=True)
    closing.start()
    closing.join(timeout=60)
    assert not closing.is_alive(), "it waits for a save that nobody ends"
    assert restored_step(folder) == newest


@pytest.mark.parametrize("harm", [flip, truncate, lose, None])
def test_a_checkpoint_that_was_replaced_is_kept_until_its_heir_is_sound(harm, tmp_path: Path):
    folder = folder_of(tmp_path, steps=1)
    shutil.copytree(folder / "1", folder / "1.replaced")
    if harm is not None:
        harm(folder / "1")
    assert restored_step(folder) == 1
    assert (folder / "1.damaged").exists() == (harm is not None)
    assert not (folder / "1.replaced").exists()
