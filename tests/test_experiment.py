"""What an experiment refuses before it starts, and what its data may look like."""

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tyro
from PIL import Image

from yolo_jax import cli, experiment
from yolo_jax.config import (
    DataConfig,
    ExperimentConfig,
    NetworkConfig,
    OptimizerConfig,
    load_config,
)
from yolo_jax.core.fields import check_fields
from yolo_jax.data.augment import Augment

pytestmark = pytest.mark.usefixtures("one_device")


def coco(
    folder: Path, name: str, categories: list[str], *, boxes: int = 1, images: int = 2
) -> Path:
    """Writes a COCO JSON of small images, whose source is `all` or `a/b`."""
    records, annotations = [], []
    for number in range(images):
        file = folder / f"{name}_{number}.png"
        pixels = np.random.default_rng(number).integers(0, 255, (40, 50, 3), np.uint8)
        Image.fromarray(pixels).save(file)
        source = ["all", "a/b"][number % 2]
        records.append(
            {"id": number, "file_name": file.name, "width": 50, "height": 40, "source": source}
        )
        for index in range(boxes):
            bbox = [5 + index, 5, 20, 20]
            annotations.append({"image_id": number, "category_id": 1 + index, "bbox": bbox})
    path = folder / f"{name}.json"
    listed = [{"id": 1 + i, "name": name} for i, name in enumerate(categories)]
    content = {"images": records, "annotations": annotations, "categories": listed}
    path.write_text(json.dumps(content))
    return path


def config(folder: Path, **changes: Any) -> ExperimentConfig:
    """Returns a tiny experiment on random images of two classes."""
    data = DataConfig(
        train=coco(folder, "train", ["ash", "oak"], boxes=2),
        validation=coco(folder, "validation", ["ash", "oak"]),
        held_out=coco(folder, "held_out", ["ash"]),
    )
    small = ExperimentConfig(
        name="tiny",
        data=data,
        network=NetworkConfig(input_size=32, weights="scratch"),
        epochs=1,
        batch_size=2,
        runs=folder / "runs",
    )
    return dataclasses.replace(small, **changes)


def test_categories_are_matched_by_name(tmp_path: Path):
    wanted = config(tmp_path)
    coco(tmp_path, "held_out", ["oak", "ash"])  # the first category of the file is oak
    data = experiment.open_data(wanted)
    assert data.held_out.dataset.class_names == ("ash", "oak")
    said = data.counted()
    assert said == "2 images to train on, 2 to validate, 2 held out; 2 classes"
    assert [a.classes.tolist() for a in data.held_out.dataset.annotations] == [[1], [1]]
    assert [a.classes.tolist() for a in data.validation.dataset.annotations] == [[0], [0]]
    coco(tmp_path, "validation", ["elm"])
    with pytest.raises(ValueError, match=r"validation\.json has the classes \['elm'\]"):
        experiment.open_data(wanted)


def test_a_failed_first_start_leaves_no_folder(tmp_path: Path):
    good = config(tmp_path)
    faults = [
        {"data": dataclasses.replace(good.data, validation=tmp_path / "typo.json")},
        {"network": dataclasses.replace(good.network, weights=str(tmp_path / "typo.weights"))},
        {"data": dataclasses.replace(good.data, train=coco(tmp_path, "bare", ["ash"], boxes=0))},
        {"data": dataclasses.replace(good.data, train=coco(tmp_path, "none", [], boxes=0))},
        {"epochs": 0},
        {"name": ""},
        {"name": "../elsewhere"},
        {"track": ("tensorbord",)},
    ]
    for fault in faults:
        with pytest.raises((ValueError, FileNotFoundError)):
            experiment.train(dataclasses.replace(good, **fault))
        assert not good.runs.exists(), fault


