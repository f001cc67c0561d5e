import importlib.util
import json
import sys

import pytest

from experiments.benchmarks import tpu
from yolo_jax import cli
from yolo_jax.plan import hlo

PROGRAM = """\
HloModule jit_step

%fused (a: bf16[64,4,4,32]) -> bf16[64,4,4,32] {
  ROOT %conv.1 = bf16[64,4,4,32]{0,3,2,1:T(8,128)(2,1)} convolution(%a, %b), \
window={size=1x1}, dim_labels=b01f_01oi->b01f
}

ENTRY %main (a.1: bf16[64,4,4,32], b.1: bf16[1,1,32,32]) -> bf16[64,4,4,32] {
  %a.1 = bf16[64,4,4,32]{0,3,2,1:T(8,128)(2,1)} parameter(0)
  %b.1 = bf16[1,1,32,32]{3,2,1,0:T(8,128)(2,1)} parameter(1)
  %copy-start = (f32[8]{0:T(256)}, f32[8]{0:T(256)}) copy-start(%c)
  %sum = (f32[32]{0:T(128)}, f32[]{:T(128)}) all-reduce(%d, %e), channel_id=1
  ROOT %fusion = bf16[64,4,4,32]{0,3,2,1:T(8,128)(2,1)} fusion(%a.1, %b.1), calls=%fused
}
"""


def test_bytes_are_counted_in_the_tiles_of_memory():
    found = hlo.instructions(PROGRAM.replace("all-reduce(%d, %e)", "all-reduce()"))
    fusion, reduction = found
    assert fusion.category == "convolution: input gradient"
    array, kernel = 64 * 4 * 4 * 32 * 2, 32 * 32 * 2
    assert fusion.unpadded * 1e9 == pytest.approx(2 * array + kernel)
    # 64 images in tiles of 128, 32 channels of a kernel too.
    assert fusion.gigabytes * 1e9 == pytest.approx(2 * 2 * array + 4 * kernel)
    assert hlo.by_category(found)[reduction.category] == reduction.gigabytes
    assert reduction.category == "between chips"
    assert hlo.between_chips(PROGRAM, 4)["all-reduce"] == [33 * 4]


def test_what_is_sent_between_chips_is_counted_whole_and_once():
    chained = '  %{} = bf16[3,8]{{1,0}} all-gather(%p), attributes={{chain_id="0"}}\n'
    program = (
        "ENTRY %main (p: bf16[3,2]) -> f32[5] {\n"
        + chained.format("all-gather.1") + chained.format("all-gather.2")
        + "  %started = (f32[2]{0}, f32[8]{0}) all-gather-start(%q)\n"
        + "  %scattered = f32[3,2]{1,0} reduce-scatter(%r)\n"
        + "  %sum = f32[5]{0} all-reduce-start(%s)\n"
    )  # fmt: skip
    assert hlo.between_chips(program, 4) == {
        "all-reduce": [20], "all-gather": [48, 32], "reduce-scatter": [4 * 24],
    }  # fmt: skip


def test_what_a_loop_does_counts_as_often_as_it_turns():
    program = """
%body (p: f32[256]) -> f32[256] {
  %p = f32[256]{0} parameter(0)
  %sum = f32[256]{0} all-reduce(%p), channel_id=1
  ROOT %double = f32[256]{0} add(%sum, %sum)
}

ENTRY %main (a: f32[256]) -> f32[256] {
  %a = f32[256]{0} parameter(0)
  %half = f32[256]{0} negate(%a)
  ROOT %loop = f32[256]{0} while(%half), condition=%condition, body=%body
}
"""
    moved = [sum(one.gigabytes for one in hlo.instructions(program, turns)) for turns in (1, 3)]
    # 2 KiB before the loop, 5 KiB in each turn.
    assert moved == pytest.approx([7 * 1024 / 1e9, 17 * 1024 / 1e9])
    assert hlo.between_chips(program, 4, turns=3)["all-reduce"] == [1024] * 3


def test_what_the_chips_own_memory_holds_is_counted_as_it_is_staged():
    staged = "bf16[64,4,4,32]{0,3,2,1:T(8,128)(2,1)S(1)}"
    done = f"  %copy-done = {staged} copy-done(%copy-start)\n"
    program = PROGRAM.replace("all-reduce(%d, %e)", "all-reduce()")
    program = program.replace("  %sum", done + "  %sum").replace("fusion(%a.1", "fusion(%copy-done")
    by_name = {one.name: one for one in hlo.instructions(program)}
    array, kernel = 64 * 4 * 4 * 32 * 2, 32 * 32 * 2
    # Once to the chip, by the copy; the fusion reads the kernel alone from HBM, and writes there.
    assert by_name["copy-done"].unpadded * 1e9 == pytest.approx(array)
    assert by_name["fusion"].unpadded * 1e9 == pytest.approx(array + kernel)


def test_without_libtpu_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "libtpu", None)
    monkeypatch.setattr(sys, "argv", ["tpu"])
    with pytest.raises(SystemExit, match=r"found no libtpu.*pip install -e '\.\[plan\]'"):
        tpu.main()


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="libtpu is missing, XLA's compiler for TPUs: pip install -e '.[plan]'",
)
def test_a_step_over_chips_has_one_all_reduce(tmp_path):
    file = tmp_path / "tpu.json"
    options = ["--network", "tiny", "--size", "32", "--batch", "1", "--json", str(file)]
    assert cli.main(["bench", "tpu", *options]) == 0
    figures = json.loads(file.read_text())["figures"]
    assert figures["all-reduces"] == 1
    assert figures["GB accessed"] > figures["GB of HBM"] > 0
