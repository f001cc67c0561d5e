"""A model as a picture: `plot_model`."""

from pathlib import Path
from typing import TYPE_CHECKING

import jax
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from yolo_jax.model.summary import calls_by_layer, name_of, type_name

if TYPE_CHECKING:
    from yolo_jax.model.container import Container

_DPI = 100
_INPUT, _LAYER = "#cfe8fc", "#f1f1f1"


def plot_model(
    model: "Container", to_file: Path | str = "model.png", show_shapes: bool = False
) -> None:
    """Draws the layers as boxes and what they read as arrows, inputs above.

    A layer stands a row below the last of those it reads. The picture's size grows with the graph.

    Args:
        model: to draw.
        to_file: PNG, PDF or SVG, by its suffix; its folder is made.
        show_shapes: write the output's shape below each name.
    """
    texts, kinds = _texts(model, show_shapes)
    edges = _edges(model)
    rows = _rows(list(texts), edges)
    places = _places(rows, edges)
    wide = max(len(row) for row in rows)
    longest = max(len(line) for text in texts.values() for line in text.split("\n"))
    cell_width, cell_height = 0.085 * longest + 0.5, 0.95 if show_shapes else 0.75
    width, height = max(wide * cell_width, cell_width), len(rows) * cell_height
    figure = Figure(figsize=(width + 0.4, height + 0.2), dpi=_DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-0.2, width + 0.2), ylim=(height + 0.1, -0.1))
    axes.axis("off")
    centres = {
        name: (width / 2 + column * cell_width, (row + 0.5) * cell_height)
        for name, (column, row) in places.items()
    }
    boxes = {
        name: axes.text(
            *centre, texts[name], ha="center", va="center", fontsize=8, zorder=2,
            bbox={"boxstyle": "round,pad=0.35", "facecolor": kinds[name], "edgecolor": "#666666"},
        )
        for name, centre in centres.items()
    }  # fmt: skip
    figure.draw_without_rendering()  # an arrow ends at a box, whose size is known from now on
    for start, end in edges:
        far = places[end][1] - places[start][1] > 1
        # An arrow past other rows swings out, so that it does not run through their boxes.
        bend = 0.25 if far and abs(places[end][0] - places[start][0]) < 0.4 else 0.0
        axes.add_patch(
            FancyArrowPatch(
                centres[start], centres[end], arrowstyle="-|>", mutation_scale=9, lw=0.9,
                color="#444444", connectionstyle=f"arc3,rad={bend}", zorder=1,
                patchA=boxes[start].get_bbox_patch(), patchB=boxes[end].get_bbox_patch(),
            )
        )  # fmt: skip
    path = Path(to_file)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _texts(model: "Container", show_shapes: bool) -> tuple[dict[str, str], dict[str, str]]:
    """Returns what stands in each box and its colour, by name, in the order of `model.layers`."""
    graph = model.graph
    inputs = {tensor.name: tensor for tensor in model.inputs}
    calls = calls_by_layer(graph)
    texts, kinds = {}, {}
    for name in graph.layer_order:
        kind = "Input" if name in inputs else type_name(graph.layers[name])
        outputs = [inputs[name]] if name in inputs else jax.tree.leaves(calls[name][0].outputs)
        shapes = "\n" + ", ".join(str(tensor.shape) for tensor in outputs) if show_shapes else ""
        texts[name] = f"{name}: {kind}{shapes}"
        kinds[name] = _INPUT if name in inputs else _LAYER
    return texts, kinds


def _edges(model: "Container") -> list[tuple[str, str]]:
    """Returns (read, reader) by name, each pair once."""
    graph = model.graph
    found = {
        (name_of(graph, tensor), name): None
        for name, node in zip(graph.node_names, graph.nodes, strict=True)
        for tensor in jax.tree.leaves(node.inputs)
    }
    return [edge for edge in found if edge[0] != edge[1]]


def _rows(names: list[str], edges: list[tuple[str, str]]) -> list[list[str]]:
    """Puts each name a row below the last of those it reads."""
    depth = dict.fromkeys(names, 0)
    # As many rounds as the longest path: a shared layer may read its own later outputs, which a
    # bound keeps from going on for ever.
    for _ in names:
        before = dict(depth)
        for start, end in edges:
            depth[end] = min(max(depth[end], depth[start] + 1), len(names) - 1)
        if depth == before:
            break
    used = sorted(set(depth.values()))
    return [[name for name in names if depth[name] == row] for row in used]


def _places(rows: list[list[str]], edges: list[tuple[str, str]]) -> dict[str, tuple[float, int]]:
    """Returns (column about the middle, row) of each name: below what it reads, a cell apart."""
    places: dict[str, tuple[float, int]] = {}
    for number, row in enumerate(rows):
        wanted = {}
        for name in row:
            above = [places[start][0] for start, end in edges if end == name and start in places]
            wanted[name] = sum(above) / len(above) if above else 0.0
        middle = sum(wanted.values()) / len(row)
        first = middle - (len(row) - 1) / 2
        widest = (max(len(each) for each in rows) - 1) / 2
        first = min(max(first, -widest), widest - (len(row) - 1))
        for index, name in enumerate(sorted(row, key=lambda name: wanted[name])):
            places[name] = (first + index, number)
    return places
