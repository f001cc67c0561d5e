"""The plot of the held-out figures by group of seeds."""

import pytest
from made_runs import made_run

from yolo_jax.report import plots
from yolo_jax.report.sets import read_sets


def groups_of(paths):
    (found,) = read_sets(paths)
    return dict(zip("ab", found.groups(), strict=False))


def test_seeds_are_dots_around_their_mean(tmp_path):
    paths = [
        made_run(tmp_path / f"{box}_{seed}", {"seed": seed, "loss.box": box}, ap50=ap50)
        for box, seed, ap50 in [("yolov3", 0, 0.3), ("yolov3", 1, 0.5), ("ciou", 0, 0.45)]
    ]
    plot = plots.by_group(groups_of(paths))
    assert plot is not None
    seeds, means = plot["data"]
    assert sorted(zip(seeds["y"], seeds["x"], strict=True)) == [("a", 0.3), ("a", 0.5), ("b", 0.45)]
    assert means["y"] == ["a", "b"]
    assert means["x"] == [pytest.approx(0.4), 0.45]
    # The sample's: ((0.1² + 0.1²) / (2 − 1))^½
    assert means["error_x"]["array"] == [pytest.approx(0.02**0.5), 0]


def test_names_have_a_line_a_field_and_may_hold_anything(tmp_path):
    paths = [
        made_run(tmp_path / f"{box}_{seed}", {"seed": seed, "loss.box": box})
        for box in ("yolov3", "ciou")
        for seed in (0, 1)
    ]
    one, other = groups_of(paths).values()
    plot = plots.by_group({"x=<b>, y=2": one, "z=3": other})
    assert plot is not None
    assert plot["data"][1]["y"] == ["x=&lt;b&gt;<br>y=2", "z=3"]
    short = plots.by_group({"x": one, "z": other})
    assert short is not None
    assert plot["height"] > short["height"]


def test_what_has_no_seeds_or_no_rival_has_no_such_plot(tmp_path):
    paths = [made_run(tmp_path / box, {"loss.box": box}) for box in ("yolov3", "ciou")]
    assert plots.by_group(groups_of(paths)) is None
    paths = [made_run(tmp_path / f"seed_{seed}", {"seed": seed}) for seed in (0, 1)]
    assert plots.by_group(groups_of(paths)) is None


def test_curves_of_a_group_have_one_colour_and_one_name(tmp_path):
    paths = [
        made_run(tmp_path / f"{box}_{seed}", {"seed": seed, "loss.box": box})
        for box in ("yolov3", "ciou")
        for seed in (0, 1)
    ]
    (tmp_path / "ciou_1" / "config.json").unlink()  # it is of no group then
    (found,) = read_sets(paths)
    by_name = dict(zip("ab", found.groups(), strict=True))
    plot = plots.compared(found.runs, by_name, "val_loss", "Loss")
    assert plot is not None
    shown = [(one["name"], one["line"]["color"], one["showlegend"]) for one in plot["data"]]
    assert shown == [("a", 0, True), ("a", 0, False), ("b", 1, True), ("ciou_1", 2, True)]
    assert [one["hovertemplate"] for one in plot["data"]][1].endswith("yolov3_1</extra>")
    coordinates = plots.parallel_coordinates(found, by_name, {"loss.box": "box", "seed": "seed"})
    assert coordinates is not None
    assert coordinates["data"][0]["line"]["color"] == [0, 0, 1]  # losses of two kinds rank nothing
    assert coordinates["data"][0]["meta"] == "group"
