"""Inputs that are almost valid: what most bugs of parsers are behind."""

import random
import re
from collections.abc import Sequence

# What stands where something else is meant to.
TOKENS = (
    *(b"nan", b"inf", b"-Infinity", b"1e400", b"-1", b"0", b"1.5", b"0x10", b"1_0", b"2147483648"),
    *(b"9" * 30, b"9" * 400, b"9" * 5000, b"1e-400", b"-0.0", b"true", b"null", b'""', b"[]"),
    *(b"{}", b"", b" ", b"\n", b"\r", b"\x00", b"\xff", b"\xef\xbb\xbf", b"\\ud800", b'"'),
    *(b"\xed\xa0\x80", "é".encode(), "٣".encode(), "½".encode(), "\u2028".encode(), b"../", b"/"),
    *(b"[" * depth + b"]" * depth for depth in (50, 500, 940, 5000)),
    *(b"&a [*a]", b"<!DOCTYPE a>", b"&x;", b"%s", b"a" * 5000),
)
_NUMBER = re.compile(rb"[-+]?\d[\d.]*(?:[eE][-+]?\d+)?")
_WORD = re.compile(rb'"[^"\n]*"|[\w.]+')
_KINDS = ("number", "number", "word", "insert", "flip", "cut", "again", "swap", "mix")
_MOST_BYTES = 20_000


def mutated(data: bytes, draw: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """Returns an input with a few changes.

    Args:
        data: the input.
        draw: that the changes are drawn from.
        others: inputs that a part may be taken from.
    """
    for _ in range(draw.choice((1, 1, 1, 2, 2, 3, 5))):
        data = _changed(data, draw, others)
    return data[:_MOST_BYTES]


def _changed(data: bytes, draw: random.Random, others: Sequence[bytes]) -> bytes:
    start = draw.randint(0, len(data))
    end = min(len(data), start + draw.choice((1, 1, 2, 4, 16, 64, 1000)))
    part = data[start:end]
    match draw.choice(_KINDS):
        case "number":
            return _replaced(_NUMBER, data, draw)
        case "word":
            return _replaced(_WORD, data, draw)
        case "insert":
            return data[:start] + draw.choice(TOKENS) + data[start:]
        case "flip":
            flipped = bytes(byte ^ 1 << draw.randint(0, 7) for byte in part[:4])
            return data[:start] + flipped + data[start + len(flipped) :]
        case "cut":
            return data[:start] + data[end:]
        case "again":
            return data[:end] + part * draw.choice((1, 1, 2, 50)) + data[end:]
        case "swap":
            first, second = sorted((start, draw.randint(0, len(data))))
            third = min(len(data), second + 8)
            return data[:first] + data[second:third] + data[first:second] + data[third:]
        case _:
            other = draw.choice(others) if others else data
            begin = draw.randint(0, len(other))
            return data[:start] + other[begin : begin + 200] + data[end:]


def _replaced(pattern: re.Pattern[bytes], data: bytes, draw: random.Random) -> bytes:
    found = list(pattern.finditer(data))
    if not found:
        return data + draw.choice(TOKENS)
    one = draw.choice(found)
    return data[: one.start()] + draw.choice(TOKENS) + data[one.end() :]
