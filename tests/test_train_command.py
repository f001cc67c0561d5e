"""`yolo-jax train` as a user runs it: its folder, its end, its resumption after SIGKILL."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from child_processes import ended

from yolo_jax import cli, experiment

CONFIGS = Path(__file__).parent / "configs"
CONFIG = CONFIGS / "short.py"
PATIENCE = 600  # s; more than a busy machine takes


@contextmanager
def started(
    runs: Path, *options: str, config: Path = CONFIG, stderr: int | None = None
) -> Iterator[subprocess.Popen]:
    """Starts a training, of which nothing is left behind when a test ends early."""
    command = [sys.executable, "-m", "yolo_jax", "train", str(config), "--runs", str(runs)]
    # Started in the background, a shell's children ignore Ctrl-C, and theirs would too.
    process = subprocess.Popen(
        ["env", "--default-signal=INT", *command, *options],
        text=True, stdout=subprocess.PIPE, stderr=stderr,
    )  # fmt: skip
    with ended(process):
        yield process


def finish(runs: Path, *options: str, config: Path = CONFIG) -> str:
    with started(runs, *options, config=config) as process:
        output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    return output


def wait_for_save(process: subprocess.Popen, checkpoints: Path, pattern: str = "[0-9]*") -> None:
    """Waits until the training saves or has saved such a thing, or has ended."""
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and not any(checkpoints.glob(pattern)):
        assert time.monotonic() < deadline, f"no {pattern} in {checkpoints}"
        time.sleep(0.002)  # a save in hand lasts but a moment


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    output = finish(runs)
    assert "held-out" in output
    return runs


@pytest.mark.slow
def test_a_run_leaves_what_one_looks_at(finished: Path):
    folder = finished / "short"
    figures = json.loads((folder / "metrics.json").read_text())
    assert 0 <= figures["AP"] <= figures["AP50"] <= 1
    assert set(figures["sources"]) == {"YELL", "OSBS"}
    assert len((folder / "history.csv").read_text().splitlines()) == 5
    for name in ("batch.jpg", "losses.png", "precision_recall.png", "held_out/yell.jpg"):
        assert (folder / name).stat().st_size > 1000, name
    assert list((folder / "tensorboard").iterdir())
    assert list((folder / "checkpoints").iterdir())
    assert json.loads((folder / "config.json").read_text())["network.input_size"] == 64


@pytest.mark.slow
def test_a_complete_run_says_so_and_another_config_is_refused(finished: Path, capsys):
    arguments = ["train", str(CONFIG), "--runs", str(finished)]
    assert cli.main(arguments) == 0
    assert "is complete after 4 epochs" in capsys.readouterr().out
    assert cli.main([*arguments, "--optimizer.learning-rate", "0.5"]) == 2
    assert "optimizer.learning_rate (there 0.001, here 0.5)" in capsys.readouterr().err


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_bitwise_equal(finished: Path, tmp_path: Path):
    """Three SIGKILLs, the last of them amid a save, then the same command to the end."""
    generator = random.Random(7)
    checkpoints = tmp_path / "short" / "checkpoints"
    for kill in range(3):
        amid_save = kill == 2
        with started(tmp_path) as process:
            wait_for_save(process, checkpoints, "*tmp*" if amid_save else "[0-9]*")
            if not amid_save:
                time.sleep(generator.uniform(0, 1.5))
            process.send_signal(signal.SIGKILL)
            process.communicate()
        assert process.returncode == -signal.SIGKILL, "it ended before it was killed"
    finish(tmp_path)
    for name in ("final.weights", "history.csv"):
        assert (tmp_path / "short" / name).read_bytes() == (
            finished / "short" / name
        ).read_bytes(), name


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopped_it_leaves_no_worker_and_no_traceback(number: signal.Signals, tmp_path: Path):
    options = ("--epochs", "40", "--data.workers", "2")
    checkpoints = tmp_path / "short" / "checkpoints"
    with started(tmp_path, *options, stderr=subprocess.PIPE) as process:
        wait_for_save(process, checkpoints)
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 2
        process.send_signal(number)
        output, errors = process.communicate(timeout=60)
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
        return
    status, said = {
        signal.SIGINT: (130, "stopped; what a run had saved stays"),
        signal.SIGTERM: (143, "asked to stop: "),
    }[number]
    assert process.returncode == status, errors
    assert said in errors
    for word in ("Traceback", "leaked", "resource_tracker"):
        assert word not in errors + output


@pytest.mark.slow
def test_two_stages_stopped_in_each_end_as_if_never_stopped(tmp_path: Path):
    """First the heads learn alone, then all; stopped after epochs 1 and 3 it goes on exactly."""
    config = CONFIGS / "short_two_stages.py"
    for runs, stops in (("whole", [4]), ("stopped", [1, 3, 4])):
        for epochs in stops:
            finish(tmp_path / runs, "--epochs", str(epochs), config=config)
    whole, stopped = (tmp_path / runs / "two_stages" for runs in ("whole", "stopped"))
    for name in ("final.weights", "history.csv"):
        assert (whole / name).read_bytes() == (stopped / name).read_bytes(), name
    rows = (whole / "history.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["epoch", "0", "1", "2", "3"]


@pytest.mark.slow
def test_a_finished_run_goes_on_to_more_epochs_by_its_own_schedule(finished: Path, tmp_path: Path):
    runs = tmp_path / "runs"
    shutil.copytree(finished, runs)
    arguments = ["train", str(CONFIG), "--runs", str(runs), "--epochs", "5"]
    assert cli.main([*arguments, "--optimizer.horizon", "5"]) == 2
    assert cli.main(arguments) == 0
    folder = runs / "short"
    rows = (folder / "history.csv").read_text().splitlines()
    assert rows[:5] == (finished / "short" / "history.csv").read_text().splitlines()
    assert len(rows) == 6
    # Past the horizon the cosine's last rate, 0, holds: the weights stay.
    assert json.loads((folder / "metrics.json").read_text())["epochs"] == 5
    assert json.loads((folder / "config.json").read_text())["optimizer.horizon"] == 4


def test_bench_names_what_there_is(capsys):
    assert cli.main(["bench", "nothing"]) == 2
    names = "augment, checkpoint, convolution, data, endurance, infer, loop, loss, nms, packed, "
    assert (
        f"one of {names}quickstart, rehearsal, scaling, second_start, soak, step, together, tpu; "
        "found nothing" in capsys.readouterr().err
    )


def test_bench_runs_where_the_user_stands(tmp_path: Path, monkeypatch, capfd):
    """A folder of the same name there is not taken for the checkout's."""
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)
    assert cli.main(["bench", "packed", "--images", "64"]) == 0
    assert "64 images" in capfd.readouterr().out


def test_a_missing_config_is_refused(capsys, tmp_path: Path):
    assert cli.main(["train", str(tmp_path / "nowhere.py")]) == 2
    assert "there is no config file" in capsys.readouterr().err


def test_sigterm_where_no_fit_is_to_save_is_a_preemption_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.setattr(experiment, "train", lambda *_, **__: signal.raise_signal(signal.SIGTERM))
    assert cli.main(["train", str(CONFIG)]) == 143
    assert "stopped; what a run had saved stays" in capsys.readouterr().err
