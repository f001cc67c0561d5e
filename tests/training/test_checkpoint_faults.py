"""Checkpoints on a full disk, on one that cannot be written to, damaged, and ended amid a save."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import jax
import numpy as np
import pytest
from child_processes import ended

from yolo_jax.training.checkpoint import Checkpoints
from yolo_jax.training.checksums import CheckpointDamaged, verify

CONFIG = Path(__file__).parents[1] / "configs" / "short.py"
PATIENCE, PAGE = 200, 4096  # s, more than a busy machine takes; bytes
# Of a size that no compression lessens.
STATE = {"kernel": jax.random.normal(jax.random.key(0), (50_000,)), "bias": jax.numpy.ones(7)}
FULL = "No space left on device"


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """Mounts a file system at a folder, or skips the test."""
    folder.mkdir(exist_ok=True)
    if shutil.which("mount") is None:
        pytest.skip("needs the mount command")
    done = subprocess.run(["mount", *options, folder], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"needs the right to mount (root, CAP_SYS_ADMIN): {done.stderr.strip()}")
    try:
        yield folder
    finally:
        # Lazily: a file that a failed save left open does not keep the mount.
        subprocess.run(["umount", "--lazy", folder], check=True)


def tmpfs(folder: Path, size: str):
    """Mounts a disk of a size of its own."""
    return mounted(folder, "-t", "tmpfs", "-o", f"size={size}", "none")


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Lets nobody write to a folder; root heeds no permissions, so a mount has to say it."""
    with mounted(folder, "--bind", str(folder)):
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
        yield


def save(checkpoints: Checkpoints, step: int, made: str = "first") -> None:
    """Saves the kernel multiplied by the number of the checkpoint, and waits."""
    state = jax.tree.map(lambda leaf: leaf * step, STATE)
    checkpoints.save(step, state, {"epoch": step, "made": made}, {})
    checkpoints.wait()


def restored(folder: Path) -> tuple[int, str]:
    """Returns the number of the checkpoint that a restart takes, which has to be as it was."""
    checkpoints = Checkpoints(folder, monitor=None, read_only=True)
    found = checkpoints.restore(STATE)
    checkpoints.close()
    assert found is not None
    np.testing.assert_array_equal(found.arrays["kernel"], STATE["kernel"] * found.step)
    np.testing.assert_array_equal(found.arrays["bias"], STATE["bias"] * found.step)
    assert found.progress["epoch"] == found.step
    return found.step, found.progress["made"]


