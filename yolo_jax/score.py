"""The held-out figures of an experiment: found by all processes, scored and drawn by the first."""

import dataclasses
from typing import Any

from yolo_jax.config import ExperimentConfig
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
) -> dict[str, Any] | None:
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

    Returns:
        The figures, as `metrics.json` has them; None on the other processes.

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
    found = distributed.gather_detections(found)
    of_each = distributed.gather_objects(skipped | held_out.skipped)
    skipped = {path: reason for part in of_each for path, reason in part.items()}
    if not distributed.is_first():
        return None
    listed = held_out.dataset
    read = tuple(one for one in listed.annotations if one.image_id in found)
    dataset = dataclasses.replace(listed, annotations=read)
    whole, sources = coco_average_precision(dataset, found), per_source(dataset, found)
    ended = {"epochs": epochs, "stopped_early": epochs < config.epochs}
    figures = metrics(whole, sources) | ended | {"skipped": skipped}
    # By its figures a run is known to be complete: behind them only pictures may be lost to a kill.
    save_details(dataset, found, whole, sources, _DRAWN_SCORE, run.path)
    run.save_figures(figures)
    save_curves(run.history(), [("all", whole), *sources.items()], run.path)
    save_held_out_pictures(dataset, found, _DRAWN_SCORE, run.path / "held_out")
    print_figures(figures)
    return figures


def print_figures(figures: dict[str, Any]) -> None:
    """Prints AP50 and AP of the whole and of each source; – where there was nothing to find."""
    for name, part in [("held-out", figures), *figures["sources"].items()]:
        values = {key: part[key] for key in ("AP50", "AP")}
        shown = "  ".join(f"{k} {'–' if v is None else f'{v:.3f}'}" for k, v in values.items())
        print(f"{name:10s} {shown}")
