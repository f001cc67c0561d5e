"""A report's page: one HTML file with everything in it, for any browser, and without a network."""

import base64
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from plotly.offline import get_plotlyjs

from yolo_jax.report import plots
from yolo_jax.report.details import Example
from yolo_jax.report.runs import Run
from yolo_jax.report.sets import Group, RunSet, Spread, figure, input_wait, usual_speed

# By it a later report knows a page of its own, which it may write over.
MARK = '<meta name="generator" content="yolo-jax report">'
# Of the tables: what the column is called, and the figure's name.
_FIGURES = {
    "val_loss": "validation loss",
    "val_AP50": "validation AP50",
    "AP50": "held-out AP50",
    "AP": "held-out AP",
}
_WITH_PICTURES = 24  # runs whose worst and best images are in the page, some 0.3 MB of each
_LARGE = 10_000  # from which a figure has four digits alone, as of a loss that runs away


def render(sets: Sequence[RunSet]) -> str:
    """Returns the page of some sets of runs."""
    here = files("yolo_jax.report")
    environment = jinja2.Environment(
        autoescape=True,  # names are the user's, and may hold anything
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": _number,
        "spread": _spread,
        "against": _against,
        "shown": plots.shown,
    }
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False}  # no browser reads it
    template = environment.from_string((here / "page.html").read_text(encoding="utf-8"))
    drawn: dict[str, plots.Plot] = {}
    with_pictures = _best(sets, _WITH_PICTURES)
    sections, number = [], 0
    for chosen in sets:
        section = _section(chosen, len(sections), drawn)
        for run in section["runs"]:
            number += 1
            run["id"] = f"run-{number}"
            is_pictured = run["run"].path in with_pictures
            run["examples"] = _examples(run["run"]) if is_pictured else []
            run["lacks_pictures"] = run["run"].details is not None and not is_pictured
            run["plots"] = _register(drawn, _plots_of(run["run"]), run["id"])
        sections.append(section)
    return template.render(
        mark=MARK,
        sections=sections,
        count=number,
        with_pictures=_WITH_PICTURES,
        written=f"{datetime.now():%Y-%m-%d %H:%M}",
        plots=drawn,
        style=(here / "page.css").read_text(encoding="utf-8"),
        script=(here / "page.js").read_text(encoding="utf-8"),
        plotly=get_plotlyjs(),
    )


def _best(sets: Sequence[RunSet], count: int) -> set[Path]:
    """Returns the first runs that have pictures, in the order of their groups."""
    ordered = [
        run
        for chosen in sets
        for run in (*(run for group in chosen.groups() for run in group.runs), *chosen.runs)
        if run.details is not None
    ]
    return set(list(dict.fromkeys(run.path for run in ordered))[:count])


def _section(chosen: RunSet, number: int, drawn: dict[str, plots.Plot]) -> dict[str, Any]:
    """Returns what the template shows of a set; its plots are added to those that are drawn."""
    varied = _labels(chosen.varied())
    grouped = [(_group_name(group, varied, chosen), group) for group in chosen.groups()]
    by_name, runs, compared = dict(grouped), chosen.runs, {}
    if len(runs) > 1:
        compared = {
            "groups": plots.by_group(by_name),
            "loss": plots.compared(runs, by_name, "val_loss", "Validation loss"),
            "ap": plots.compared(runs, by_name, "val_AP50", "Validation AP50"),
            "coordinates": plots.parallel_coordinates(chosen, by_name, varied),
        }
    # The validation images are scored only where that is asked for.
    is_scored = any(run.last("val_AP50") is not None for run in chosen.runs)
    figures = {k: v for k, v in _FIGURES.items() if k != "val_AP50" or is_scored}
    base = chosen.base_group()
    groups = [
        {
            "name": name,
            "runs": [run.name for run in group.runs],
            "repeats": [run.name for run in group.repeats],
            "figures": [group.spread(name) for name in figures],
            "against": group.against(base, "AP50") if base is not None and group.changes else None,
        }
        for name, group in grouped
    ]
    return {
        "set": chosen,
        "varied": varied,
        "figures": figures,
        "groups": groups,
        "is_held_against_base": any(group["against"] is not None for group in groups),
        "order": _order(chosen),
        "runs": [_run(run, chosen) for run in chosen.runs],
        "plots": _register(drawn, compared, f"set-{number}"),
    }


