"""Pictures of figures: by confidence, what was taken for what, and what errors cost."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from yolo_jax.core.draw import colour_of
from yolo_jax.evaluation.average_precision import figure_text
from yolo_jax.evaluation.confidence import THRESHOLDS, ByConfidence
from yolo_jax.evaluation.tide import Tide

_RED, _BLUE, _GREEN = ("#{:02x}{:02x}{:02x}".format(*colour_of(index)) for index in range(3))
_MOST_NUMBERED = 20  # classes of a matrix whose counts can be read
_MOST_NAMED = 90
_LONGEST_NAME = 18


def plot_by_confidence(whole: ByConfidence, classes: Sequence[ByConfidence], path: Path) -> None:
    """Draws precision, recall and F1 by confidence; F1 of each class with boxes in thin lines."""
    figure, axes = _figure((6, 4.5))
    classes = [one for one in classes if not np.isnan(one.recall[0])]
    if len(classes) > 1:
        for one in classes:
            axes.plot(THRESHOLDS, one.f1, color="0.75", linewidth=0.6)
        axes.plot(
            [], [], color="0.75", linewidth=0.6, label=f"F1 of each of {len(classes)} classes"
        )
    for name, values, colour in (
        ("precision", whole.precision, _BLUE),
        ("recall", whole.recall, _GREEN),
        ("F1", whole.f1, _RED),
    ):
        axes.plot(THRESHOLDS, values, color=colour, label=name, linewidth=1.8)
    best = whole.best
    if not np.isnan(best.f1):
        label = f"best F1 {best.f1:.3f} at {best.confidence:.3f}"
        axes.plot(best.confidence, best.f1, "o", color=_RED, label=label)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="confidence", title="By confidence, IoU ≥ 0.5")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.savefig(path)


def plot_confusion(
    counts: Int[np.ndarray, "c+1 c+1"], class_names: Sequence[str], confidence: float, path: Path
) -> None:
    """Draws what was taken for what, coloured by shares of a true class.

    Classes that nothing was, nor was taken for, are left out.

    Args:
        counts: see `confusion_matrix`; the last row and column are of the background.
        class_names: of the others.
        confidence: of the detections, or more.
        path: of the picture.
    """
    occurs = np.asarray(counts.any(axis=0) | counts.any(axis=1))
    title = f"Confusions, confidence ≥ {confidence:g}"
    if not occurs[:-1].all():
        title += f"\n{occurs[:-1].sum()} of {len(class_names)} classes occur"
    occurs[-1] = True
    counts = counts[occurs][:, occurs]
    names = [name[:_LONGEST_NAME] for name in np.asarray([*class_names, "background"])[occurs]]
    side = float(np.clip(1.8 + 0.42 * len(names), 4, 14))
    figure, axes = _figure((side + 0.6, side))
    axes.grid(visible=False)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, "Blues", vmin=0, vmax=1)
    if len(names) <= _MOST_NUMBERED:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, f"{count:,}", ha="center", va="center", color=colour, size=7)
    step = -(-len(names) // _MOST_NAMED)
    ticks, size = range(0, len(names), step), 8 if len(names) <= _MOST_NUMBERED else 6
    # As they are: what stands between two $ is a formula to Matplotlib.
    axes.set_xticks(ticks, names[::step], rotation=90, size=size, parse_math=False)
    axes.set_yticks(ticks, names[::step], size=size, parse_math=False)
    axes.set(xlabel="found", ylabel="true", title=title)
    figure.savefig(path)


def plot_tide(tide: Tide, path: Path) -> None:
    """Draws the errors of each kind, and how much AP50 rises when they are mended."""
    figure = Figure(figsize=(8, 3.4), dpi=120, layout="constrained")
    kinds = list(tide.rises)
    counts = [int(tide.counts[kind].sum()) for kind in kinds]
    left, right = figure.subplots(1, 2)
    _bars(left, kinds, counts, [f"{count:,}" for count in counts], [_BLUE] * len(kinds))
    left.set_title("Errors")
    rises = [*tide.rises.values(), tide.false_positives, tide.false_negatives]
    labels = [figure_text(rise) for rise in rises]
    names = [*kinds, "all false positives", "all false negatives"]
    colours = [_RED] * len(kinds) + ["0.6"] * 2
    _bars(right, names, np.nan_to_num(rises).tolist(), labels, colours)
    right.set_title(f"dAP50, of an AP50 of {figure_text(tide.ap50)}")
    figure.savefig(path)


def _bars(
    axes: Axes,
    names: Sequence[str],
    values: Sequence[float],
    labels: Sequence[str],
    colours: Sequence[str],
) -> None:
    """Draws bars from top to bottom, each with its number."""
    bars = axes.barh(names, values, color=colours)
    axes.bar_label(bars, labels, padding=3, size=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.18 * max(*values, 1e-9))
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "bottom"]].set_visible(False)


def _figure(size: tuple[float, float]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    axes = figure.subplots()
    axes.grid(alpha=0.3)
    return figure, axes