def contents(folder: Path) -> dict[str, bytes]:
    """Returns the bytes of every file below a folder."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def sound(folder: Path) -> set[int]:
    """Returns the numbers of the checkpoints that a folder shows, all of which have to be whole."""
    found = {int(path.name) for path in folder.iterdir() if path.name.isdecimal()}
    for number in found:
        verify(folder / str(number))
    return found


def fill(disk: Path, left: int) -> Path:
    """Fills a disk but for some bytes; returns the file that does."""
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(max(shutil.disk_usage(disk).free - left, 0)))
    return ballast


def test_where_the_disk_is_full_it_says_so_and_keeps_the_others(tmp_path: Path):
    with tmpfs(tmp_path / "disk", "1m") as disk:
        folder = disk / "checkpoints"
        checkpoints = Checkpoints(folder, keep=9, monitor=None)
        with pytest.raises(OSError, match=FULL) as caught:
            for step in range(1, 9):
                save(checkpoints, step)
        assert str(folder) in str(caught.value) and "\n" not in str(caught.value)
        checkpoints.close()
        assert step > 2 and sound(folder) == set(range(1, step))
        assert restored(folder) == (step - 1, "first")
        subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
        checkpoints = Checkpoints(folder, keep=9, monitor=None)
        save(checkpoints, step)
        checkpoints.close()
        assert restored(folder) == (step, "first")
        assert {path.name for path in folder.iterdir()} == {str(n) for n in sound(folder)}


@pytest.mark.parametrize("anew", [False, True])
def test_a_disk_that_is_full_after_any_page_loses_nothing(anew: bool, tmp_path: Path):
    """Each trial leaves the disk some more pages, so that the save fails at another file."""
    step, trials, failed, lost = 2 if anew else 3, 0, 0, 0
    with tmpfs(tmp_path / "disk", "8m") as disk:
        for left in range(0, 90 * PAGE, 3 * PAGE):
            folder = disk / "checkpoints"
            shutil.rmtree(folder, ignore_errors=True)
            checkpoints = Checkpoints(folder, keep=2, monitor=None)
            for number in (1, 2):
                save(checkpoints, number)
            ballast = fill(disk, left)
            said = ""
            try:
                save(checkpoints, step, "second")
            except OSError as error:
                said = str(error)
            trials, failed = trials + 1, failed + bool(said)
            assert not said or (FULL in said and str(folder) in said), said
            with suppress(OSError):  # of the save that failed
                checkpoints.close()
            expected, found = (2, "first") if said else (step, "second"), restored(folder)
            ballast.unlink()
            again = Checkpoints(folder, keep=2, monitor=None)
            lost += found != expected or restored(folder) != expected
            save(again, step, "third")
            again.close()
            assert restored(folder) == (step, "third")
    print(f"{trials} trials, {failed} saves failed, {lost} checkpoints lost")
    assert lost == 0 and failed > trials // 2 and failed < trials


def test_a_folder_that_cannot_be_written_to_is_left_as_it_is(tmp_path: Path):
    folder = tmp_path / "run" / "checkpoints"
    child(folder, "fit", epochs=2)
    before = contents(folder)
    with read_only(folder.parent):
        done = child(folder, "fit", epochs=4, check=False, patience=60)  # no thread is left waiting
    assert done.returncode == 1
    assert "Read-only file system" in (said := error_of(done)) and str(folder) in said
    assert "batch" not in done.stdout, "it has trained for what it cannot keep"
    assert contents(folder) == before
    assert child(folder, "fit", epochs=4).stdout == "batch 3\nbatch 4\n[0, 1, 2, 3]\n"


def test_every_file_of_the_newest_may_be_damaged(tmp_path: Path, caplog):
    whole = tmp_path / "whole"
    checkpoints = Checkpoints(whole, keep=9, monitor=None)
    for step in (1, 2, 3):
        save(checkpoints, step)
    checkpoints.close()
    generator = random.Random(0)
    names = list(contents(whole / "3"))
    trials, older, lost = 0, 0, 0
    for name in names:
        for damage in ("truncated", "flipped"):
            folder = tmp_path / f"{trials}"
            shutil.copytree(whole, folder)
            path = folder / "3" / name
            content = bytearray(path.read_bytes())
            place = generator.randrange(len(content))
            if damage == "flipped":
                content[place] ^= 1 << generator.randrange(8)
            path.write_bytes(content if damage == "flipped" else content[:place])
            before = {number: contents(folder / str(number)) for number in (1, 2, 3)}
            caplog.clear()
            trials += 1
            try:
                step, _ = restored(folder)
            except Exception:
                lost += 1
                continue
            # What orbax notes beside the arrays is none of the run: there the newest may be taken.
            if path.name not in ("_CHECKPOINT_METADATA", "commit_success.txt"):
                assert step == 2, f"{name} {damage} at {place}"
                # A list that was changed names another file.
                why = "" if name == "checksums.json" else f"{name} is not what was saved"
                assert f"{folder / '3'} is damaged ({why}" in caplog.text
                assert "set aside as 3.damaged; going on from 2" in caplog.text
            older += step == 2
            aside = folder / ("3.damaged" if step == 2 else "3")
            assert contents(aside) == before[3]
            assert all(contents(folder / str(number)) == before[number] for number in (1, 2))
            shutil.rmtree(folder)
    print(f"{trials} trials over {len(names)} files, {older} took the one before, {lost} lost")
    assert lost == 0 and trials == 2 * len(names)


def test_no_flipped_bit_of_the_list_is_taken_for_a_later_version(tmp_path: Path):
    folder = tmp_path / "checkpoints"
    checkpoints = Checkpoints(folder, monitor=None)
    save(checkpoints, 1)
    checkpoints.close()
    content, passed = (path := folder / "1" / "checksums.json").read_bytes(), 0
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            verify(folder / "1")
            passed += 1  # as where a space became a tab
        except CheckpointDamaged:
            pass
    print(f"{8 * len(content)} trials, {passed} of them without effect")
    assert passed < len(content)


# A fit of ten steps at most. Told to be slow it says when it has heard the first SIGTERM, and then
# waits for what never comes: in a callback, or amid the save.
_CHILD = """
import asyncio, ctypes, os, shutil, signal, sys, time
from pathlib import Path
import pod_worker
from yolo_jax.callbacks import Callback, Checkpoint
from yolo_jax.training import manager

folder, what, epochs = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
model = pod_worker.make_model("small", "pmap", False)
saver = Checkpoint(folder, monitor=None, keep=20)

class Slow(Callback):
    def on_train_batch_end(self, batch, logs):
        print("batch", self.model.run.batches, flush=True)
        if what == "full" and self.model.run.batches == 3:
            saver._checkpoints.wait()
            free = shutil.disk_usage(folder).free
            (folder.parent / "ballast").write_bytes(bytes(free - 4096))
            os.kill(os.getpid(), signal.SIGTERM)
        elif what == "unheard" and self.model.run.batches == 3:
            hold_up()  # before any is heard
        elif what in ("callback", "save") and self.model.run.batches == 3:
            while not (folder / "2").is_dir() or not saver._preemption._heard:
                time.sleep(0.01)
            print("heard", flush=True)
            if what == "callback":
                hold_up()

