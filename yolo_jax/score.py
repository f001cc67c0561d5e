"""The held-out figures of an experiment: found by all processes, scored and drawn by the first."""

import dataclasses
from typing import Any

import jax
import numpy as np

from yolo_jax.config import ExperimentConfig
from yolo_jax.core.types import Detections
from yolo_jax.data.images import ImageError
from yolo_jax.data.pipeline import Loader
from yolo_jax.detection.detector import Detector
from yolo_jax.evaluation.average_precision import coco_average_precision, per_source
from yolo_jax.report.details import save_details
from yolo_jax.report.pictures import metrics, save_curves, save_held_out_pictures
from yolo_jax.run_folder import RunFolder
from yolo_jax.training import distributed

_DRAWN_SCORE = 0.3  # least score of the detections on the pictures


def score_held_out(
    config: ExperimentConfig,
    detector: Detector,
    held_out: Loader,
    skipped: dict[str, str],
    run: RunFolder,
    epochs: int,
) -> None:
    """Scores the held-out images, leaves figures and pictures, and prints the figures.

    Every process finds the objects of its share; the first scores them all. An image that cannot be
    read is left out, and named under `skipped`.

    Args:
        config: of the experiment.
        detector: with the last epoch's weights.
        held_out: the images of this process.
        skipped: why images of the other sets were left out.
        run: its folder.
        epochs: that were trained.

    Raises:
        ImageError: strict and an image cannot be read, or too many cannot.
    """
    try:
        found = detector.detect_batches(held_out.one_pass())
    except (ImageError, FileNotFoundError) as error:
        raise ImageError(
            f"{error}\nTraining is done and kept in {run.path}: mend these held-out images where "
            "they are, and the same command only scores"
        ) from error
    found, skipped = _of_all_processes(found, skipped | held_out.skipped)
    if not distributed.is_first():
        return
    listed = held_out.dataset
    read = tuple(one for one in listed.annotations if one.image_id in found)
    dataset = dataclasses.replace(listed, annotations=read)
    whole, sources = coco_average_precision(dataset, found), per_source(dataset, found)
    ended = {"epochs": epochs, "stopped_early": epochs < config.epochs}
    figures = metrics(whole, sources) | ended | {"skipped": skipped}
    # Before the pictures, which are not worth losing the figures for.
    run.save_figures(figures)
    save_details(dataset, found, whole, sources, _DRAWN_SCORE, run.path)
    save_curves(run.path / "history.csv", {"all": whole} | sources, run.path)
    save_held_out_pictures(dataset, found, _DRAWN_SCORE, run.path / "held_out")
    print_figures(figures)


def _of_all_processes(
    found: dict[int, Detections], skipped: dict[str, str]
) -> tuple[dict[int, Detections], dict[str, str]]:
    """Returns what all processes found and skipped; JSON holds numbers to the last bit."""
    if jax.process_count() == 1:
        return found, skipped
    plain = {key: [np.asarray(part).tolist() for part in one] for key, one in found.items()}
    parts = distributed.gather_objects({"found": plain, "skipped": skipped})
    return (
        {int(key): _detections(one) for part in parts for key, one in part["found"].items()},
        {path: reason for part in parts for path, reason in part["skipped"].items()},
    )


def _detections(parts: list[list]) -> Detections:
    boxes, scores, classes = parts
    return Detections(
        np.asarray(boxes, np.float32).reshape(-1, 4),
        np.asarray(scores, np.float32),
        np.asarray(classes, np.int32),
    )


def print_figures(figures: dict[str, Any]) -> None:
    """Prints AP50 and AP of the whole and of each source; – where there was nothing to find."""
    for name, part in [("held-out", figures), *figures["sources"].items()]:
        values = {key: part[key] for key in ("AP50", "AP")}
        shown = "  ".join(f"{k} {'–' if v is None else f'{v:.3f}'}" for k, v in values.items())
        print(f"{name:10s} {shown}")
