import json

import pytest

from experiments.benchmarks.sides.turns import Case, Side, measure, save

SMALL = ["infer", "--network", "tiny", "--batch", 1, "--side", 64]


def test_sides_take_turns_and_their_figures_are_written(tmp_path, capsys):
    sides = {name: Side("yolo_jax", SMALL, peer=False) for name in ("ours", "ours again")}
    case = measure("small", sides, turns=2)
    assert "ours again" in capsys.readouterr().out
    file = tmp_path / "figures.json"
    save(file, [case])
    written = json.loads(file.read_text())
    assert written["machine"]["cores"] >= 1
    assert set(written["ratios"]) == {"small", "small_memory"}
    sides = written["cases"]["small"]
    assert set(sides) == {"ours", "ours again"}
    for side in sides.values():
        assert len(side["seconds"]) == 2
        assert min(side["seconds"]) > 0
        assert min(side["cpu_seconds"]) > 0
        assert side["memory_bytes"] > 50e6
        assert side["versions"].keys() == {"jax", "device"}
    # The same work against itself.
    assert 0.2 < written["ratios"]["small_memory"] < 5


def test_ratios_are_of_the_best_peer():
    case = Case(
        "case",
        {"ours": [2.0, 2.0, 9.0], "slow": [8.0, 8.0, 8.0], "fast": [4.0, 1.0, 3.0]},
        memory={"ours": 30, "slow": 10, "fast": 20},
    )
    # Of the fast one the turns' ratios are 0.5, 2 and 3; the median counts.
    assert case.ratios() == {"case": 2.0, "case_memory": 3.0}


def test_a_side_that_fails_says_so():
    with pytest.raises(RuntimeError, match="ended with exit status 2"):
        Side("yolo_jax", ["dance"], peer=False).turn()
