"""Evaluation from the command line: a run or a weights file, a data set, and all figures."""

import csv
import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from yolo_jax.config import ExperimentConfig
from yolo_jax.config.files import config_of_data
from yolo_jax.core.json_files import save_json
from yolo_jax.core.types import Dataset, Detections
from yolo_jax.data.classes import in_classes
from yolo_jax.data.doctor import listed
from yolo_jax.data.images import ImageError, load_image
from yolo_jax.data.pipeline import Loader, check_skipped
from yolo_jax.data.readers import read_dataset
from yolo_jax.data.readers.coco import category_ids
from yolo_jax.detection.detector import Detector
from yolo_jax.detection.nms import Suppression
from yolo_jax.evaluation.curves import plot_precision_recall
from yolo_jax.evaluation.plots import plot_by_confidence, plot_confusion, plot_tide
from yolo_jax.evaluation.results import coco_results
from yolo_jax.evaluation.scores import SHOWN_SCORE, Scores, score_detections
from yolo_jax.evaluation.tables import tables
from yolo_jax.experiment.data import open_data
from yolo_jax.networks.pretrained import COCO_SPELLINGS
from yolo_jax.run_folder import RunFolder
from yolo_jax.use.opening import open_detector

FIGURES, PER_CLASS = "figures.json", "per_class.csv"
_PICTURES = ("precision_recall.png", "by_confidence.png", "confusion.png", "tide.png")
_LEFT = (FIGURES, PER_CLASS, *_PICTURES)
_SCORE, _IOU, _ROWS = 0.001, 0.6, 16


class _Given(NamedTuple):
    """What is scored.

    Attributes:
        dataset: of classes that the detector has all, in an order of its own.
        split: of the data; None where they have none, or are a run's own.
        skipped: why images were left out, by path or record.
    """

    dataset: Dataset
    split: str | None
    skipped: dict[str, str]


def evaluate(
    weights: str,
    *,
    data: str | None = None,
    split: str | None = None,
    class_names_file: Path | None = None,
    batch_size: int | None = None,
    score_threshold: float | None = None,
    iou_threshold: float | None = None,
    out: Path | None = None,
    results_file: Path | None = None,
    darknet: bool = False,
    cfg: Path | None = None,
    names: Path | None = None,
) -> dict[str, Any]:
    """Scores a network on a data set, prints the figures, and writes them where asked for.

    What is scored is what the reader keeps of the data: bad records, which it reports, count
    nowhere, and boxes end at the edges of their images, while COCO's own program would count them
    as they are.

    Args:
        weights: a run folder, a weights file, or `yolov3-tiny`; see `yolo_jax.load`.
        data: what `read_dataset` takes; None: the run's own held-out images.
        split: of the data; None: the one that `yolo-jax train DATA` would score, or all.
        class_names_file: has a class a line.
        batch_size: images at once, over all devices; None: the run's, or 16.
        score_threshold: detections score more; None: the run's, or 0.001.
        iou_threshold: of the suppression; None: the run's, or 0.6.
        out: folder for `figures.json`, `per_class.csv` and pictures.
        results_file: file for the detections in COCO's results format.
        darknet: letterbox, and read the anchors, as the darknet program does. One device does all.
        cfg: Darknet's file of what the network of a weights file is.
        names: file of the weights' class names, one a line.

    Returns:
        The figures, as `figures.json` has them.

    Raises:
        FileNotFoundError: weights or data are not there.
        ValueError: there are no data, they have a class that the network does not know, or it is
            unclear which split is meant; a run is unfinished; or a place for results cannot be.
        ImageError: too many images cannot be read.
        OSError: a result cannot be written.
    """
    given_files = (weights, data, class_names_file, cfg, names)
    _check_places(out, results_file, [Path(path) for path in given_files if path is not None])
    config = _config_of(weights)
    if data is None:
        _check_own(weights, config, {"--split": split, "--classes": class_names_file})
    thresholds = {
        "score_threshold": _first(score_threshold, config and config.score_threshold, _SCORE),
        "iou_threshold": _first(iou_threshold, config and config.iou_threshold, _IOU),
    }
    suppression = Suppression(**thresholds)
    detector = open_detector(
        weights, cfg=cfg, names=names, darknet=darknet, suppression=suppression
    )
    given = _given(config, data, split, class_names_file, detector.class_names)
    rows = batch_size or (config and config.batch_size) or _ROWS
    found, skipped = _detect(detector, given, rows, darknet=darknet)
    read = tuple(one for one in given.dataset.annotations if one.image_id in found)
    dataset = dataclasses.replace(given.dataset, annotations=read)
    found = _in_data_classes(found, detector.class_names, dataset.class_names)
    if results_file is not None:
        results_file.write_text(json.dumps(_results(dataset, found)) + "\n", encoding="utf-8")
    scores = score_detections(dataset, found)
    figures = {
        "weights": weights,
        "data": str(data or dataset.origin),
        "split": given.split,
        "images": len(read),
        **thresholds,
        "darknet": darknet,
        **scores.figures(),
        "skipped": skipped,
    }
    # Before they are shown: whoever reads that may go, as `head` does.
    if out is not None:
        _write(scores, figures, out)
    _say(scores, figures)
    if out is not None:
        print(f"figures and pictures: {out}")
    return figures


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)


