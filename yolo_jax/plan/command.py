"""`yolo-jax plan CONFIG --target v5e:16x16`: the config's own step, compiled for a slice of TPUs.

XLA's compiler says exactly what a chip holds, multiplies and moves. The times are bounds: that of
the step by arithmetic and memory (a roofline), that of the links by their bandwidth.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from yolo_jax.config import ExperimentConfig
from yolo_jax.core.fields import check_fields
from yolo_jax.plan.chips import Place, place_of
from yolo_jax.plan.fit import fit_rows
from yolo_jax.plan.step import step_figures


def plan(
    config: ExperimentConfig,
    target: str,
    json_file: Path | None = None,
    plot: Path | None = None,
    *,
    fit: bool = False,
) -> dict[str, Any]:
    """Prints what a config's training takes on a slice of TPUs or on GPUs; returns the figures.

    Args:
        config: whose data are read, for the shapes of a batch and the steps of an epoch.
        target: such as v5e:16x16.
        json_file: for the figures.
        plot: picture of images a second by number of chips.
        fit: find the largest batch that fits, in place of the config's.

    Raises:
        ValueError: there is no such target, or the batch does not divide among its chips.
    """
    check_fields(config)
    if fit and plot is not None:
        raise ValueError("--plot draws a batch that is known; leave it or --fit out")
    place = place_of(target)
    rows = config.rows(place.chips)
    if rows % place.chips and not fit:
        raise ValueError(
            f"a batch of {rows} rows does not divide among the {place.chips} chips of {target}; "
            f"give --batch-size a multiple of {place.chips}, or --batch-size-per-device in its "
            "place (with --batch-size None)"
        )
    if fit:
        choices = fit_rows(config, place)
        print_choices(config, place, choices)
        record: dict[str, Any] = {"fit": choices}
    else:
        figures = step_figures(config, place, rows)
        print_figures(config, place, rows, figures)
        record = {"rows": rows, "figures": figures}
        if plot is not None:
            draw_scaling(place, rows // place.chips, figures, plot)
    if json_file is not None:
        record |= {"target": target, "estimated": place.is_estimated}
        record |= {"strategy": config.parallel.strategy}
        json_file.write_text(json.dumps(record, indent=2) + "\n")
    return record


def print_figures(
    config: ExperimentConfig, place: Place, rows: int, figures: dict[str, Any]
) -> None:
    """Prints a table."""
    print(
        f"{config.name}: {config.network.kind} at {config.network.input_size}², {rows} images a "
        f"batch on {place.name} ({place.chips} chips, {place.hosts} hosts), "
        f"{config.parallel.strategy}; bounds, not measurements"
    )
    for name, value in figures.items():
        if isinstance(value, dict):
            for part, size in value.items():
                print(f"    {part:36s}{size:10.4f}")
        elif isinstance(value, list):
            print(f"  {name:38s}{', '.join(map(str, value)):>10}")
        else:
            print(f"  {name:38s}{value!s:>10}")
    if place.is_estimated:
        print(
            f"Estimated: computed and moved is what the same step does that is compiled for "
            f"{place.compiled_for.name}, memory {place.memory_factor} times; times are by the "
            f"peaks of {place.name}"
        )


def print_choices(
    config: ExperimentConfig, place: Place, choices: Sequence[dict[str, Any]]
) -> None:
    """Prints a table of the largest batches that fit."""
    print(
        f"{config.name}: {config.network.kind} at {config.network.input_size}², most rows that fit "
        f"{place.name}, {config.parallel.strategy}; images/s are bounds, not measurements"
    )
    print("  remat  accumulate  rows a chip  GiB a chip  of which has  images/s  compiles")
    for one in choices:
        print(
            f"  {one['remat']!s:5}  {one['accumulate']:10d}  {one['rows a chip']:11d}"
            f"  {one['GiB a chip']:10.2f}  {place.chip.hbm_gib:12.2f}  {one['images/s']:8.0f}"
            f"  {one['compiles']:8d}"
        )


def draw_scaling(place: Place, rows: int, figures: dict[str, Any], path: Path) -> None:
    """Draws images a second by the number of chips, each with as many rows as here.

    Args:
        place: the slice.
        rows: of a chip.
        figures: of it.
        path: of the picture.
    """
    places = place.up_to_it()
    counts = [part.chips for part in places]
    alone = max(figures["ms by FLOPs"], figures["ms by bytes of HBM"]) / 1e3
    gathered = figures["all-gathered MB"] + figures["reduce-scattered MB"]
    size = (figures["all-reduced MB"] + gathered / 2) * 1e6
    bound = [part.chips * rows / (alone + part.all_reduce_seconds(size)) for part in places]
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    axes.plot(counts, [n * rows / alone for n in counts], "--", color="grey", label="without links")
    axes.plot(counts, bound, "o-", label="with the links after the rest")
    axes.set(xscale="log", yscale="log", xlabel=f"chips of {place.name}", ylabel="images/s (bound)")
    axes.set_xticks(counts, [str(n) for n in counts])
    axes.set_yticks(bound, [f"{speed:,.0f}" for speed in bound])
    axes.minorticks_off()
    axes.set_title(f"{rows} images a chip")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)
    plt.close(figure)