@pytest.mark.parametrize(
    "setting",
    [
        "--epochs 0",
        "--epochs -3",
        "--seed -1",
        "--batch-size 0",
        "--steps-per-epoch 0",
        "--keep-checkpoints -1",
        "--score-threshold 1.5",
        "--iou-threshold nan",
        "--data.canvas-size 0",
        "--data.threads 0",
        "--optimizer.learning-rate nan",
        "--optimizer.learning-rate -0.1",
        "--optimizer.ema-decay 2",
        "--optimizer.momentum 1",
        "--optimizer.warmup-steps 21",  # of 20 that are trained
        "--augment.flip 7",
        "--augment.crop -5 10",
        "--augment.crop 200 100",
        "--augment.crop 500 600",  # of a canvas of 400
        "--augment.mosaic-zoom 1 0.5",
        "--name a/b",
        "--freeze-body.epochs -1",
        "--train.accumulate 0",
        "--train.accumulate 5",  # of batches of 4
        "--freeze-body.learning-rate nan",
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_is_loaded(
    setting: str, tmp_path: Path, capsys: pytest.CaptureFixture
):
    file = Path(__file__).parent / "configs" / "short.py"
    assert cli.main(["train", str(file), "--runs", str(tmp_path / "runs"), *setting.split()]) == 2
    field = setting.split()[0].removeprefix("--").replace("-", "_")
    message = capsys.readouterr().err
    assert message.startswith(f"yolo-jax: {field} is "), message
    assert message.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_canvas_that_every_crop_exceeds_is_refused(tmp_path: Path):
    """Of images so small in so much grey no box would be left to learn."""
    wanted = config(tmp_path, augment=Augment(crop=(100, 300)))
    with pytest.raises(ValueError, match=r"augment\.crop is .* canvas of 32 \(network\.input_size"):
        experiment.train(wanted)
    data = dataclasses.replace(wanted.data, canvas_size=99)
    with pytest.raises(ValueError, match=r"canvas of 99 \(data\.canvas_size\).*; set data\.canvas"):
        experiment.train(dataclasses.replace(wanted, data=data))
    check_fields(dataclasses.replace(wanted, data=dataclasses.replace(data, canvas_size=100)))


def test_settings_without_effect_are_told(tmp_path: Path):
    def idle(*changes: str) -> list[str]:
        overrides = " ".join(changes).split()
        return tyro.cli(ExperimentConfig, default=default, args=overrides).idle_settings()

    default = config(tmp_path)
    assert idle() == []
    quickstart = Path(__file__).parents[1] / "experiments" / "configs" / "quickstart.py"
    assert load_config(quickstart).idle_settings() == []
    told = idle("--augment.mosaic-zoom 0.3 0.9 --augment.placed 0.5 --optimizer.plateau-patience 9")
    assert told == [
        "augment.mosaic_zoom has no effect without augment.mosaic",
        "augment.placed has no effect without augment.crop, scale or aspect_jitter",
        "optimizer.plateau_patience has no effect without optimizer.schedule plateau",
    ]
    assert idle("--augment.mosaic-zoom 0.3 0.9 --augment.mosaic 0.1") == []
    assert idle("--optimizer.plateau-patience 9 --optimizer.schedule plateau") == []
    assert idle("--close-mosaic 1") == [
        "close_mosaic has no effect without augment.mosaic, mixup or copy"
    ]
    mixed = ["--augment.mosaic 0.5 --epochs 10 --close-mosaic"]
    assert idle(*mixed, "9") == []
    (never,) = idle(*mixed, "10")
    assert "close_mosaic is 10, which leaves none of the 10 epochs to mix images in" in never


def test_help_needs_no_config(capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["train", "--help"])
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    assert "usage: yolo-jax train CONFIG" in said
    assert "--optimizer.learning-rate FLOAT" in said
    assert cli.main(["train"]) == 2
    message = capsys.readouterr().err
    assert message.startswith(
        "yolo-jax: train needs a config file, or data. CONFIG is a Python file with"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def get_config(:", "SyntaxError"),
        ("x = 1\nimport no_such_package", "line 2: ModuleNotFoundError"),
        ("def get_config():\n    return 1 / 0", "line 2: ZeroDivisionError"),
        ("get_config = 3", "TypeError"),
        ("", r"has no get_config\(\)"),
        ("def get_config():\n    return None", "returned NoneType, not an ExperimentConfig"),
    ],
    ids=str,
)
def test_a_config_that_cannot_be_run_is_told_by_its_line(text: str, message: str, tmp_path: Path):
    file = tmp_path / "mine.py"
    file.write_text(text)
    with pytest.raises(ValueError, match=rf"mine\.py.*{message}"):
        load_config(file)


@pytest.mark.slow
def test_a_damaged_held_out_image_is_left_out_and_named(tmp_path: Path, capsys):
    """And sources may have any name, `all` and `a/b` among them; fewer epochs are refused."""
    wanted = config(tmp_path)
    damaged = tmp_path / "held_out_1.png"
    damaged.write_bytes(damaged.read_bytes()[:80])
    experiment.train(wanted)
    run = wanted.runs / "tiny"
    assert f"{run}: 2 images to train on, " in capsys.readouterr().out
    figures = json.loads((run / "metrics.json").read_text())
    assert list(figures["skipped"]) == [str(damaged)]
    assert list(figures["sources"]) == ["all"]  # the other's only image is the damaged one
    assert sorted(p.name for p in (run / "held_out").iterdir()) == ["all.jpg"]
    assert json.loads((run / "classes.json").read_text()) == ["ash", "oak"]

    # The run is used without the data that it was trained on.
    for file in (*tmp_path.glob("*.json"), *tmp_path.glob("train*.png")):
        file.unlink()
    photo, found = str(tmp_path / "held_out_0.png"), tmp_path / "new" / "found.json"
    capsys.readouterr()
    assert cli.main(["detect", str(run), photo, "--json", str(found), "--conf", "0"]) == 0
    (entry,) = json.loads(found.read_text())
    assert {one["class"] for one in entry["detections"]} <= {"ash", "oak"}
    assert entry["detections"]


@pytest.mark.slow
def test_fewer_epochs_than_are_done_are_refused(tmp_path: Path):
    wanted = config(tmp_path, epochs=2)
    experiment.train(wanted)
    folder = wanted.runs / "tiny"
    (folder / "metrics.json").unlink()  # as if it had been stopped before its end
    with pytest.raises(ValueError, match="has 2 epochs behind it, more than --epochs 1"):
        experiment.train(dataclasses.replace(wanted, epochs=1))
    assert json.loads((folder / "config.json").read_text())["epochs"] == 2


@pytest.mark.slow
def test_what_a_damaged_run_folder_says(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    wanted = config(tmp_path, epochs=2)
    experiment.train(wanted)
    folder = wanted.runs / "tiny"
    longer = dataclasses.replace(wanted, epochs=3)
    newest = max((folder / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))
    history = (folder / "history.csv").read_bytes()

    (folder / "history.csv").write_bytes(history.replace(b"epoch", b"\x00poch"))
    with pytest.raises(ValueError, match=r"history\.csv is damaged"):
        experiment.train(longer)
    (folder / "history.csv").write_bytes(history)

    files = [path for path in newest.rglob("*") if path.is_file() and path.stat().st_size > 1000]
    for path in files:
        path.write_bytes(b"damaged")
    experiment.train(longer)
    said = [
        record.getMessage() for record in caplog.records if "is damaged (" in record.getMessage()
    ]
    assert said[0].startswith(f"the checkpoint {newest} is damaged (")
    assert said[0].endswith("it is set aside as 2.damaged; going on from 1")
    epochs = [line.split(",")[0] for line in (folder / "history.csv").read_text().splitlines()]
    assert epochs == ["epoch", "0", "1", "2"]


@pytest.mark.slow
def test_mixed_images_of_several_sizes_resume_as_if_never_stopped(tmp_path: Path):
    changes: dict[str, Any] = {
        "augment": Augment(mosaic=0.4, mixup=0.2, copy=0.2, multi_scale=(32, 64)),
        "optimizer": OptimizerConfig(horizon=3),
        "close_mosaic": 1,
        "steps_per_epoch": 8,
        "epochs": 3,
    }
    wanted = config(tmp_path, **changes)
    experiment.train(wanted)
    stopped = dataclasses.replace(wanted, runs=tmp_path / "stopped")
    for epochs in (1, 3):
        experiment.train(dataclasses.replace(stopped, epochs=epochs))
    for name in ("final.weights", "history.csv"):
        whole, resumed = (runs / "tiny" / name for runs in (wanted.runs, stopped.runs))
        assert whole.read_bytes() == resumed.read_bytes(), name
    loader = experiment.open_data(wanted).train
    mixes = [batch.mix.any() for batch in itertools.islice(loader.batches(), 24)]
    assert any(mixes[:16])
    assert not any(mixes[16:])


def test_images_that_readers_leave_out_stop_it_before_training(tmp_path: Path):
    """In any of the three sets; a few of a small set do not, and are named."""
    wanted = config(tmp_path)
    for name in ("train", "validation", "held_out"):
        path = coco(tmp_path, name, ["ash", "oak"], boxes=2, images=12)
        for number in range(3):
            (tmp_path / f"{name}_{number}.png").unlink()
        skipped = [loader.skipped for loader in experiment.open_data(wanted)]
        assert [len(one) for one in skipped].count(3) == 1
        (tmp_path / f"{name}_3.png").unlink()
        with pytest.raises(ValueError, match=rf"4 of the 12 images of .*{name}\.json cannot be r"):
            experiment.train(wanted)
        assert not wanted.runs.exists()
        assert path == coco(tmp_path, name, ["ash", "oak"], boxes=2)


@pytest.mark.slow
def test_damaged_held_out_images_cost_no_training(tmp_path: Path, capsys):
    """The error says so, and the same command then only scores."""
    wanted = config(tmp_path)
    wanted = dataclasses.replace(wanted, data=dataclasses.replace(wanted.data, strict=True))
    damaged = tmp_path / "held_out_1.png"
    content = damaged.read_bytes()
    damaged.write_bytes(content[:80])
    with pytest.raises(ValueError, match=r"held_out_1\.png is damaged[\s\S]*Training is done"):
        experiment.train(wanted)
    folder = wanted.runs / "tiny"
    weights, history = (folder / "checkpoints"), (folder / "history.csv").read_bytes()
    before = {path: path.stat().st_mtime_ns for path in weights.rglob("*") if path.is_file()}
    damaged.write_bytes(content)
    experiment.train(wanted)
    assert json.loads((folder / "metrics.json").read_text())["skipped"] == {}
    assert (folder / "history.csv").read_bytes() == history
    after = {path: path.stat().st_mtime_ns for path in weights.rglob("*") if path.is_file()}
    assert before == after