def _group_name(group: Group, labels: Mapping[str, str], chosen: RunSet) -> str:
    """Returns the changes of a group; of one without any `base`, or the first run's name."""
    if group.changes:
        return ", ".join(f"{labels[k]}={plots.shown(v)}" for k, v in group.changes.items())
    if chosen.trials:
        return "base"
    others = len(group.runs) - 1
    return group.runs[0].name + (f" and {others} more" if others else "")


def _order(chosen: RunSet) -> str:
    """Returns in words what the groups of a set stand by, and why."""
    why = f"runs of another {', '.join(chosen.loss_fields())} have losses of another kind"
    match chosen.ranking():
        case "val_loss":
            return "least validation loss first"
        case "val_AP50":
            return f"greatest validation AP50 first, for {why}"
    return f"not ranked, for {why} and not all have a validation AP50 (--validation-ap-every)"


def _labels(fields: Sequence[str]) -> dict[str, str]:
    """Returns what fields are called by dotted name: their last part, where no other has it."""
    last = [name.rpartition(".")[2] for name in fields]
    return {f: f if last.count(name) > 1 else name for f, name in zip(fields, last, strict=True)}


def _run(run: Run, chosen: RunSet) -> dict[str, Any]:
    figures = run.figures or {}
    per_class = [(n, ap["AP50"], ap["AP"]) for n, ap in figures.get("per_class", {}).items()]
    sources = figures.get("sources", {})
    # A source may be called `all` too.
    rows = [("all", figures), *sources.items()] if figures else []
    changes = chosen.changes(run)
    return {
        "run": run,
        "changes": changes,
        "fields": _fields(run, chosen) | changes,
        "figures": {name: figure(run, name) for name in _FIGURES},
        "speed": usual_speed(run),
        "wait": input_wait(run),
        "held_out": [(n, [part.get(key) for key in ("AP50", "AP75", "AP")]) for n, part in rows],
        "per_class": per_class,
        "skipped": figures.get("skipped", {}),
        "confusions": plots.largest_confusions(run),
    }


def _fields(run: Run, chosen: RunSet) -> dict[str, Any]:
    """Returns a run's fields, or of a trial without a config those that it is to have."""
    if run.config is not None:
        return run.config
    return chosen.base if run.name in chosen.trials else {}


def _plots_of(run: Run) -> dict[str, plots.Plot | None]:
    return {
        "losses": plots.losses(run),
        "terms": plots.loss_terms(run),
        "ap": plots.validation_ap(run),
        "precision": plots.precision_recall(run),
        "confusion": plots.confusion(run),
        "speed": plots.speed(run),
    }


def _examples(run: Run) -> list[tuple[str, list[dict[str, Any]]]]:
    """Returns titles, each with examples whose pictures are in the page itself."""
    if run.details is None:
        return []
    kinds = ("Worst images", run.details["worst"]), ("Best images", run.details["best"])
    return [(title, [_pictured(run, one) for one in found]) for title, found in kinds if found]


def _pictured(run: Run, example: Example) -> dict[str, Any]:
    """Returns an example with its picture as an address, or with why it cannot be read."""
    try:
        content = (run.path / example["picture"]).read_bytes()
    except OSError as error:
        return {**example, "fault": f"its picture cannot be read ({error})"}
    data = f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
    return {**example, "data": data, "fault": None}


def _register(
    drawn: dict[str, plots.Plot], made: dict[str, plots.Plot | None], owner: str
) -> list[dict[str, str]]:
    """Adds plots to those that the page draws, and returns where each stands, with its title."""
    places = []
    for name, plot in made.items():
        if plot is not None:
            place = f"{owner}-{name}"
            drawn[place] = plot
            places.append({"id": place, "kind": name, "title": plot["title"]})
    return places


def _number(value: float | None, digits: int = 3) -> str:
    if value is None:
        return "–"
    return f"{value:.{digits}f}" if abs(value) < _LARGE else f"{value:.4g}"


def _spread(value: Spread | None, runs: int) -> str:
    """Returns mean ± deviation (n), and of how many runs where not all count; of one the figure."""
    if value is None:
        return "–"
    count = f"{value.count} of {runs}" if value.count < runs else str(value.count)
    if value.deviation is None:
        return _number(value.mean) + (f" (n = {count})" if runs > 1 else "")
    return f"{_number(value.mean)} ± {_number(value.deviation)} (n = {count})"


def _against(value: Spread | None) -> str:
    """Returns a difference with its 95 % interval; of one seed without."""
    if value is None:
        return "–"
    interval = value.interval()
    bounds = "" if interval is None else f" [{interval[0]:+.3f}, {interval[1]:+.3f}]"
    return f"{value.mean:+.3f}{bounds} (n = {value.count})".replace("-", "−")
