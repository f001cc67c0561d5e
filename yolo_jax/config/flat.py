"""A config's fields by dotted name, as JSON holds them, and a config made of such fields."""

import dataclasses
import difflib
import typing
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from yolo_jax.config.experiment_config import ExperimentConfig
from yolo_jax.core.fields import check_fields

_LONGEST = 100  # characters of a name that others are likened to: it takes their square


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Returns a config's fields by dotted name, as JSON holds them."""
    flat: dict[str, Any] = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if dataclasses.is_dataclass(value):
            flat |= flatten(value, f"{prefix}{item.name}.")
        else:
            flat[prefix + item.name] = plain(value)
    return flat


def plain(value: Any) -> Any:
    """Returns a field's value as JSON holds it."""
    if isinstance(value, Path):
        return value.as_posix()
    return list(value) if isinstance(value, tuple) else value


def unflatten(flat: Mapping[str, Any], kind: type = ExperimentConfig, prefix: str = "") -> Any:
    """Returns a config of fields by dotted name; those that lack have their defaults.

    Args:
        flat: the fields.
        kind: the dataclass.
        prefix: of its fields' names.

    Raises:
        ValueError: one without a default lacks.
    """
    values, hints = {}, typing.get_type_hints(kind)
    for item in dataclasses.fields(kind):
        name, hint = item.name, hints[item.name]
        if dataclasses.is_dataclass(hint):
            values[name] = unflatten(flat, typing.cast(type, hint), f"{prefix}{name}.")
        elif prefix + name in flat:
            value = flat[prefix + name]
            if isinstance(value, str) and Path in (hint, *typing.get_args(hint)):
                value = Path(value)
            values[name] = tuple(value) if isinstance(value, list) else value
        elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise ValueError(f"lacks the field {prefix}{name}")
    return kind(**values)


def with_changes(config: ExperimentConfig, changes: Mapping[str, Any]) -> ExperimentConfig:
    """Returns a config with other values of some fields, all of whose values are checked.

    Args:
        config: to change.
        changes: value by dotted name, such as {"optimizer.learning_rate": 0.01}.

    Raises:
        ValueError: there is no such field, and the nearest one is named; or a value cannot be.
    """
    flat = flatten(config)
    for name in changes:
        if name not in flat:
            names = " or ".join(map(repr, nearest(name, flat)))
            raise ValueError(f"there is no field {name!r}; did you mean {names}?")
    changed = unflatten(flat | {name: plain(value) for name, value in changes.items()})
    check_fields(changed)
    return changed


def nearest(name: str, names: Collection[str]) -> list[str]:
    """Returns the fields that a name may mean.

    Args:
        name: dotted, or a field's last part alone.
        names: dotted, of all fields.

    Returns:
        The one that it is, those whose last part it is, or else the one that is most like it, as a
        whole or in that part.
    """
    name = name[:_LONGEST]
    if name in names:
        return [name]
    if same := [other for other in names if other.rpartition(".")[2] == name]:
        return same

    def likeness(other: str) -> float:
        pairs = (name, other), (name.rpartition(".")[2], other.rpartition(".")[2])
        return sum(difflib.SequenceMatcher(None, *pair).ratio() for pair in pairs)

    return [max(names, key=likeness)]
