"""What a config takes on a slice of TPUs."""

import importlib.util
import json
from pathlib import Path

import pytest

from yolo_jax import cli
from yolo_jax.plan.chips import place_of, slice_of
from yolo_jax.plan.fit import most_rows
from yolo_jax.plan.step import DoesNotFit

CONFIG = Path(__file__).parents[1] / "configs" / "short.py"


def test_a_slice_by_its_name():
    found = slice_of("v5e:4x8")
    assert (found.chips, found.hosts, found.shape) == (32, 8, (4, 8))
    assert slice_of("v5p:2x2x4").chips == 16


def test_the_all_reduce_goes_over_all_axes_and_closed_rings_are_twice_as_fast():
    # Two axes of 16 are rings: 2 x 255/256 x 1e9 B over 2 axes x 2 links x 50 GB/s.
    assert slice_of("v5e:16x16").all_reduce_seconds(1e9) == pytest.approx(
        2 * 255 / 256 * 1e9 / 200e9
    )
    # Of 8 they are lines.
    assert slice_of("v5e:8x8").all_reduce_seconds(1e9) == pytest.approx(2 * 63 / 64 * 1e9 / 100e9)
    assert slice_of("v5e:8x8").up_to_it()[0].all_reduce_seconds(1e9) == 0
    # Less than a cube has no links that lead round, whatever its axes.
    assert slice_of("v5p:2x2x4").all_reduce_seconds(1e9) == pytest.approx(
        2 * 15 / 16 * 1e9 / (3 * 100e9)
    )


@pytest.mark.parametrize(
    "target",
    [
        "v5e",
        "v5e:4",
        "v5e:4x4x4",
        "v9:2x2",
        "v5e:0x4",
        "v5e:3x5",
        "v5p:04x4x4",
        "v4:4x8x4",
        "v5p:16x16x28",
    ],
)
def test_a_target_that_does_not_exist(target: str, capsys):
    assert cli.main(["plan", str(CONFIG), "--target", target]) == 2
    error = capsys.readouterr().err
    assert f"there is no target {target!r}; there are GPUs (a100, h100, h200)" in error
    assert "v5e and v6e with 2x2, 2x4, 4x4, 4x8, 8x8, 8x16, 16x16, and v4 and v5p with" in error


@pytest.mark.parametrize("target", ["h100", "h100:8", "h100:16x1", "a100:0x2"])
def test_gpus_that_no_node_has(target: str, capsys):
    assert cli.main(["plan", str(CONFIG), "--target", target]) == 2
    assert (
        f"there is no target {target!r}; of {target.split(':')[0]} there are 1 to 8 in a node"
        in (capsys.readouterr().err)
    )


def test_gpus_add_up_within_nodes_and_then_between_them():
    found = place_of("h100:8x4")
    assert (found.chips, found.hosts, found.compiled_for.name) == (32, 4, "v5p:2x4x4")
    # 2 x 7/8 x 1e9 B at 450 GB/s, and of an eighth 2 x 3/4 at 50 GB/s.
    seconds = 2 * 7 / 8 * 1e9 / 450e9 + 2 * 3 / 4 * 1e9 / 8 / 50e9
    assert found.all_reduce_seconds(1e9) == pytest.approx(seconds)
    assert [part.chips for part in found.up_to_it()] == [1, 2, 4, 8, 16, 32]
    node = found.up_to_it()[3]
    assert node.all_reduce_seconds(1e9) == pytest.approx(2 * 7 / 8 * 1e9 / 450e9)


def test_smaller_slices_have_fewer_links():
    found = place_of("v5e:16x16").up_to_it()
    assert [part.chips for part in found] == [1, 4, 8, 16, 32, 64, 128, 256]
    # A chip of 2x2 has one link along each axis, one of 16x16 two.
    assert found[1].all_reduce_seconds(1e9) == pytest.approx(2 * 3 / 4 * 1e9 / 100e9)
    assert found[-1].all_reduce_seconds(1e9) == pytest.approx(2 * 255 / 256 * 1e9 / 200e9)
    cubes = place_of("v5p:4x8x8").up_to_it()
    assert [part.shape for part in cubes[-3:]] == [(4, 4, 4), (4, 4, 8), (4, 8, 8)]


