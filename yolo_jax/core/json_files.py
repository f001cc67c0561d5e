"""JSON files: written whole or not at all, and checked when they are read."""

import json
import math
import typing
from pathlib import Path
from typing import Any

from yolo_jax.core.fields import fits, words


def save_json(path: Path, content: object) -> None:
    """Writes JSON, whole or not at all.

    Raises:
        ValueError: a number is NaN or infinite, which JSON has no form for.
    """
    partial = partial_of(path)
    text = json.dumps(content, indent=2, allow_nan=False)
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(path)


def known(value: float) -> float | None:
    """Returns a number that JSON holds: None for NaN."""
    return None if math.isnan(value) else value


def partial_of(path: Path) -> Path:
    """Returns the file that one is written to before it is whole."""
    return path.with_suffix(".partial")


def read_json(path: Path, kind: Any) -> Any:
    """Returns what a JSON file holds.

    Args:
        path: of the file.
        kind: type that is expected, as `check_shape` takes it, such as `dict` or `list[str]`.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it is no JSON, or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text, parse_constant=_float, parse_float=_float, parse_int=_int)
        check_shape(content, kind)
    except RecursionError as error:
        raise ValueError(f"{path} is damaged: it is nested too deeply") from error
    except ValueError as error:  # not JSON, not UTF-8, or of another shape
        raise ValueError(f"{path} is damaged: {error}") from error
    return content


def _float(text: str) -> float:
    # Python's own reader takes them; no browser does, which would be shown nothing of all runs.
    if not math.isfinite(value := float(text)):
        raise ValueError(f"it holds {text:.20}; expected finite numbers")
    return value


def _int(text: str) -> int:
    _float(text)
    return int(text)


def check_shape(value: Any, hint: Any, name: str = "it") -> None:
    """Checks what JSON holds against a type.

    Args:
        value: as JSON gives it.
        hint: a TypedDict, whose keys that may lack are `NotRequired` and beside which others may
            stand; `dict[str, X]`, `list[X]`, or what a dataclass's field may be.
        name: of the value in messages.

    Raises:
        ValueError: a value within it has another type, or a key lacks; says where.
    """
    if typing.get_origin(hint) is typing.NotRequired:
        (hint,) = typing.get_args(hint)
    inside = typing.get_args(hint)
    if typing.is_typeddict(hint):
        _check_leaf(value, dict, name)
        if missing := sorted(hint.__required_keys__ - value.keys()):
            raise ValueError(f"{name} lacks {missing}")
        for key, kind in typing.get_type_hints(hint, include_extras=True).items():
            if key in value:
                check_shape(value[key], kind, _within(name, key))
    elif typing.get_origin(hint) is dict:
        _check_leaf(value, dict, name)
        for key, one in value.items():
            check_shape(one, inside[1], _within(name, key))
    elif typing.get_origin(hint) is list:
        _check_leaf(value, list, name)
        for number, one in enumerate(value):
            check_shape(one, inside[0], _within(name, number))
    else:
        _check_leaf(value, hint, name)


def _within(name: str, key: object) -> str:
    return str(key) if name == "it" else f"{name}.{key}"


def _check_leaf(value: Any, hint: Any, name: str) -> None:
    if not fits(value, hint):
        raise ValueError(f"{name} is {value!r:.60}; expected {words(hint)}")
