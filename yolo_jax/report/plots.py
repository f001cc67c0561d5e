"""The plots of a report, as Plotly takes them: traces and a layout; the page gives the colours."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

from yolo_jax.report.details import Details
from yolo_jax.report.runs import Columns, Run
from yolo_jax.report.sets import Group, RunSet, figure

Plot = dict[str, Any]
_SPREAD = 50  # greatest by least value of a field from which its axis is of powers of ten
_NUMBERED = 12  # classes of a confusion matrix up to which its cells have numbers
_EPOCH_TICKS = 8
_NAMES = 12  # of classes beside the matrix: more would lie on each other on a phone
_CONFUSIONS = 20  # the largest, that are told in words
_NAME = 16  # letters of a class's name beside the matrix
_AROUND, _LINE, _GAP = 110, 16, 22  # px of the plot of groups, of a line of a name, between names
_TICKS = 6  # values of a field up to which an axis names each


def _plot(data: Sequence[Plot], x: str, y: str, *, title: str, **layout: Any) -> Plot:
    axes = {"xaxis": {"title": {"text": x}}, "yaxis": {"title": {"text": y}}}
    for name, more in layout.items():
        axes[name] = axes.get(name, {}) | more
    return {"title": title, "data": list(data), "layout": axes}


def _line(x: Sequence[Any], y: Sequence[Any], name: str, **more: Any) -> Plot:
    # Plotly takes a name for HTML, of a small kind.
    line = {"type": "scatter", "mode": "lines+markers", "x": x, "y": y, "name": escape(name)}
    return line | {"connectgaps": True} | more


def _epochs(columns: Columns) -> list[float]:
    """Returns the epochs' numbers from 1, as progress shows them."""
    return [epoch + 1 for epoch in columns.get("epoch", ()) if epoch is not None]


