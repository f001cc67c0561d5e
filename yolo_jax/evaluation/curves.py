"""Figures of a run: its losses, and precision by recall."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from yolo_jax.evaluation.average_precision import AveragePrecision, figure_text


def plot_precision_recall(
    results: Sequence[tuple[str, AveragePrecision]], path: Path, *, images: str = "Held-out images"
) -> None:
    """Draws precision by recall at IoU .50, a line for each name; two may have the same.

    Thin lines are of the first result's classes that have true boxes, where they are several.

    Args:
        results: by name.
        path: of the picture.
        images: what they are of.
    """
    figure = Figure(figsize=(5.5, 4.5), dpi=120, layout="constrained")
    axes = figure.subplots()
    classes = results[0][1].class_precision.values()
    classes = [curve for curve in classes if not np.isnan(curve).all()]
    if len(classes) > 1:
        for curve in classes:
            axes.plot(np.linspace(0, 1, 101), curve, color="0.7", linewidth=0.6)
        axes.plot([], [], color="0.7", linewidth=0.6, label=f"each of {len(classes)} classes")
    for name, result in results:
        # As it is: what stands between two $ is a formula to Matplotlib.
        label = f"{name}: AP50 {figure_text(result.ap50)}".replace("$", r"\$")
        axes.plot(np.linspace(0, 1, 101), result.precision, label=label)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.set_title(f"{images}, IoU ≥ 0.5")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper right")
    figure.savefig(path)


def plot_history(
    epochs: Sequence[float], history: Mapping[str, Sequence[float]], path: Path
) -> None:
    """Draws the losses by epoch: training and validation, total and terms."""
    names = [name for name in history if name.endswith("loss") and not name.startswith("val_")]
    names.sort(key=lambda name: name != "loss")  # the total first, its terms in their order
    figure = Figure(figsize=(3.2 * len(names), 3), dpi=120, layout="constrained")
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True):
        axes.plot(np.asarray(epochs) + 1, history[name], label="training")
        if f"val_{name}" in history:
            axes.plot(np.asarray(epochs) + 1, history[f"val_{name}"], label="validation")
        axes.set_title(name.replace("_", " "))
        axes.set_xlabel("epoch")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    figure.axes[0].legend(loc="upper right")
    figure.savefig(path)
