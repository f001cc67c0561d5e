"""Where an optimised program's bytes go: reads the HLO text that XLA gives of an executable."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

_SIZES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2, "s64": 8, "u64": 8}
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%([\w.-]+) = (.*?) ([a-z][\w-]*)\((.*)")
# An array's dtype, sizes, axes from the fastest on, first tile, and memory, unless that is HBM.
_ARRAY = re.compile(
    r"([a-z]\w*)\[([\d,]*)\](?:\{([\d,]*)(?::(?:T\(([\d,]+)\))?[^}S]*(S\(\d+\))?[^}]*)?\})?"
)
# dim_labels of the kernel and of the result say which of a convolution's three it is.
_CONVOLUTION = re.compile(r" convolution\(.*dim_labels=\w+_(\w+)->(\w+)")
# These name what exists already.
_FREE = {"parameter", "tuple", "get-tuple-element", "bitcast", "constant", "custom-call", "while"}
_BETWEEN_CHIPS = ("all-reduce", "all-gather", "reduce-scatter")
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


def instructions(text: str, turns: int = 1) -> list[Instruction]:
    """Returns what an executable's entry and its loops do, the most bytes first.

    Args:
        text: `compiled.as_text()`.
        turns: of the outermost loops, of which programs for TPUs say nothing; inner ones count
            once.
    """
    bodies = _computations(text)
    found = []
    for name, times in _times(bodies, turns, loops_alone=True):
        found += [
            replace(one, gigabytes=times * one.gigabytes, unpadded=times * one.unpadded)
            for one in _instructions(bodies[name], bodies)
        ]
    return sorted(found, key=lambda instruction: -instruction.gigabytes)


def _instructions(lines: list[str], bodies: dict[str, list[str]]) -> list[Instruction]:
    shapes: dict[str, str] = {}
    found = []
    for line in lines:
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
    return found


def by_category(found: list[Instruction]) -> dict[str, float]:
    """Returns the gigabytes of each category, the most first."""
    totals: dict[str, float] = {}
    for one in found:
        totals[one.category] = totals.get(one.category, 0) + one.gigabytes
    return dict(sorted(totals.items(), key=lambda item: -item[1]))


def between_chips(text: str, chips: int, turns: int = 1) -> dict[str, list[int]]:
    """Returns the bytes of whole arrays that all-reduces, all-gathers and reduce-scatters are of.

    Args:
        text: `compiled.as_text()`.
        chips: of the program; all take part in each.
        turns: of the outermost loops, in each of which what they send is sent.
    """
    bodies = _computations(text)
    found: dict[str, list[int]] = {kind: [] for kind in _BETWEEN_CHIPS}
    seen: set[tuple[str, str]] = set()
    for name, times in _times(bodies, turns):
        for kind, size in _sent(bodies[name], chips, seen):
            found[kind] += [size] * times
    return found


def _sent(lines: list[str], chips: int, seen: set[tuple[str, str]]) -> Iterator[tuple[str, int]]:
    for line in lines:
        match = _INSTRUCTION.match(line)
        if match is None or match.group(3).removesuffix("-start") not in _BETWEEN_CHIPS:
            continue
        kind, size = match.group(3), _bytes(match.group(2), tiled=False)
        # One that runs beside other work stands in each of the fusions that it is cut into.
        chain = re.search(r'chain_id="\d+"', line)
        if chain:
            if (kind, chain[0]) in seen:
                continue
            seen.add((kind, chain[0]))
        if kind == "reduce-scatter":
            size *= chips  # the result is a chip's part
        elif kind == "all-gather-start":
            size = size * chips // (chips + 1)  # the part stands beside the result
        yield kind.removesuffix("-start"), size


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


def _times(
    bodies: dict[str, list[str]], turns: int, *, loops_alone: bool = False
) -> Iterator[tuple[str, int]]:
    """Yields each computation that runs, and how often: the entry, loops, and what they call."""
    calls = r"body=%([\w.-]+)" if loops_alone else r"(?:body|calls|to_apply)=%([\w.-]+)"
    waiting = [(next(name for name in bodies if name.startswith("ENTRY")), 1)]
    while waiting:
        name, times = waiting.pop()
        yield name, times
        for line in bodies[name]:
            is_outermost = " while(" in line and name.startswith("ENTRY")
            waiting += [
                (called, times * (turns if is_outermost else 1))
                for called in re.findall(calls, line)
                if called in bodies
            ]


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
    if opcode.startswith(_BETWEEN_CHIPS):
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
