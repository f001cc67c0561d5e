"""`yolo-jax evaluate`, of a run whose weights are drawn and whose true boxes it finds in part."""

import contextlib
import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from flax import nnx
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from yolo_jax import cli
from yolo_jax.config import DataConfig, ExperimentConfig, NetworkConfig
from yolo_jax.core.json_files import save_json
from yolo_jax.data.images import ImageError
from yolo_jax.detection.detector import Detector
from yolo_jax.detection.nms import Suppression
from yolo_jax.evaluate import FIGURES, PER_CLASS, evaluate
from yolo_jax.experiment.data import open_data
from yolo_jax.networks.darknet import save_weights
from yolo_jax.networks.yolov3 import NETWORKS, TinyYOLOv3
from yolo_jax.run_folder import RunFolder
from yolo_jax.score import score_held_out

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_device")]
NAMES, IDS = ("ash", "oak"), (-3, 7)
SHAPES = [(40, 50), (32, 32), (64, 30), (50, 50), (33, 60)]
SIZE = 64


class Trained(NamedTuple):
    """A run, and its held-out images."""

    path: Path
    data: Path
    figures: dict[str, Any]


def annotated(detector: Detector, folder: Path) -> Path:
    """Writes images, and as true boxes some that are found: as they are, moved, as a crowd."""
    generator = np.random.default_rng(0)
    pixels = [generator.integers(0, 256, (*shape, 3), np.uint8) for shape in SHAPES]
    images, annotations = [], []
    for number, (image, found) in enumerate(zip(pixels, detector.detect(pixels), strict=True)):
        Image.fromarray(image).save(folder / f"{number}.png")
        height, width = image.shape[:2]
        images.append(
            {"id": 100 - number, "file_name": f"{number}.png", "source": "ab"[number % 2]}
        )
        images[-1] |= {"width": width, "height": height}
        for place in range(0, len(found.scores) * (number != 3), 6):  # one image is without boxes
            x1, y1, x2, y2 = found.boxes[place].tolist()
            x1 += (x2 - x1) * (0.1 * (place % 4) + 0.001 * place)  # no two the same
            record = {"id": len(annotations) + 1, "image_id": 100 - number}
            record |= {"category_id": IDS[int(found.classes[place])], "iscrowd": int(place == 12)}
            record |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1) / 2}
            annotations.append(record)
    categories = [{"id": i, "name": n} for i, n in zip(IDS[::-1], NAMES[::-1], strict=True)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path = folder / "trees.json"
    path.write_text(json.dumps(content))
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("evaluated")
    with jax.default_device(jax.devices()[0]):
        network, anchors = TinyYOLOv3(len(NAMES), rngs=nnx.Rngs(1)), NETWORKS["tiny"][1]
        how = Suppression(0.2, 0.45)
        detector = Detector(network, anchors, NAMES, (SIZE, SIZE), suppression=how)
        data = annotated(detector, folder)
        config = ExperimentConfig(
            "drawn",
            DataConfig(train=data, validation=data, held_out=data),
            NetworkConfig(input_size=SIZE, weights="scratch"),
            epochs=1,
            batch_size=5,
            runs=folder / "runs",
            score_threshold=0.2,
        )
        run = RunFolder(config.runs / config.name)
        run.begin(config, NAMES, anchors)
        save_weights(run.weights, network)
        run.history_file.write_text("epoch,loss\n0,2\n")
        figures = score_held_out(config, detector, open_data(config).held_out, {}, run, 1)
    assert figures is not None
    return Trained(run.path, data, figures)


def test_a_run_on_its_own_images_has_the_figures_of_its_metrics(trained, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["--out", str(out), "--save-json", str(out / "found.json")]
    assert cli.main(["evaluate", str(trained.path), *words]) == 0
    printed = capsys.readouterr().out
    figures = json.loads((out / FIGURES).read_text())
    assert figures["COCO"] == {name: trained.figures[name] for name in figures["COCO"]}
    assert 0.02 < figures["COCO"]["AP50"] < 0.98
    assert f"AP50 {figures['COCO']['AP50']:.3f}" in printed
    for source in "ab":
        expected = trained.figures["sources"][source]
        assert figures["sources"][source] == {n: expected[n] for n in figures["COCO"]}
    assert figures["score_threshold"] == 0.2
    with (out / PER_CLASS).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == list(NAMES)
    for row in rows:
        expected = trained.figures["per_class"][row["class"]]
        assert float(row["AP50"]) == pytest.approx(expected["AP50"])
        assert int(row["boxes"]) == figures["per_class"][row["class"]]["boxes"] > 0
    for picture in ("precision_recall", "by_confidence", "confusion", "tide"):
        with Image.open(out / f"{picture}.png") as image:
            assert np.asarray(image.convert("L")).std() > 10
    # Again into the same folder, which is its own, whatever else lies there by now.
    assert evaluate(str(trained.path), out=out) == figures


def test_saved_detections_give_pycocotools_the_same_figures(trained, tmp_path):
    results = tmp_path / "new" / "results.json"
    figures = evaluate(
        str(trained.path), data=str(trained.data), batch_size=2, results_file=results
    )
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(trained.data))
        scorer = COCOeval(truth, truth.loadRes(str(results)), "bbox")
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    got = [-1 if value is None else value for value in figures["COCO"].values()]
    np.testing.assert_allclose(got, scorer.stats, rtol=0, atol=1e-6)
    by_fives = {name: trained.figures[name] for name in figures["COCO"]}
    assert figures["COCO"] == pytest.approx(by_fives, abs=1e-6, nan_ok=True)
    entries = json.loads(results.read_text())
    assert {entry["category_id"] for entry in entries} == set(IDS)
    assert len({entry["image_id"] for entry in entries} & {96, 97, 98, 99, 100}) == 5


def test_classes_are_matched_by_name(trained, tmp_path):
    content = json.loads(trained.data.read_text())
    for one in content["categories"]:  # the other order
        one["id"] = 10 - one["id"]
    for one in content["annotations"]:
        one["category_id"] = 10 - one["category_id"]
    other = trained.data.with_name("other.json")
    other.write_text(json.dumps(content))
    figures = evaluate(str(trained.path), data=str(other), results_file=tmp_path / "found.json")
    own = {name: trained.figures["per_class"][name]["AP50"] for name in NAMES}
    assert {n: one["AP50"] for n, one in figures["per_class"].items()} == pytest.approx(own)
    # Of a class that the data do not have, detections count nowhere.
    content["categories"] = [one for one in content["categories"] if one["name"] == "oak"]
    kept = {one["id"] for one in content["categories"]}
    content["annotations"] = [a for a in content["annotations"] if a["category_id"] in kept]
    other.write_text(json.dumps(content))
    figures = evaluate(str(trained.path), data=str(other))
    assert list(figures["per_class"]) == ["oak"]
    assert figures["COCO"]["AP50"] == pytest.approx(own["oak"])
    assert len(figures["confusion"]["matrix"]) == 2


def test_classes_have_two_spellings(trained, tmp_path):
    """COCO's files have `couch` where Darknet's and VOC's have `sofa`: a network knows either."""
    known, of_data = ("couch", "pottedplant"), ("sofa", "potted plant")
    run = RunFolder(shutil.copytree(trained.path, tmp_path / "run"))
    save_json(run.path / "classes.json", list(known))
    content = json.loads(trained.data.read_text())
    for category in content["categories"]:
        category["name"] = of_data[NAMES.index(category["name"])]
    other = trained.data.with_name("spelled.json")
    other.write_text(json.dumps(content))
    figures = evaluate(str(run.path), data=str(other))
    own = [trained.figures["per_class"][name]["AP50"] for name in NAMES]
    got = [figures["per_class"][name]["AP50"] for name in of_data]
    assert got == pytest.approx(own)


def test_darknets_letterbox(trained, tmp_path, capsys):
    words = ["--darknet", "--out", str(tmp_path / "out"), "--batch-size", "2"]
    assert cli.main(["evaluate", str(trained.path), *words]) == 0
    assert "5 images" in capsys.readouterr().out
    figures = json.loads((tmp_path / "out" / FIGURES).read_text())
    assert figures["darknet"]
    assert sum(one["detections"] for one in figures["per_class"].values()) > 20


def test_what_is_left_does_not_wait_for_who_reads(trained, tmp_path):
    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    with contextlib.redirect_stdout(Gone()), pytest.raises(BrokenPipeError):
        evaluate(str(trained.path), out=tmp_path)
    assert json.loads((tmp_path / FIGURES).read_text())["images"] == len(SHAPES)
    assert (tmp_path / "tide.png").is_file()


@pytest.mark.parametrize("darknet", [False, True])
def test_of_few_images_that_are_left_there_are_no_figures(trained, darknet):
    content = json.loads(trained.data.read_text())
    for number in range(4):  # two that are missing, and two that are cut short
        name = f"lost_{number}.png"
        if number > 1:
            pixels = trained.data.with_name("0.png").read_bytes()
            trained.data.with_name(name).write_bytes(pixels[:60])
        content["images"].append({"id": number, "file_name": name, "width": 50, "height": 40})
    lost = trained.data.with_name("lost.json")
    lost.write_text(json.dumps(content))
    with pytest.raises(ImageError, match=r"4 of the 9 images of .*lost\.json cannot be read"):
        evaluate(str(trained.path), data=str(lost), darknet=darknet)
    content["images"].pop()
    lost.write_text(json.dumps(content))
    figures = evaluate(str(trained.path), data=str(lost), darknet=darknet)
    assert (figures["images"], len(figures["skipped"])) == (5, 3)


def test_what_cannot_be_is_said(trained, tmp_path, capsys):
    content = json.loads(trained.data.read_text())
    content["categories"].append({"id": 9, "name": "elm"})
    wrong = trained.data.with_name("wrong.json")
    wrong.write_text(json.dumps(content))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    run, file, names = str(trained.path), str(trained.data), str(tmp_path / "mine" / "notes.txt")
    for words, said in (
        ([run, "--data", str(wrong)], "has the classes ['elm'], which the network does not; it"),
        ([run, "--split", "val"], "--split val is of --data, and there is none"),
        ([run, "--data", file, "--split", "val"], "without the split 'val'"),
        ([run, "--data", "gone.json"], "gone.json"),
        (["gone", "--data", file], "there is no run folder or weights file gone"),
        ([str(trained.path / "final.weights")], "is no run folder, with images of its own"),
        ([str(tmp_path), "--data", file], "holds no finished run"),
        ([run, "--out", str(tmp_path / "mine")], "mine has notes.txt, and no figures.json of an"),
        ([run, "--out", file], "is a file; name a folder"),
        ([run, "--save-json", str(tmp_path)], "is a folder; name a file"),
        ([run, "--data", file, "--save-json", file], "is a file to read; name another"),
        ([run, "--names", names, "--save-json", names], "is a file to read; name another"),
        ([run, "--out", str(tmp_path / "new"), "--save-json", str(tmp_path / "new" / FIGURES)],
         "is a file of --out; name another"),
        ([run, "--conf", "2"], "the score threshold is a finite number from 0 to 1; found 2.0"),
    ):  # fmt: skip
        assert cli.main(["evaluate", *words]) == 2, words
        assert said in capsys.readouterr().err, words
