"""Modules whose libraries are extras of this package, and are not there everywhere."""

import importlib
from typing import Any


def module_of_extra(module: str, extra: str, asked: str) -> Any:
    """Returns a module, a library's or one of this package, that needs an extra.

    Args:
        module: its name.
        extra: that it needs.
        asked: what asks for it, in words.

    Raises:
        ValueError: the extra is not installed; says how it is.
    """
    return module_installed_by(f"pip install -e '.[{extra}]'", module, asked)


def module_installed_by(command: str, module: str, asked: str) -> Any:
    """Returns a module that needs what a command installs.

    Args:
        command: that installs it.
        module: its name.
        asked: what asks for it, in words.

    Raises:
        ValueError: something lacks; says what, and the command.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ValueError(f"{asked} needs {error.name}: {command}") from error
