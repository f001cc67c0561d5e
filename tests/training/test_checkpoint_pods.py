"""Saves of two processes of which one fails, or is asked to stop at another time."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from child_processes import ended, wait_for

from yolo_jax.launch.job import free_port
from yolo_jax.training.checksums import verify

PATIENCE = 200  # s; more than a busy machine takes

# Two fits, of which the second has no end. What goes wrong is `full`: the first process's disk
# takes no more; or `late`: the second process gets its SIGTERM amid the save that another's led to.
_PROCESS = """
import logging, resource, signal, sys, time
from pathlib import Path
from pod_worker import Rows, make_model
from yolo_jax.callbacks import Callback, Checkpoint
from yolo_jax.training import distributed

folder, what, address, number = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
distributed.start(address, 2, number)

class Tell(Callback):
    def on_train_batch_end(self, batch, logs=None):
        print(f"step {self.model.run.batches}", flush=True)
        if what == "full" and number == 0 and self.model.run.batches == 3:
            while not (folder / "second" / "2").exists():
                time.sleep(0.01)  # till the save before is whole
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            logging.disable()  # orbax's tracebacks would fill this process's own log
            resource.setrlimit(resource.RLIMIT_FSIZE, (2**15, 2**15))

class Saver(Checkpoint):
    def _end_early(self):
        if what == "late" and number == 1:
            signal.raise_signal(signal.SIGTERM)
        super()._end_early()

model = make_model("small", "pmap", False)
rows = Rows(model.parallel.process)
try:
    model.fit(rows, verbose=0, epochs=1, callbacks=[Checkpoint(folder / "first")])
    print("second fit", flush=True)
    model.fit(
        rows, verbose=0, epochs=1000, callbacks=[Tell(), Saver(folder / "second", every_steps=2)]
    )
except Exception as error:
    print(f"{type(error).__name__}: {error}", flush=True)
    distributed.end_at_once(74)
"""


def pod(folder: Path, what: str) -> list[subprocess.Popen]:
    """Starts both processes; their output goes to files in the folder."""
    address = f"127.0.0.1:{free_port()}"
    paths = {"PYTHONPATH": str(Path(__file__).parent)}
    return [
        subprocess.Popen(
            [sys.executable, "-c", _PROCESS, str(folder), what, address, str(number)],
            env=os.environ | paths, stdout=(folder / f"{number}.log").open("w"),
            stderr=subprocess.STDOUT,
        )
        for number in range(2)
    ]  # fmt: skip


@pytest.mark.slow
def test_where_one_process_cannot_save_all_end_within_a_minute(tmp_path: Path):
    first, second = pod(tmp_path, "full")
    with ended(first), ended(second):
        wait_for("step 4\n", first, tmp_path / "0.log")
        begun = time.monotonic()
        assert first.wait(PATIENCE) == 74, (tmp_path / "0.log").read_text()
        assert second.wait(PATIENCE) != 0
    assert time.monotonic() - begun < 60
    assert "File too large" in (tmp_path / "0.log").read_text()
    # Tensorstore spreads the arrays over files as it finds time, so a save may still have fitted.
    saved = {int(path.name) for path in (tmp_path / "second").glob("[0-9]*") if path.suffix == ""}
    assert 2 in saved or max(saved) > 4  # of which the last two are kept
    for number in saved:
        verify(tmp_path / "second" / str(number))


@pytest.mark.slow
def test_a_sigterm_that_comes_late_to_one_process_does_not_end_its_save(tmp_path: Path):
    first, second = pod(tmp_path, "late")
    with ended(first), ended(second):
        # The first fit's questions to JAX's service count on in the second.
        wait_for("step 1\n", first, tmp_path / "0.log")
        first.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        for number, process in enumerate((first, second)):
            assert process.wait(PATIENCE) == 143, (tmp_path / f"{number}.log").read_text()
    assert time.monotonic() - begun < 30
    assert "asked to stop" in (tmp_path / "0.log").read_text()
    newest = max(int(path.name) for path in (tmp_path / "second").glob("[0-9]*"))
    verify(tmp_path / "second" / str(newest))