def _check_places(out: Path | None, results_file: Path | None, read: Sequence[Path]) -> None:
    """Refuses, before the work, places that results cannot have, such as files that are read."""
    if out is not None:
        if out.exists() and not out.is_dir():
            raise ValueError(f"--out {out} is a file; name a folder")
        others = sorted(path.name for path in out.glob("*"))
        if others and FIGURES not in others:
            raise ValueError(
                f"--out {out} has {listed(others)}, and no {FIGURES} of an earlier evaluation; "
                "name a new folder, or one that has"
            )
        out.mkdir(parents=True, exist_ok=True)
    if results_file is not None:
        if results_file.is_dir():
            raise IsADirectoryError(f"--save-json {results_file} is a folder; name a file")
        for path in read:
            if results_file.exists() and path.exists() and results_file.samefile(path):
                raise ValueError(f"--save-json {results_file} is a file to read; name another")
        if out is not None and results_file.resolve() in {(out / n).resolve() for n in _LEFT}:
            raise ValueError(f"--save-json {results_file} is a file of --out; name another")
        results_file.parent.mkdir(parents=True, exist_ok=True)


def _config_of(weights: str) -> ExperimentConfig | None:
    run = RunFolder(Path(weights))
    return run.config() if run.is_begun else None


def _check_own(weights: str, config: ExperimentConfig | None, of_data: dict[str, Any]) -> None:
    """Checks that there is a run to score on its own images, and nothing given of others."""
    if config is None:
        raise ValueError(f"{weights} is no run folder, with images of its own; name --data DATA")
    for name, value in of_data.items():
        if value is not None:
            raise ValueError(f"{name} {value} is of --data, and there is none; name it, or leave")


def _given(
    config: ExperimentConfig | None,
    data: str | None,
    split: str | None,
    class_names_file: Path | None,
    class_names: Sequence[str],
) -> _Given:
    """Reads what is to be scored by a network of some classes."""
    if data is not None:
        if split is None:
            split = config_of_data(Path(data)).data.held_out_split
        dataset, problems = read_dataset(data, split=split, class_names_file=class_names_file)
        _check_classes(dataset, class_names)
        lost = {f"{p.file}: {p.record}": p.reason for p in problems if p.loses_image}
        return _Given(dataset, split, lost)
    assert config is not None  # see `_check_own`
    own = dataclasses.replace(config.data, cache="none", workers=0)
    held_out = open_data(dataclasses.replace(config, data=own)).held_out
    return _Given(held_out.dataset, None, dict(held_out.skipped))


def _check_classes(dataset: Dataset, known: Sequence[str]) -> None:
    """Checks that a network knows a data set's classes.

    Raises:
        ValueError: it lacks some, which are named.
    """
    names = _spelled(dataset.class_names, known)
    unknown = [repr(name) for name in names if name not in known]
    if unknown:
        raise ValueError(
            f"{dataset.origin} has the classes [{listed(unknown)}], which the network does not; it "
            f"has [{listed(map(repr, known))}]: name the data's classes as the network's are, or, "
            "of a weights file, the network's by --names"
        )
    in_classes(dataclasses.replace(dataset, annotations=(), class_names=names), known)


