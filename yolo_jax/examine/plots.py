"""Plots of a data set's figures, as PNG files in memory; sizes are of boxes, above 0."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from yolo_jax.core.draw import colour_of
from yolo_jax.data.doctor.statistics import AnchorFit

_RED, _BLUE, _GREEN = ("#{:02x}{:02x}{:02x}".format(*colour_of(index)) for index in range(3))
_MOST_POINTS = 4000
_PLAIN = FuncFormatter(lambda value, _: f"{value:.3g}")  # a scale of logarithms writes 10²


def plot_boxes_per_image(per_image: Int[np.ndarray, "i"], max_boxes: int | None) -> bytes:
    """Draws how many images have how many boxes."""
    figure, axes = _figure()
    most = int(per_image.max(initial=1))
    axes.hist(per_image, (np.arange(0, most + 2, max(1, most // 40)) - 0.5).tolist(), color=_BLUE)
    if max_boxes is not None:
        axes.axvline(max_boxes + 0.5, color=_RED, label=f"max_boxes = {max_boxes}")
        axes.legend(loc="upper right")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="boxes in an image", ylabel="images", title="Boxes an image")
    return _png(figure)


def plot_sides(sizes: Float[np.ndarray, "n 2"], input_size: int, strides: Sequence[int]) -> bytes:
    """Draws the sizes of boxes as the side of a square of their area, with the network's cells."""
    figure, axes = _figure()
    sides = np.sqrt(sizes.prod(axis=1))
    least, most = sides.min() * 0.95, max(sides.max() * 1.05, input_size)
    axes.hist(sides, np.geomspace(least, most, 50).tolist(), color=_BLUE)
    for stride in strides:
        axes.axvline(stride, color=_RED, linewidth=1, linestyle="--")
    axes.plot([], [], color=_RED, linestyle="--", label="a cell of each scale")
    axes.legend(loc="upper right")
    _logarithmic(axes, "x", (least, most))
    xlabel = f"side of a square of the box's area, px of the {input_size} px input"
    axes.set(xlabel=xlabel, ylabel="boxes", title="Sizes")
    return _png(figure)


def plot_aspects(sizes: Float[np.ndarray, "n 2"]) -> bytes:
    """Draws the aspects of boxes, width / height."""
    figure, axes = _figure()
    aspects = sizes[:, 0] / sizes[:, 1]
    reach = max(2.0, float(np.exp(np.abs(np.log(aspects)).max())) * 1.05)
    axes.hist(aspects, np.geomspace(1 / reach, reach, 61).tolist(), color=_BLUE)
    axes.axvline(1, color=_RED, linewidth=1, linestyle="--", label="square")
    axes.legend(loc="upper right")
    _logarithmic(axes, "x", (1 / reach, reach))
    axes.set(xlabel="width / height", ylabel="boxes", title="Aspects")
    return _png(figure)


def plot_anchors(sizes: Float[np.ndarray, "n 2"], fits: Mapping[str, AnchorFit]) -> bytes:
    """Draws widths and heights of boxes, of many a sample, and sets of anchors among them."""
    figure, axes = _figure(height=4.4)
    if len(sizes) > _MOST_POINTS:
        sizes = np.random.default_rng(0).choice(sizes, _MOST_POINTS, replace=False)
    axes.scatter(*sizes.T, s=9, color=_BLUE, alpha=0.35, linewidths=0, label="boxes")
    shown = [sizes]
    for (name, fit), colour, marker in zip(fits.items(), (_RED, _GREEN), "sD", strict=False):
        shown.append(fit.anchors)
        axes.scatter(
            *fit.anchors.T, s=52, marker=marker, facecolors="none", edgecolors=[colour],
            linewidths=2, label=name,
        )  # fmt: skip
    points = np.concatenate(shown)
    limits = points.min() * 0.8, points.max() * 1.25
    _logarithmic(axes, "x", limits)
    _logarithmic(axes, "y", limits)
    axes.legend(loc="upper left")
    axes.set(xlabel="width, px of the input", ylabel="height, px of the input", title="Anchors")
    return _png(figure)


def _figure(height: float = 3.0) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.6, height), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _logarithmic(axes: Axes, name: str, limits: tuple[float, float]) -> None:
    """Makes an axis one of logarithms, with a mark at each power of 2."""
    axis = axes.xaxis if name == "x" else axes.yaxis
    (axes.set_xscale if name == "x" else axes.set_yscale)("log", base=2)
    (axes.set_xlim if name == "x" else axes.set_ylim)(*limits)
    axis.set_major_formatter(_PLAIN)


def _png(figure: Figure) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()
