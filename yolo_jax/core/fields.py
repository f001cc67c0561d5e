"""What a dataclass's fields may hold: their types, and ranges stated beside them."""

import dataclasses
import math
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Within:
    """A range of numbers: `epochs: Annotated[int, Within(1)]`.

    Attributes:
        least: that is allowed.
        most: that is allowed; infinity itself never is.
        above: `least` itself is not allowed.
        below: `most` itself is not allowed.
        multiple_of: numbers that are not a multiple of it are not allowed; 0: all are.
    """

    least: float
    most: float = math.inf
    above: bool = False
    below: bool = False
    multiple_of: int = 0

    def __contains__(self, number: float) -> bool:
        """Tells whether a number lies inside; NaN and infinities do not."""
        try:
            is_finite = math.isfinite(number)
        except OverflowError:  # a whole number of hundreds of digits
            is_finite = False
        if not is_finite or not self.least <= number <= self.most:
            return False
        if self.multiple_of and number % self.multiple_of:
            return False
        return not (self.above and number == self.least or self.below and number == self.most)

    def __str__(self) -> str:
        """Returns the range in words."""
        least = f"above {self.least:g}" if self.above else f"{self.least:g}"
        if self.most == math.inf:
            return least if self.above else f"{least} or more"
        multiple = f", a multiple of {self.multiple_of}" if self.multiple_of else ""
        return f"{least} to {'below ' if self.below else ''}{self.most:g}{multiple}"


class Unfit(ValueError):
    """A value of the right type that lies outside its range, or cannot be beside the others."""


def check_fields(record: Any, prefix: str = "", *, ranges: bool = True) -> None:
    """Checks the values of a dataclass, and of those within it, against their annotations.

    A dataclass with a method `check` has it called then, for what no field by itself can show; it
    raises a ValueError that starts with a field's name.

    Args:
        record: a dataclass whose fields have the types bool, int, float, str, Path, Literal,
            tuples of those, None among them, or other dataclasses; with `Within` where a range is.
        prefix: of the names in messages.
        ranges: False checks types alone: what an earlier version took may lie outside by now.

    Raises:
        ValueError: a value has another type, or as `Unfit` lies outside its range, or a `check`
            failed; names the field, what was found and what was expected.
    """
    types_alone = typing.get_type_hints(type(record))
    for name, hint in typing.get_type_hints(type(record), include_extras=ranges).items():
        value, full = getattr(record, name), prefix + name
        if dataclasses.is_dataclass(value):
            check_fields(value, f"{full}.", ranges=ranges)
        elif not fits(value, hint):
            kind = Unfit if fits(value, types_alone[name]) else ValueError
            raise kind(f"{full} is {value!r}; expected {words(hint)}")
    if ranges and hasattr(record, "check"):
        try:
            record.check()
        except ValueError as error:
            raise Unfit(f"{prefix}{error}") from error


def fits(value: Any, hint: Any) -> bool:
    """Tells whether a value has a type, and lies in its range where it has one."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        ranges = [extra for extra in arguments[1:] if isinstance(extra, Within)]
        return fits(value, arguments[0]) and all(value in one for one in ranges)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in arguments)
    if origin is Literal:
        return value in arguments
    if origin is tuple:
        return isinstance(value, tuple) and _fit_each(value, arguments)
    if origin is list:
        return isinstance(value, list) and all(fits(one, arguments[0]) for one in value)
    if hint is float:
        return _is_number(value)
    if hint is int:
        return _is_number(value) and isinstance(value, int)
    return isinstance(value, hint)


def _fit_each(values: Sequence[Any], hints: tuple[Any, ...]) -> bool:
    if len(hints) == 2 and hints[1] is Ellipsis:
        hints = hints[:1] * len(values)
    pairs = zip(values, hints, strict=False)
    return len(values) == len(hints) and all(fits(value, hint) for value, hint in pairs)


def _is_number(value: Any) -> bool:
    # A bool is an int to Python, and never what somebody means by a number.
    return isinstance(value, int | float) and not isinstance(value, bool)


def words(hint: Any) -> str:
    """Returns what a type expects, for a message."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        ranges = [str(extra) for extra in arguments[1:] if isinstance(extra, Within)]
        return " of ".join([words(arguments[0]), *ranges])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(words(one) for one in arguments)
    if origin is Literal:
        return "one of " + ", ".join(map(repr, arguments))
    if origin is tuple:
        inner = "any number of " if arguments[-1] is Ellipsis else ""
        return f"({inner}{', '.join(words(one) for one in arguments if one is not Ellipsis)})"
    if origin is list:
        return "a list"
    names = {
        float: "a number",
        int: "a whole number",
        str: "a text",
        bool: "True or False",
        Path: "a path",
        types.NoneType: "None",
        dict: "an object",
        list: "a list",
    }
    return names[hint]
