"""Numbers that somebody gives as arguments: checked where they are first met."""

import math
import operator
from typing import Any

from jax.core import Tracer
from jaxtyping import Array


def is_traced(number: Any) -> bool:
    """Tells whether a number is an argument of a program, which has a value only as that runs."""
    return isinstance(number, Tracer)


def may_differ(number: float | Array, neutral: float) -> bool:
    """Tells whether a number may be another than the one that changes nothing.

    A traced one may, so what it is for is computed whatever it turns out to be.

    Args:
        number: that was given.
        neutral: the one that changes nothing.
    """
    return is_traced(number) or bool(number != neutral)


def whole_number(what: str, value: Any, least: int = 0) -> int:
    """Returns a whole number; True and False are none.

    Args:
        what: name of the argument, for the error.
        value: that was given.
        least: smallest that is taken.

    Raises:
        ValueError: it is no whole number, or too small.
    """
    try:
        found = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        found = None
    if found is None or found < least:
        raise ValueError(f"{what} is a whole number, {least} or more; found {value!r}")
    return found


def true_or_false(what: str, value: Any) -> bool:
    """Returns a bool; 1 and 0 are taken for True and False.

    Args:
        what: name of the argument, for the error.
        value: that was given.

    Raises:
        TypeError: it is neither.
    """
    if not hasattr(value, "__index__") or value not in (0, 1):
        raise TypeError(f"{what} is True or False; found {value!r}")
    return bool(value)


def finite_number(what: str, value: Any, least: float = -math.inf, most: float = math.inf) -> float:
    """Returns a number that is neither NaN nor infinite; True, False and texts are none.

    Args:
        what: name of the argument, for the error.
        value: that was given.
        least: smallest that is taken.
        most: largest that is taken.

    Raises:
        ValueError: it is no such number.
    """
    try:
        found = math.nan if isinstance(value, bool | str) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if math.isfinite(found) and least <= found <= most:
        return found
    limits = f" from {least:g} to {most:g}" if most < math.inf else f", {least:g} or more"
    raise ValueError(
        f"{what} is a finite number{limits if least > -math.inf else ''}; found {value!r}"
    )
