"""What a person sees of scores: tables and pictures, of few classes among many and of odd names."""

import io
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from yolo_jax.core.types import Annotation, Dataset, Detections
from yolo_jax.evaluation.curves import plot_precision_recall
from yolo_jax.evaluation.overlaps import NOTHING
from yolo_jax.evaluation.plots import plot_by_confidence, plot_confusion, plot_tide
from yolo_jax.evaluation.scores import Scores, score_detections
from yolo_jax.evaluation.tables import tables

# The last is what Matplotlib cannot read as a formula, and rich not as its own.
NAMES = (*(f"kind {index}" for index in range(30)), r"$\oak$ [/x]")
BOXES = np.asarray([[0, 0, 10, 10], [30, 30, 60, 60]], np.float32)


@pytest.fixture
def drawn(monkeypatch) -> list[Figure]:
    """Returns the figures that are saved, which are drawn all the same."""
    figures, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda *a, **k: (figures.append(a[0]), save(*a, **k))[1])
    return figures


def scores_of(classes: list[int], found: Detections) -> Scores:
    """Scores an image whose boxes are of some classes."""
    boxes = BOXES[: len(classes)]
    crowd = np.zeros(len(classes), bool)
    record = Annotation(0, Path("a.png"), 90, 90, boxes, np.asarray(classes, int), crowd)
    return score_detections(Dataset((record,), NAMES), {0: found})


def printed(scores: Scores) -> str:
    file = io.StringIO()
    for table in tables(scores):
        Console(file=file, width=80).print(table)
    return file.getvalue()


@pytest.fixture
def few() -> Scores:
    """Returns scores of two classes' boxes, the second of which is taken for a third class."""
    return scores_of([30, 2], Detections(BOXES, np.asarray([0.9, 0.8]), np.asarray([30, 7])))


def test_classes_without_boxes_have_no_row(few):
    shown = printed(few)
    assert "kind 2 " in shown
    assert NAMES[30] in shown
    assert "kind 7" not in shown
    assert "classes without true boxes are left out: 29" in " ".join(shown.split())
    assert len(few.rows()) == len(NAMES)


def test_a_matrix_is_of_the_classes_that_occur(few, drawn, tmp_path):
    plot_confusion(few.confusion, NAMES, 0.25, tmp_path / "confusion.png")
    (axes,) = drawn[0].axes
    names = ["kind 2", "kind 7", NAMES[30], "background"]
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    assert [label.get_text() for label in axes.get_xticklabels()] == names
    assert sorted(text.get_position() for text in axes.texts) == [(1, 0), (2, 2)]
    assert axes.get_title().endswith("3 of 31 classes occur")


def test_thin_lines_are_of_classes_with_boxes(few, drawn, tmp_path):
    plot_by_confidence(few.confidence, few.class_confidence, tmp_path / "by_confidence.png")
    plot_precision_recall([(r"$\oak$", few.coco)], tmp_path / "precision_recall.png")
    labels = [figure.axes[0].get_legend_handles_labels()[1] for figure in drawn]
    assert "F1 of each of 2 classes" in labels[0]
    assert labels[1][0] == "each of 2 classes"


def test_nothing_to_find_is_a_dash(drawn, tmp_path):
    scores = scores_of([], NOTHING)
    assert "nan" not in printed(scores)
    plot_precision_recall([("all", scores.coco)], tmp_path / "precision_recall.png")
    plot_by_confidence(scores.confidence, scores.class_confidence, tmp_path / "confidence.png")
    plot_confusion(scores.confusion, NAMES, 0.25, tmp_path / "confusion.png")
    plot_tide(scores.tide, tmp_path / "tide.png")
    assert drawn[0].axes[0].get_legend_handles_labels()[1] == ["all: AP50 –"]
    assert drawn[3].axes[1].get_title() == "dAP50, of an AP50 of –"
