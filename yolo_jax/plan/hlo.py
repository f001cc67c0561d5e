"""Where an optimised program's bytes go: reads the HLO text that XLA gives of an executable."""

import math
import re
from dataclasses import dataclass

_SIZES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2, "s64": 8, "u64": 8}
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%([\w.-]+) = (.*?) ([a-z][\w-]*)\((.*)")
# An array's dtype, sizes, axes from the fastest on, first tile, and memory, unless that is HBM.
_ARRAY = re.compile(
    r"([a-z]\w*)\[([\d,]*)\](?:\{([\d,]*)(?::(?:T\(([\d,]+)\))?[^}S]*(S\(\d+\))?[^}]*)?\})?"
)
# dim_labels of the kernel and of the result say which of a convolution's three it is.
_CONVOLUTION = re.compile(r" convolution\(.*dim_labels=\w+_(\w+)->(\w+)")
# These name what exists already.
_FREE = {"parameter", "tuple", "get-tuple-element", "bitcast", "constant", "custom-call"}
# The ends of copies between HBM and the chip's own memory, which run beside the rest.
_STAGED = {"copy-done", "slice-done"}


@dataclass(frozen=True)
class Instruction:
    """A top-level instruction: a fusion, mostly.

    Attributes:
        name: XLA's.
        category: what it is for.
        shape: of its results.
        gigabytes: read from HBM and written to it: of operands and results that lie there, each
            counted whole, in the tiles that memory has.
        unpadded: the same without what fills up the tiles.
    """

    name: str
    category: str
    shape: str
    gigabytes: float
    unpadded: float


def instructions(text: str) -> list[Instruction]:
    """Returns what an executable's entry does, the most bytes first.

    Args:
        text: `compiled.as_text()`.
    """
    bodies = _computations(text)
    entry = next(lines for name, lines in bodies.items() if name.startswith("ENTRY"))
    shapes: dict[str, str] = {}
    found = []
    for line in entry:
        match = _INSTRUCTION.match(line)
        if match is None:
            continue
        name, shape, opcode, rest = match.groups()
        shapes[name] = shape
        if opcode in _STAGED:  # one of the two ends is in HBM
            sizes = (_bytes(shape, tiled=tiled) / 1e9 for tiled in (True, False))
            found.append(Instruction(name, "staged in the chip's own memory", shape, *sizes))
            continue
        if opcode in _FREE or opcode.endswith(("-start", "-done")):
            continue
        operands = re.findall(r"%([\w.-]+)", rest.split(")", 1)[0])
        arrays = " ".join([shape, *(shapes[operand] for operand in operands)])
        category = _category(opcode, line + _called(line, bodies))
        sizes = (_bytes(arrays, tiled=tiled, hbm=True) / 1e9 for tiled in (True, False))
        found.append(Instruction(name, category, shape, *sizes))
    return sorted(found, key=lambda instruction: -instruction.gigabytes)


def by_category(found: list[Instruction]) -> dict[str, float]:
    """Returns the gigabytes of each category, the most first."""
    totals: dict[str, float] = {}
    for one in found:
        totals[one.category] = totals.get(one.category, 0) + one.gigabytes
    return dict(sorted(totals.items(), key=lambda item: -item[1]))


def all_reduces(text: str) -> list[int]:
    """Returns the bytes that each all-reduce of a program adds up."""
    found = (_INSTRUCTION.match(line) for line in text.splitlines())
    return [
        _bytes(match.group(2), tiled=False)
        for match in found
        if match and match.group(3) in ("all-reduce", "all-reduce-start")
    ]


def _computations(text: str) -> dict[str, list[str]]:
    """Returns the lines of each computation by its name; that of the entry starts with ENTRY."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        head = re.match(r"(ENTRY )?%([\w.-]+) \(.*\{$", line)
        if head:
            lines = found.setdefault((head.group(1) or "") + head.group(2), [])
        else:
            lines.append(line)
    return found


def _called(line: str, bodies: dict[str, list[str]]) -> str:
    """Returns the text of what an instruction calls, and of what that calls."""
    found, waiting = [], re.findall(r"calls=%([\w.-]+)", line)
    while waiting:
        body = "\n".join(bodies[waiting.pop()])
        found.append(body)
        waiting += re.findall(r"calls=%([\w.-]+)", body)
    return "\n".join(found)


def _bytes(arrays: str, *, tiled: bool, hbm: bool = False) -> int:
    """Adds up the bytes of arrays, with what fills up their tiles or without; or of HBM's alone."""
    total = 0
    for dtype, sizes, order, tile, elsewhere in _ARRAY.findall(arrays):
        if hbm and elsewhere:
            continue
        shape = [int(size) for size in sizes.split(",") if size]
        if tiled and tile and shape:
            axes = [int(axis) for axis in order.split(",")]
            for axis, width in zip(axes, map(int, reversed(tile.split(","))), strict=False):
                shape[axis] = -(-shape[axis] // width) * width
        total += math.prod(shape) * _SIZES.get(dtype, 4)
    return total


def _category(opcode: str, text: str) -> str:
    """Names what an instruction is for, by the text of itself and of what it calls."""
    if opcode.startswith(("all-reduce", "all-gather", "reduce-scatter")):
        return "between chips"
    convolution = _CONVOLUTION.search(text)
    if convolution:
        kernel, result = convolution.groups()
        if result.startswith("01"):
            return "convolution: kernel gradient"
        return f"convolution: {'input gradient' if kernel.endswith('oi') else 'forward'}"
    if "(loss)" in text:
        return "loss"
    if "/optimizer/" in text:
        return "optimizer"
    if opcode in {"copy", "transpose", "reshape"}:
        return "copies"
    return "backward, elementwise" if "transpose(jvp" in text else "forward, elementwise"
