"""A model as a picture: `plot_model`."""

from pathlib import Path
from typing import TYPE_CHECKING

import jax
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from matplotlib.path import Path as Curve
from matplotlib.text import Text

from yolo_jax.model.plot_layout import Layout, laid_out
from yolo_jax.model.summary import calls_by_layer, origins, shown_output, type_name

if TYPE_CHECKING:
    from yolo_jax.model.container import Container

_DPI = 100
_INPUT, _LAYER, _LINE = "#cfe8fc", "#f1f1f1", "#555555"
# In inches: of a letter, around a picture, of the lane of an arrow that passes a row.
_LETTER, _MARGIN, _LANE = 0.085, 0.2, 0.3


def plot_model(
    model: "Container", to_file: Path | str = "model.png", show_shapes: bool = False
) -> None:
    """Draws the layers as boxes and what they read as arrows, inputs above.

    A layer stands a row below the last of those it reads; an arrow from farther above passes the
    boxes between in a lane of its own. The picture's size grows with the graph.

    Args:
        model: to draw.
        to_file: PNG, PDF or SVG, by its suffix; its folder is made.
        show_shapes: write the output's shape below each name.

    Raises:
        TypeError: it is no model.
        ValueError: the suffix is of no format that Matplotlib writes.
    """
    if not hasattr(model, "graph"):
        raise TypeError(f"plot_model draws a Model; found {type(model).__name__}")
    texts, colours = _texts(model, show_shapes)
    widths = {name: _width(text) for name, text in texts.items()}
    layout = laid_out(widths, _edges(model), lane=_LANE)
    row_height = 0.95 if show_shapes else 0.75
    width, height = layout.width + 2 * _MARGIN, len(layout.rows) * row_height
    figure = Figure(figsize=(width, height + 2 * _MARGIN), dpi=_DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-_MARGIN, width - _MARGIN), ylim=(height + _MARGIN, -_MARGIN))
    axes.axis("off")
    boxes = {
        name: axes.text(
            layout.x[name], (layout.row[name] + 0.5) * row_height, text,
            ha="center", va="center", fontsize=8, zorder=2,
            bbox={"boxstyle": "round,pad=0.35", "facecolor": colours[name], "edgecolor": "#666666"},
        )
        for name, text in texts.items()
    }  # fmt: skip
    figure.draw_without_rendering()  # arrows end at boxes, whose sizes are known from now on
    for edge, lane in layout.lanes.items():
        upper, lower = sorted(edge, key=layout.row.__getitem__)
        axes.add_patch(
            FancyArrowPatch(
                path=_curve(axes, boxes[upper], boxes[lower], _passed(layout, lane, row_height)),
                arrowstyle="-|>" if edge[0] == upper else "<|-", mutation_scale=9, lw=0.9,
                color=_LINE, zorder=1,
            )
        )  # fmt: skip
    path = Path(to_file)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _passed(layout: Layout, lane: tuple[str, ...], row_height: float) -> list[tuple[float, float]]:
    """Returns where an arrow enters and leaves each row that it passes."""
    return [
        (layout.x[name], (layout.row[name] + side) * row_height)
        for name in lane
        for side in (0.2, 0.8)
    ]


def _curve(axes: Axes, upper: Text, lower: Text, between: list[tuple[float, float]]) -> Curve:
    """Returns a path from below a box to above another: upright past rows, bent between them."""
    (_, bottom), (top, _) = _sides(axes, upper), _sides(axes, lower)
    points = [(upper.get_position()[0], bottom), *between, (lower.get_position()[0], top)]
    vertices, codes = [points[0]], [Curve.MOVETO]
    for index, ((x, y), (to_x, to_y)) in enumerate(zip(points, points[1:], strict=False)):
        if index % 2:  # from where it enters a row to where it leaves it
            vertices.append((to_x, to_y))
            codes.append(Curve.LINETO)
        else:
            middle = (y + to_y) / 2
            vertices += [(x, middle), (to_x, middle), (to_x, to_y)]
            codes += [Curve.CURVE4] * 3
    return Curve(vertices, codes)


def _sides(axes: Axes, text: Text) -> tuple[float, float]:
    """Returns the y of a box's upper and lower sides; y grows downwards."""
    patch = text.get_bbox_patch()
    assert patch is not None  # every text was given one
    corners = patch.get_window_extent().transformed(axes.transData.inverted())
    return corners.ymin, corners.ymax


def _width(text: str) -> float:
    return _LETTER * max(map(len, text.split("\n"))) + 0.5


def _texts(model: "Container", show_shapes: bool) -> tuple[dict[str, str], dict[str, str]]:
    """Returns what stands in each box and its colour, by name, in the order of `model.layers`."""
    graph = model.graph
    inputs = {tensor.name: tensor for tensor in model.inputs}
    calls = calls_by_layer(graph)
    texts, colours = {}, {}
    for name in graph.layer_order:
        kind = "Input" if name in inputs else type_name(graph.layers[name])
        shape = str(inputs[name].shape) if name in inputs else shown_output(calls[name])
        texts[name] = f"{name}: {kind}" + (f"\n{shape}" if show_shapes else "")
        colours[name] = _INPUT if name in inputs else _LAYER
    return texts, colours


def _edges(model: "Container") -> list[tuple[str, str]]:
    """Returns (read, reader) by name, each pair once."""
    graph, origin = model.graph, origins(model.graph)
    found = {
        (origin[id(tensor)].name, name): None
        for name, node in zip(graph.node_names, graph.nodes, strict=True)
        for tensor in jax.tree.leaves(node.inputs)
    }
    return [edge for edge in found if edge[0] != edge[1]]