def hold_up():
    # In C code, which no signal interrupts.
    mutex, lock = ctypes.create_string_buffer(64), ctypes.CDLL(None).pthread_mutex_lock
    lock(mutex), lock(mutex)

real = manager._SummedPath.finalize
async def finalize(self):
    if what == "save" and self.get_final().name == "3":
        print("saving", flush=True)
        await asyncio.to_thread(sys.stdin.read)
    if what == "last" and self.get_final().name == str(epochs):
        os.kill(os.getpid(), signal.SIGTERM)
    await real(self)
manager._SummedPath.finalize = finalize

history = model.fit(
    pod_worker.Rows((0, 1)), epochs=epochs, steps_per_epoch=1, verbose=0,
    callbacks=[Slow(), saver], resume=folder,
)
print(history.epoch)
"""


def command(folder: Path, what: str, epochs: int) -> list[str]:
    return [sys.executable, "-c", _CHILD, str(folder), what, str(epochs)]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(__file__).parent)}


def child(
    folder: Path, what: str, epochs: int = 0, *, check: bool = True, patience: int = PATIENCE
) -> subprocess.CompletedProcess:
    """Runs the script above to its end."""
    done = subprocess.run(
        command(folder, what, epochs), env=environment(), capture_output=True, text=True,
        timeout=patience, check=False,
    )  # fmt: skip
    assert not check or done.returncode == 0, done.stderr
    return done


def error_of(done: subprocess.CompletedProcess) -> str:
    """Returns the one line that says why a process failed, and that no log of threads buries."""
    assert "ERROR" not in done.stderr, done.stderr
    begin = ("OSError:", "yolo-jax:")
    return [line for line in done.stderr.splitlines() if line.startswith(begin)][-1]


def test_a_fit_whose_disk_is_full_ends_with_one_line_that_says_so(tmp_path: Path):
    with tmpfs(tmp_path / "disk", "1m") as disk:
        folder = disk / "checkpoints"
        done = child(folder, "fit", epochs=10, check=False)
        assert done.returncode == 1
        assert FULL in (said := error_of(done)) and str(folder) in said
        newest = max(sound(folder))
        subprocess.run(["mount", "-o", "remount,size=16m", disk], check=True)
        done = child(folder, "fit", epochs=10)
        assert done.stdout.startswith(f"batch {newest + 1}\n") and newest >= 2
        assert str(list(range(10))) in done.stdout


def test_a_stop_that_cannot_be_saved_is_not_told_of_as_one_that_is(tmp_path: Path):
    with tmpfs(tmp_path / "disk", "8m") as disk:
        folder = disk / "checkpoints"
        done = child(folder, "full", epochs=6, check=False)
        assert done.returncode == 1, done.stderr
        assert FULL in (said := error_of(done)) and str(folder) in said
        assert "keeps the run" not in done.stderr
        assert sound(folder) == {1, 2}


@pytest.mark.parametrize(
    ("what", "sign"), [("callback", "heard"), ("save", "saving"), ("unheard", "")]
)
def test_a_second_sigterm_ends_it_at_once(what: str, sign: str, tmp_path: Path):
    process = subprocess.Popen(
        command(tmp_path, what, 6), env=environment(), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    with ended(process):
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert "batch 3\n" in lines  # reads up to there
        for _ in range(2):  # at the same moment, as by `timeout`: they are one
            process.send_signal(signal.SIGTERM)
        assert what == "unheard" or f"{sign}\n" in lines
        time.sleep(1)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        # What it waits for will never come.
        assert process.wait(20) == 128 + signal.SIGTERM
    assert sound(tmp_path) == {1, 2}
    done = child(tmp_path, "fit", epochs=6)
    assert done.stdout.startswith("batch 3\n") and str(list(range(6))) in done.stdout
    assert sound(tmp_path) == set(range(1, 7))


def test_a_sigterm_amid_the_last_save_is_obeyed_behind_it(tmp_path: Path):
    done = child(tmp_path, "last", epochs=3, check=False)
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    assert sound(tmp_path) == {1, 2, 3}
    assert str([0, 1, 2]) in child(tmp_path, "fit", epochs=3).stdout


@pytest.mark.slow
def test_the_command_says_in_one_line_that_the_disk_is_full(tmp_path: Path):
    with tmpfs(tmp_path / "disk", "160m") as disk:
        done = subprocess.run(
            [sys.executable, "-m", "yolo_jax", "train", str(CONFIG), "--runs", str(disk)],
            env=environment(), capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert done.returncode == 74, done.stderr
        folder = disk / "short" / "checkpoints"
        assert FULL in (said := error_of(done)) and str(folder) in said and sound(folder)
