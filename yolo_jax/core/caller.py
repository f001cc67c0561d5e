"""Warnings that point at the user's own line."""

import os
import sys
import warnings
from pathlib import Path

_PACKAGE = str(Path(__file__).parents[1]) + os.sep


def warn_caller(message: str, category: type[Warning] = UserWarning) -> None:
    """Warns of the line outside this package that led here, whatever calls lie between.

    Args:
        message: of the warning.
        category: of the warning.
    """
    level, frame = 2, sys._getframe(1)
    while frame.f_code.co_filename.startswith(_PACKAGE) and frame.f_back is not None:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def renamed(old: str, given: int | None, new: str, value: int) -> int:
    """Returns an argument's value, or what is given by its old name, which it warns of."""
    if given is None:
        return value
    warn_caller(f"The `{old}` argument has been renamed `{new}`.")
    return given
