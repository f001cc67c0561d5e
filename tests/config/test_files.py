"""Configs of files, and of data that come without one."""

import re
from pathlib import Path

import pytest

from yolo_jax.config import DataConfig, config_of, files
from yolo_jax.config.flat import flatten

ROOT = Path(__file__).parents[2]
TREES = ROOT / "experiments" / "data" / "tree_crowns"


def test_data_with_a_split_to_score_on_are_taken_as_they_are_split():
    found = config_of(TREES, ["--weights", "scratch", "--epochs", "3"])
    assert (found.name, found.epochs, found.network.weights) == ("tree_crowns", 3, "scratch")
    assert found.data == DataConfig(
        TREES, TREES, TREES,
        train_split="train", validation_split="validation", held_out_split="held_out",
    )  # fmt: skip


@pytest.mark.parametrize("name", ["train.json", "trees.txt"])
def test_of_data_in_one_part_shares_are_set_apart(name: str, tmp_path: Path):
    path = tmp_path / "orchard" / name
    path.parent.mkdir()
    path.write_text("{}")
    found = config_of(path, [])
    assert found.name == {"train.json": "orchard", "trees.txt": "trees"}[name]
    assert found.data == DataConfig(path)


def test_validation_images_that_are_the_only_others_are_held_out(tmp_path: Path):
    (tmp_path / "data.yaml").write_text("train: train\nval: val\nnames: [ash]\n")
    data = config_of(tmp_path / "data.yaml", []).data
    assert (data.train_split, data.held_out_split) == ("train", "val")
    assert data.validation is None and data.held_out == tmp_path / "data.yaml"


def test_what_is_not_there(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"no config file, and no data, .*nowhere"):
        config_of(tmp_path / "nowhere", [])
    with pytest.raises(FileNotFoundError, match=r"data=x.yaml; the data stand first and alone"):
        config_of(Path("data=x.yaml"), [])


def test_splits_of_other_names_and_data_in_the_place_of_found_ones(tmp_path: Path):
    (tmp_path / "data.yaml").write_text("train: a\nval: b\ntest: c\nnames: [ash]\n")
    path = tmp_path / "data.yaml"
    data = config_of(path, ["--data.held-out", "other.json", "--data.train-split", "val"]).data
    assert data.held_out == Path("other.json") and data.held_out_split is None
    assert (data.train_split, data.validation_split) == ("val", "val")
    # Where none is known, the reader says what there is.
    path.write_text("val: b\ntest: c\nnames: [ash]\n")
    assert config_of(path, []).data.train_split is None


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("tfds:voc/2007", "voc_2007"),
        ("trees/../trees", "trees"),
        ("trees/v1.2", "v1.2"),
        ("trees/_annotations.coco.json", "trees"),
    ],
)
def test_the_names_of_runs_on_data(path: str, name: str, tmp_path: Path, monkeypatch):
    (tmp_path / "trees" / "v1.2").mkdir(parents=True)
    (tmp_path / "trees" / "_annotations.coco.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files, "split_names", lambda path: [])
    assert config_of(Path(path), []).name == name
    monkeypatch.chdir(tmp_path / "trees")
    assert config_of(Path(), []).name == "trees"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("--optimizer.learning-rte 1", "did you mean --optimizer.learning-rate?"),
        ("--loss.bxo giou", "did you mean --loss.box?"),
        ("--epochs 3 --zebra", "there is no field or option --zebra; did you mean --"),
        # As Ultralytics has them.
        ("--imgsz 640", "did you mean --network.input-size?"),
        ("--batch 4", "did you mean --batch-size?"),
        ("imgsz=640 epochs=3", "found 'imgsz=640'; expected fields, as in --network.input-"),
        ("epochs=3", "found 'epochs=3'; expected fields, as in --epochs 3"),
        ("mosaic=0.5", "as in --augment.mosaic 0.5"),
        ("device=0", "found 'device=0'; all local devices share each batch"),
        ("--resume", "found '--resume'; the same command again goes on"),
    ],
)
def test_a_field_that_there_is_not_is_refused_with_the_nearest(given: str, said: str):
    with pytest.raises(ValueError, match=re.escape(said)):
        config_of(ROOT / "experiments" / "configs" / "quickstart.py", given.split())


@pytest.mark.parametrize(
    ("given", "said"), [("--optimizer.kind admm", "'lion'"), ("--epochs many", "--epochs INT")]
)
def test_a_value_of_another_type_is_refused(given: str, said: str, capsys):
    with pytest.raises(SystemExit) as end:
        config_of(ROOT / "experiments" / "configs" / "quickstart.py", given.split())
    assert end.value.code == 2
    assert said in capsys.readouterr().err


def test_every_field_that_is_named_for_ultralytics_exists():
    known = flatten(config_of(TREES, []))
    assert set(files._ULTRALYTICS.values()) <= set(known)
    # What is a field's own name needs no other.
    assert not {*files._ULTRALYTICS, *files._INSTEAD} & {n.rpartition(".")[2] for n in known}


def test_a_short_run_of_data_mixes_images_to_its_end():
    for epochs, mixed in (("3", 3), ("50", 45), ("200", 180)):
        found = config_of(TREES, ["--epochs", epochs])
        assert found.mixed_epochs() == mixed
        assert not found.idle_settings()
    assert not config_of(TREES, ["--augment.mosaic", "0"]).idle_settings()