def _whole_epochs(count: int) -> Plot:
    """Returns an axis whose ticks are at whole epochs."""
    return {"tick0": 1, "dtick": max(1, -(-count // _EPOCH_TICKS))}


def compared(
    runs: Sequence[Run], groups: Mapping[str, Group], column: str, title: str
) -> Plot | None:
    """Returns a column of history.csv by epoch, a line for each run; None where none has it.

    Runs of one group have one colour, and one entry in the legend.

    Args:
        runs: to show; one of no group, or that repeats a seed, stands for itself.
        groups: by name, in their order.
        column: of history.csv.
        title: of the plot.
    """
    places, named = _places(runs, groups), set()
    lines = []
    for run in runs:
        if all(value is None for value in run.history.get(column, ())):
            continue
        name, number = places[run.path]
        more = {
            "legendgroup": name,
            "line": {"color": number},
            "showlegend": name not in named,
            "hovertemplate": f"%{{y}}<extra>{escape(run.name)}</extra>",
        }
        named.add(name)
        lines.append(_line(_epochs(run.history), run.history[column], name, **more))
    if not lines:
        return None
    axis = _whole_epochs(max(run.epochs for run in runs))
    title += ", a colour a group" if len(named) < len(lines) else ""
    return _plot(lines, "epoch", "", title=title, xaxis=axis)


def _places(runs: Sequence[Run], groups: Mapping[str, Group]) -> dict[Path, tuple[str, int]]:
    """Returns by a run's path what it counts for, its group or itself, and the number of that."""
    group_of = {run.path: name for name, one in groups.items() for run in one.runs}
    numbers = {name: number for number, name in enumerate(groups)}
    named = {run.path: group_of.get(run.path, run.name) for run in runs}
    return {path: (n, numbers.setdefault(n, len(numbers))) for path, n in named.items()}


def by_group(groups: Mapping[str, Group]) -> Plot | None:
    """Returns the held-out AP50 by group: a dot for each seed, and their mean and deviation.

    None where no group has two seeds, or there is one group alone.

    Args:
        groups: by name, in their order.
    """
    spreads = {name: group.spread("AP50") for name, group in groups.items()}
    known = {name: spread for name, spread in spreads.items() if spread is not None}
    if len(known) < 2 or all(spread.deviation is None for spread in known.values()):
        return None
    dots = [
        (figure(run, "AP50"), name)
        for name in known
        for run in groups[name].runs
        if run.is_complete and figure(run, "AP50") is not None
    ]
    # A field a line, for a phone has no room for more.
    labels = {name: escape(name).replace(", ", "<br>") for name in known}
    height = _AROUND + sum(_LINE * (1 + label.count("<br>")) + _GAP for label in labels.values())
    seeds = {
        "type": "scatter", "mode": "markers", "name": "a seed", "marker": {"opacity": 0.6},
        "x": [value for value, _ in dots], "y": [labels[name] for _, name in dots],
    }  # fmt: skip
    means = {
        "type": "scatter", "mode": "markers", "name": "mean ± standard deviation",
        "marker": {"symbol": "line-ns-open", "size": 16},
        "x": [spread.mean for spread in known.values()], "y": list(labels.values()),
        "error_x": {"type": "data", "array": [one.deviation or 0 for one in known.values()]},
    }  # fmt: skip
    # The first group stands at the top, as in the table.
    axis = {"autorange": "reversed", "type": "category", "automargin": True}
    plot = _plot([seeds, means], "held-out AP50", "", title="Held-out AP50 by group", yaxis=axis)
    return plot | {"height": height}


def losses(run: Run) -> Plot | None:
    """Returns the loss by epoch, training and validation."""
    lines = [
        _line(_epochs(run.history), run.history[column], name)
        for column, name in (("loss", "training"), ("val_loss", "validation"))
        if column in run.history
    ]
    if not lines:
        return None
    return _plot(lines, "epoch", "loss", title="Loss", xaxis=_whole_epochs(run.epochs))


def loss_terms(run: Run) -> Plot | None:
    """Returns the terms of the loss by epoch: a colour for each, validation dashed."""
    names = [n for n in run.history if n.endswith("_loss") and not n.startswith("val_")]
    lines = []
    for number, name in enumerate(names):
        more = {"legendgroup": name, "line": {"color": number}}
        label = name.removesuffix("_loss").replace("_", " ")
        lines.append(_line(_epochs(run.history), run.history[name], label, **more))
        if (column := f"val_{name}") in run.history:
            more = more | {"line": {"color": number, "dash": "dot"}, "showlegend": False}
            label = f"{label}, validation"
            lines.append(_line(_epochs(run.history), run.history[column], label, **more))
    if not lines:
        return None
    title = "Terms of the loss (validation dotted)"
    return _plot(lines, "epoch", "", title=title, xaxis=_whole_epochs(run.epochs))


def validation_ap(run: Run) -> Plot | None:
    """Returns the average precision of the validation images by epoch, where it was measured."""
    lines = [
        _line(_epochs(run.history), run.history[f"val_{name}"], name)
        for name in ("AP50", "AP")
        if any(value is not None for value in run.history.get(f"val_{name}", ()))
    ]
    if not lines:
        return None
    return _plot(
        lines, "epoch", "", title="Validation AP", xaxis=_whole_epochs(run.epochs),
        yaxis={"rangemode": "tozero"},
    )  # fmt: skip


def precision_recall(run: Run) -> Plot | None:
    """Returns precision by recall of all held-out images; of sources and classes when asked for."""
    if run.details is None:
        return None
    step, curves = run.details["recall_step"], run.details["precision"]
    recall = [round(step * i, 4) for i in range(len(curves["all"]))]
    lines = [_line(recall, curves["all"], "all", mode="lines")]
    for kind in ("sources", "classes"):
        several = len(curves[kind]) > 1
        lines += [
            _line(recall, curve, name, mode="lines", visible="legendonly")
            for name, curve in curves[kind].items()
            if several and any(value is not None for value in curve)
        ]
    whole = {"range": [0, 1.02]}
    title = f"Precision by recall, IoU ≥ {run.details['iou']:g}"
    return _plot(lines, "recall", "precision", title=title, xaxis=whole, yaxis=whole)


def confusion(run: Run) -> Plot | None:
    """Returns the confusion matrix: true classes downwards, found ones to the right."""
    if run.details is None:
        return None
    names = [escape(_short(name)) for name in matrix_names(run.details, run.classes)]
    places, counts = list(range(len(names))), run.details["confusion"]
    # By numbers, for two classes may have one name; colours by shares of a row, for classes differ.
    shares = [[count / max(sum(row), 1) for count in row] for row in counts]
    cells: Plot = {
        "type": "heatmap",
        "x": places,
        "y": places,
        "z": shares,
        "text": counts,
        "meta": names,  # of which the page makes those of each cell
        "hovertemplate": "true %{customdata[0]}, found %{customdata[1]}: %{text}<extra></extra>",
        "showscale": False,
        "zmin": 0,
        "zmax": 1,
        "xgap": 1,
        "ygap": 1,
    }
    if len(names) <= _NUMBERED:
        cells |= {"texttemplate": "%{text}"}
    last = places[-1]
    step = max(1, -(-last // (_NAMES - 1)))
    ticked = [*(place for place in places[::step] if last - place >= step), last]
    ticks = {"tickvals": ticked, "ticktext": [names[place] for place in ticked]}
    ticks |= {"automargin": True, "showgrid": False}
    title = f"Confusion matrix, score ≥ {run.details['threshold']:g}"
    return _plot(
        [cells], "found", "true", title=title, xaxis=ticks | {"tickangle": -45},
        yaxis=ticks | {"autorange": "reversed"},
    )  # fmt: skip


def largest_confusions(run: Run) -> list[tuple[str, str, int, float]]:
    """Returns what was most often taken for something else, most often first.

    Each with the true class, the one that was found, how often, and the share of the true ones.
    """
    if run.details is None:
        return []
    names, counts = matrix_names(run.details, run.classes), run.details["confusion"]
    found = [
        (names[i], names[j], count, count / sum(row))
        for i, row in enumerate(counts)
        for j, count in enumerate(row)
        if i != j and count > 0
    ]
    return sorted(found, key=lambda one: -one[2])[:_CONFUSIONS]


def matrix_names(details: Details, classes: Sequence[str]) -> list[str]:
    """Returns the names of the matrix's rows: numbers where those of the classes do not fit it."""
    count = len(details["confusion"]) - 1
    known = classes if len(classes) == count else map(str, range(count))
    return [*known, "background"]


def _short(name: str) -> str:
    return name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"


def speed(run: Run) -> Plot | None:
    """Returns images a second and the share of input wait, by epoch."""
    if not run.speed:
        return None
    epochs = _epochs(run.speed)
    waits = [None if w is None else 100 * w for w in run.speed.get("input_wait", ())]
    lines = [
        _line(epochs, run.speed.get("images_per_second", ()), "images a second"),
        _line(epochs, waits, "waiting for data, %", yaxis="y2"),
    ]
    second = {"title": {"text": "%"}, "overlaying": "y", "side": "right", "rangemode": "tozero"}
    return _plot(
        lines, "epoch", "images/s", title="Speed", xaxis=_whole_epochs(len(epochs)),
        yaxis={"rangemode": "tozero"}, yaxis2=second | {"showgrid": False, "tickmode": "auto"},
    )  # fmt: skip


def parallel_coordinates(
    chosen: RunSet, groups: Mapping[str, Group], labels: Mapping[str, str]
) -> Plot | None:
    """Returns the complete runs as lines over the fields that differ, and what came of them.

    Args:
        chosen: the runs.
        groups: of them by name, in their order.
        labels: what the fields are called, by dotted name, in the order of the axes.
    """
    runs = [r for r in chosen.runs if r.is_complete and r.last("val_loss") is not None]
    # What no run of them has otherwise than the others tells nothing.
    values = {name: [(run.config or {}).get(name) for run in runs] for name in labels}
    axes = [
        _axis(labels[name], found)
        for name, found in values.items()
        if any(one != found[0] for one in found)
    ]
    if len(runs) < 2 or not axes:
        return None
    loss = [run.last("val_loss") for run in runs]
    axes.append({"label": "validation loss", "values": loss})
    figures = ("val_AP50", "validation AP50"), ("AP50", "held-out AP50"), ("AP", "held-out AP")
    for name, label in figures:
        found = [figure(run, name) for run in runs]
        if None not in found:
            axes.append({"label": label, "values": found})
    title = f"Parallel coordinates of {len(runs)} of {len(chosen.runs)} runs"
    line: Plot = {"showscale": False}
    if (ranking := chosen.ranking()) is not None:
        # The best are blue.
        of_rank = [run.last(ranking) for run in runs]
        line |= {"color": of_rank, "reversescale": ranking == "val_AP50"}
        by = "validation loss" if ranking == "val_loss" else "validation AP50"
        title += f", coloured by {by}, the best blue"
    elif len(groups) > 1:
        places = _places(runs, groups)
        line["color"] = [places[run.path][1] for run in runs]  # of the curves
        title += ", a colour a group"
    meta = "rank" if ranking is not None else "group"  # that the colours are of
    trace = {"type": "parcoords", "dimensions": axes, "line": line, "meta": meta}
    return {"title": title, "data": [trace], "layout": {}}


def _axis(label: str, values: Sequence[Any]) -> Plot:
    """Returns an axis of parallel coordinates: of numbers, of their logarithms, or of words."""
    axis: Plot = {"label": escape(label)}
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values):
        words = sorted({shown(value) for value in values})
        places = [words.index(shown(value)) for value in values]
        names = [escape(word) for word in words]
        return axis | {"values": places, "tickvals": list(range(len(words))), "ticktext": names}
    numbers = sorted(set(values))
    is_log = numbers[0] > 0 and numbers[-1] / numbers[0] >= _SPREAD
    scaled = math.log10 if is_log else float
    axis["values"] = [scaled(value) for value in values]
    apart = min(b - a for a, b in pairwise(map(scaled, numbers)))
    legible = apart > 0.05 * (scaled(numbers[-1]) - scaled(numbers[0]))
    if is_log and (len(numbers) > _TICKS or not legible):
        powers = range(math.floor(scaled(numbers[0])), math.ceil(scaled(numbers[-1])) + 1)
        numbers = [10.0**power for power in powers]
    elif len(numbers) > _TICKS or not legible:
        return axis
    return axis | {"tickvals": list(map(scaled, numbers)), "ticktext": list(map(shown, numbers))}


def shown(value: Any) -> str:
    """Returns a field's value as the page shows it."""
    match value:
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
        case None:
            return "none"
        case list():
            return ", ".join(map(shown, value)) or "none"
    return str(value)