def _spelled(names: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """Returns names of a data set's classes as the network spells them: COCO's or Darknet's way."""
    other = COCO_SPELLINGS | {darknet: coco for coco, darknet in COCO_SPELLINGS.items()}
    return tuple(
        other[name] if name not in known and other.get(name) in known else name for name in names
    )


def _in_data_classes(
    found: dict[int, Detections], known: Sequence[str], names: Sequence[str]
) -> dict[int, Detections]:
    """Returns detections by the data's class indices, without those of classes it does not have."""
    index_of = np.full(len(known), -1)
    for index, name in enumerate(_spelled(names, known)):
        index_of[known.index(name)] = index

    def of_data(one: Detections) -> Detections:
        classes = index_of[np.asarray(one.classes, int)]
        kept = classes >= 0
        return Detections(one.boxes[kept], one.scores[kept], classes[kept])

    return {image_id: of_data(one) for image_id, one in found.items()}


def _detect(
    detector: Detector, given: _Given, rows: int, *, darknet: bool
) -> tuple[dict[int, Detections], dict[str, str]]:
    """Returns the detections by image_id, and why images were left out, the reader's too."""
    dataset, skipped = given.dataset, dict(given.skipped)
    images = len(dataset.annotations) + len(skipped)
    check_skipped(skipped, images, dataset.origin)  # before the work
    found: dict[int, Detections] = {}
    if darknet:  # That program's letterbox is no bytes, which batches are of.
        for ids, pixels in _chunks(dataset, rows, skipped):
            found |= zip(ids, detector.detect(pixels, batch_size=rows), strict=True)
    else:
        loader = Loader(dataset, batch_size=rows, image_shape=detector.input_shape)
        found |= detector.detect_batches(loader.one_pass())
        skipped |= loader.skipped
    check_skipped(skipped, images, dataset.origin)
    return found, skipped


def _chunks(
    dataset: Dataset, rows: int, skipped: dict[str, str]
) -> Iterator[tuple[list[int], list[np.ndarray]]]:
    """Yields the ids and the pixels of some images at a time; notes what cannot be read."""
    ids, images = [], []
    for annotation in dataset.annotations:
        try:
            images.append(load_image(dataset, annotation))
            ids.append(annotation.image_id)
        except (ImageError, FileNotFoundError) as error:
            skipped[str(annotation.path)] = str(error)
        if len(ids) == rows:
            yield ids, images
            ids, images = [], []
    if ids:
        yield ids, images


def _results(dataset: Dataset, found: dict[int, Detections]) -> list[dict[str, Any]]:
    """Returns COCO's results, by the category ids of the data's file where that is COCO's own.

    Others are counted from 1, as `convert --to coco` does. Detections of classes that the file does
    not have are of no account there, and are left out.
    """
    names = dataset.class_names
    if dataset.origin.suffix.lower() != ".json":
        return coco_results(found, range(1, len(names) + 1))
    of_file = category_ids(dataset.origin)
    return coco_results(found, [of_file.get(name) for name in names])


def _say(scores: Scores, figures: dict[str, Any]) -> None:
    """Prints the figures."""
    boxes, split = int(scores.boxes.sum()), figures["split"]
    where = figures["data"] + (f", {split}" if split else "")
    print(f"{figures['weights']} on {where}: {figures['images']:,} images, {boxes:,} boxes")
    if skipped := figures["skipped"]:
        print(f"left out: {len(skipped):,} images that cannot be read: {listed(skipped)}")
    console = Console()
    for table in tables(scores):
        console.print(table)


def _write(scores: Scores, figures: dict[str, Any], out: Path) -> None:
    save_json(out / FIGURES, figures)
    rows = scores.rows()
    with (out / PER_CLASS).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    curve, by_confidence, confusion, tide = (out / name for name in _PICTURES)
    named = [("all", scores.coco), *scores.sources.items()]
    plot_precision_recall(named, curve, images=f"{figures['images']:,} images")
    plot_by_confidence(scores.confidence, scores.class_confidence, by_confidence)
    plot_confusion(scores.confusion, scores.class_names, SHOWN_SCORE, confusion)
    plot_tide(scores.tide, tide)
