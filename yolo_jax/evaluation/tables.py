"""Figures as tables that a person can read."""

from collections.abc import Iterator

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from yolo_jax.evaluation.average_precision import figure_text
from yolo_jax.evaluation.scores import SHOWN_SCORE, Scores, at_shown


def tables(scores: Scores) -> Iterator[Table]:
    """Yields a table of all figures, one of errors, and of several classes one of each.

    Classes without true boxes, of which there is nothing to say, are only counted.
    """
    yield _overall(scores)
    yield _errors(scores)
    if len(scores.class_names) > 1 and scores.boxes.any():
        yield _classes(scores)


def _overall(scores: Scores) -> Table:
    table = Table(box=box.SIMPLE, show_header=False)
    named = list(scores.coco.figures.items())
    rows = [("" if place else "COCO", named[place : place + 3]) for place in range(0, 12, 3)]
    rows += [(name, [*part.figures.items()][:3]) for name, part in scores.sources.items()]
    rows.append(("VOC", [*scores.voc.figures.items()]))
    for title, point in (
        ("best F1", scores.confidence.best),
        (f"at {SHOWN_SCORE:g}", at_shown(scores.confidence)),
    ):
        figures = [("F1", point.f1), ("P", point.precision), ("R", point.recall)]
        rows.append((title, [*figures, ("confidence", point.confidence)]))
    for title, figures in rows:
        cells = [f"{name} {figure_text(value)}" for name, value in figures]
        table.add_row(Text(title), *cells)
    return table


def _errors(scores: Scores) -> Table:
    table = Table("errors", box=box.SIMPLE)
    for title in ("number", "dAP50"):
        table.add_column(title, justify="right")
    for kind, rise in scores.tide.rises.items():
        table.add_row(kind, f"{scores.tide.counts[kind].sum():,}", figure_text(rise))
    table.add_row("all false positives", "", figure_text(scores.tide.false_positives))
    table.add_row("all false negatives", "", figure_text(scores.tide.false_negatives))
    return table


def _classes(scores: Scores) -> Table:
    table = Table("class", box=box.SIMPLE, collapse_padding=True)
    titles = ("boxes", "AP", "AP50", "VOC", "P", "R", "F1", "best F1")
    for title in titles:
        table.add_column(title, justify="right")
    for index in np.flatnonzero(scores.boxes):
        name = scores.class_names[index]
        curve = scores.class_confidence[index]
        shown = at_shown(curve)
        values = (
            *scores.coco.per_class[name],
            float(scores.voc.area[index]),
            shown.precision,
            shown.recall,
            shown.f1,
            curve.best.f1,
        )
        # As it is: rich takes what stands in brackets for its own.
        table.add_row(Text(name), f"{scores.boxes[index]:,}", *map(figure_text, values))
    table.caption = f"VOC is the area; P, R and F1 are at confidence {SHOWN_SCORE:g}"
    if without := int((scores.boxes == 0).sum()):
        table.caption += f"\nclasses without true boxes are left out: {without:,}"
    return table
