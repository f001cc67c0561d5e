"""Where the boxes and arrows of a drawn graph stand: rows, their order, and places in them.

Source: Sugiyama, Tagawa and Toda, "Methods for visual understanding of hierarchical system
structures" (1981): an edge past a row is a thing of that row, with a lane of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

Edge = tuple[str, str]
# Down and up by turns, which orders the rows; then by both neighbours, which straightens chains.
_ORDERING, _STRAIGHTENING = 12, 60


@dataclass(frozen=True)
class Layout:
    """Places of boxes and lanes, in the unit of the widths.

    Attributes:
        rows: names of the boxes and lanes in each row, from the left.
        row: of each name.
        x: the middle of each name's box or lane; the leftmost box begins at 0.
        lanes: for each edge the names of the lanes that it runs through, one in each row between,
            from above.
        width: of it all.
    """

    rows: list[list[str]]
    row: dict[str, int]
    x: dict[str, float]
    lanes: dict[Edge, tuple[str, ...]]
    width: float


def laid_out(widths: Mapping[str, float], edges: Sequence[Edge], *, lane: float) -> Layout:
    """Places boxes in rows, each below those that it reads.

    Args:
        widths: of the boxes, gaps included, by name.
        edges: (read, reader), in the order of the calls; one that leads back to an earlier layer
            goes up.
        lane: width that an edge takes in each row that it passes.
    """
    depth = _depths(list(widths), edges)
    of = dict(widths)
    lanes: dict[Edge, tuple[str, ...]] = {}
    steps: list[Edge] = []
    for edge in edges:
        upper, lower = sorted(edge, key=depth.__getitem__)
        rows_between = range(depth[upper] + 1, depth[lower])
        lanes[edge] = tuple(f"{edge[0]} → {edge[1]}, row {row}" for row in rows_between)
        for name, row in zip(lanes[edge], rows_between, strict=True):
            of[name], depth[name] = lane, row
        steps += pairwise((upper, *lanes[edge], lower))
    rows: list[list[str]] = [[] for _ in range(max(depth.values()) + 1)]
    for name in of:
        rows[depth[name]].append(name)
    x = _places(rows, steps, of)
    left = min(x[name] - of[name] / 2 for name in of)
    width = max(x[name] + of[name] / 2 for name in of) - left
    return Layout(rows, depth, {name: place - left for name, place in x.items()}, lanes, width)


def _depths(names: list[str], edges: Sequence[Edge]) -> dict[str, int]:
    """Returns the row of each name: below the last of those it reads, no row left empty."""
    edges = _without_circles(names, edges)
    depth = dict.fromkeys(names, 0)
    before = {}
    while depth != before:
        before = dict(depth)
        for start, end in edges:
            depth[end] = max(depth[end], depth[start] + 1)
    # An input that is read far below stands a row above its reader, not at the very top.
    for name in names:
        readers = [depth[end] for start, end in edges if start == name]
        if readers and not any(end == name for _, end in edges):
            depth[name] = max(depth[name], min(readers) - 1)
    used = {row: place for place, row in enumerate(sorted(set(depth.values())))}
    return {name: used[row] for name, row in depth.items()}


def _without_circles(names: list[str], edges: Sequence[Edge]) -> list[Edge]:
    """Leaves out edges that lead back: drawn once, a shared layer may read its own later output."""
    reached = {name: {name} for name in names}
    kept = []
    for start, end in edges:
        if start not in reached[end]:
            kept.append((start, end))
            for found in reached.values():
                if start in found:
                    found |= reached[end]
    return kept


def _places(
    rows: list[list[str]], steps: Sequence[Edge], widths: Mapping[str, float]
) -> dict[str, float]:
    """Returns the middle of each name, having ordered the rows: near what it is joined to."""
    above: dict[str, list[str]] = {}
    below: dict[str, list[str]] = {}
    for start, end in steps:
        above.setdefault(end, []).append(start)
        below.setdefault(start, []).append(end)
    x: dict[str, float] = {}
    for row in rows:
        _place_row(row, x, above, widths, dict.fromkeys(row, 0.0).__getitem__)
    for sweep in range(_ORDERING):
        down = sweep % 2 == 0
        for row in rows if down else rows[::-1]:
            _place_row(row, x, above if down else below, widths, x.__getitem__)
    both = {name: above.get(name, []) + below.get(name, []) for name in widths}
    for sweep in range(_STRAIGHTENING):
        for row in rows if sweep % 2 else rows[::-1]:
            _place_row(row, x, both, widths, x.__getitem__)
    return x


def _place_row(
    row: list[str],
    x: dict[str, float],
    joined: Mapping[str, list[str]],
    widths: Mapping[str, float],
    default: Callable[[str], float],
) -> None:
    """Orders a row by where its names want to be, and puts them there as far as they fit."""
    wanted = {}
    for name in row:
        known = [x[other] for other in joined.get(name, []) if other in x]
        wanted[name] = sum(known) / len(known) if known else default(name)
    row.sort(key=wanted.__getitem__)
    gaps = [(widths[a] + widths[b]) / 2 for a, b in pairwise(row)]
    # As far to the left as each may stand, and as far to the right: between them all fit.
    right = [wanted[name] for name in row]
    left = list(right)
    for index, gap in enumerate(gaps, 1):
        right[index] = max(right[index], right[index - 1] + gap)
    for index in range(len(gaps) - 1, -1, -1):
        left[index] = min(left[index], left[index + 1] - gaps[index])
    for name, one, other in zip(row, left, right, strict=True):
        x[name] = (one + other) / 2