def test_fsdp_is_planned_for_gpus_whose_program_there_is(capfd):
    options = ["--batch-size", "12", "--parallel.strategy", "fsdp"]
    assert cli.main(["plan", str(CONFIG), "--target", "h100:6x2", *options]) == 2
    assert "of h100:6x2 fsdp's shards cannot be told" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("a_row", "base", "bend", "unit"),
    # Memory by a line, one that starts late, and one that bends; large rows, and those of parts.
    [(0.1, 2, 0, 8), (0.01, 0.5, 0, 8), (0.1, 2, 1e-4, 8), (1.5, 1, 0, 8), (0.01, 2, 0, 16)],
)
def test_about_the_most_rows_are_found_in_few_compiles(a_row, base, bend, unit):
    def held(rows: int) -> float:
        return base + a_row * rows + bend * rows**2

    def measure(rows: int) -> float:
        if held(rows) > 16:
            raise DoesNotFit(f"{rows} rows take {held(rows)} GiB")
        return held(rows)

    rows, compiles = most_rows(measure, 16, unit)
    assert rows % unit == 0 and compiles <= 6
    assert held(rows) <= 16
    assert held(rows) >= 0.9 * 16 or held(max(rows + unit, rows * 9 // 8)) > 16


def test_where_not_even_the_fewest_rows_fit_there_are_none():
    def measure(rows: int) -> float:
        raise DoesNotFit(f"{rows}")

    assert most_rows(measure, 16, 8) == (0, 4)  # 64, 32, 16 and 8


NEEDS_LIBTPU = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="libtpu is missing, XLA's compiler for TPUs: pip install -e '.[plan]'",
)


@NEEDS_LIBTPU
def test_a_batch_that_does_not_divide(capfd):
    assert cli.main(["plan", str(CONFIG), "--target", "v5e:2x4"]) == 2
    assert (
        "a batch of 4 rows does not divide among the 8 chips of v5e:2x4" in capfd.readouterr().err
    )


@pytest.mark.slow
@NEEDS_LIBTPU
@pytest.mark.parametrize("strategy", ["pmap", "fsdp"])
def test_a_small_config_on_four_chips(strategy: str, tmp_path: Path):
    file, picture = tmp_path / "plan.json", tmp_path / "plan.png"
    options = ["--json", str(file), "--plot", str(picture), "--parallel.strategy", strategy]
    assert cli.main(["plan", str(CONFIG), "--target", "v5e:2x2", *options]) == 0
    figures = json.loads(file.read_text())["figures"]
    parts = figures["GiB by what it is"]
    # 8.7 million weights of 4 bytes, Adam's two slots of each, and their average.
    share = 1 if strategy == "pmap" else 4
    assert parts["weights"] == pytest.approx(0.0323 / share, rel=0.05)
    assert parts["optimizer slots"] == pytest.approx(2 * parts["weights"], rel=0.02)
    assert parts["average of weights"] == parts["weights"]
    assert sum(parts.values()) == pytest.approx(figures["GiB of HBM a chip"], abs=1e-3)
    assert figures["fits"] and figures["all-reduces"] >= 1
    # fsdp gathers the weights in bfloat16, and scatters their float32 gradients.
    megabytes = share * parts["weights"] * 2**30 / 1e6
    sent = [figures[name] for name in ("all-gathered MB", "reduce-scattered MB", "all-reduced MB")]
    if strategy == "fsdp":
        assert sent == pytest.approx([megabytes / 2, megabytes, 0], rel=0.06, abs=2)
    else:
        assert sent == pytest.approx([0, 0, megabytes], rel=0.06)
    assert picture.stat().st_size > 1000
