"""The trials of a sweep: what a config file's `sweep()` yields, named and checked."""

import hashlib
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from yolo_jax.config import ExperimentConfig
from yolo_jax.config.files import told_by_line
from yolo_jax.config.flat import flatten, plain, with_changes
from yolo_jax.core.fields import Unfit

Changes = Mapping[str, Any]  # value by dotted field
_LONGEST_NAME = 120  # bytes, of a folder, beside which lie files with a suffix to it
_NAME = re.compile(r"\w[\w.,=+-]*")  # no @, which stands before it in logs of trials together
_OWN_SUFFIXES = (".log", ".json", ".partial", ".db")  # of the sweep's own files
_OWN_NAMES = ("lock", "slurm")
# A trial has its own, by which the sweep finds its run folder.
_PLACE = ("name", "runs")


class Trial(NamedTuple):
    """One run of a sweep.

    Attributes:
        name: of its run folder, in the sweep's.
        changes: value by dotted field, as JSON holds it.
    """

    name: str
    changes: dict[str, Any]


def grid(values: Mapping[str, Iterable[Any]]) -> list[dict[str, Any]]:
    """Returns every combination of the values of some fields, the last field's changing fastest.

    Args:
        values: of each dotted field.
    """
    return [dict(zip(values, one, strict=True)) for one in itertools.product(*values.values())]


def zipped(values: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Returns the first values of all fields, then the second ones, and so on.

    Args:
        values: of each dotted field, as many of one as of another.

    Raises:
        ValueError: of one there are more than of another.
    """
    counts = {name: len(each) for name, each in values.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(f"zipped takes as many values of each field; found {counts}")
    return [dict(zip(values, one, strict=True)) for one in zip(*values.values(), strict=True)]


def with_seeds(
    trials: Iterable[Changes | tuple[str, Changes]], seeds: int | Iterable[int]
) -> list[dict[str, Any] | tuple[str, dict[str, Any]]]:
    """Returns each trial once with each seed.

    Args:
        trials: as `sweep()` yields them.
        seeds: which, or how many from 0.
    """
    found: list[dict[str, Any] | tuple[str, dict[str, Any]]] = []
    seeds = range(seeds) if isinstance(seeds, int) else list(seeds)
    for trial, seed in itertools.product(list(trials), seeds):
        if isinstance(trial, tuple):
            found.append((f"{trial[0]},seed={seed}", {**trial[1], "seed": seed}))
        else:
            found.append({**trial, "seed": seed})
    return found


def read_trials(module: ModuleType, path: Path, base: ExperimentConfig) -> list[Trial]:
    """Returns the trials that a config file's `sweep()` yields.

    Args:
        module: the file, run.
        path: of it, for messages.
        base: that they change.

    Raises:
        ValueError: there is no `sweep()`, it fails, or yields no trials or what is none; two share
            a name; or a field does not exist or its value cannot be.
    """
    if not hasattr(module, "sweep"):
        raise ValueError(
            f"{path} has no sweep(), which should yield each trial's fields, as in "
            '{"optimizer.learning_rate": 0.01}'
        )
    with told_by_line(path):
        yielded = list(module.sweep())
    if not yielded:
        raise ValueError(f"sweep() of {path} yields no trial")
    pairs = [_pair(each, f"trial {i} of sweep() of {path}") for i, each in enumerate(yielded)]
    shorts = _short_names(base)
    trials = [Trial(name or _name_of(changes, shorts), changes) for name, changes in pairs]
    seen: dict[str, Trial] = {}
    for trial in trials:
        # Some disks do not tell names apart that differ in case alone.
        if (other := seen.setdefault(trial.name.casefold(), trial)) is not trial:
            raise ValueError(
                f"sweep() of {path} yields two trials named {trial.name!r}, whatever the case: "
                f"{other.changes} and {trial.changes}; give them names, as in yield (name, "
                "changes), or drop one"
            )
        check_trial(trial, base)
    return trials


def check_trial(trial: Trial, base: ExperimentConfig) -> ExperimentConfig:
    """Returns a trial's config, but for its name and folder.

    Raises:
        ValueError: its name is not fit for a folder, a field does not exist or is not a trial's to
            change, or a value has another type; as `Unfit`, a value cannot be.
    """
    name = trial.name
    is_own = name.lower() in _OWN_NAMES or name.lower().endswith(_OWN_SUFFIXES)
    if not _NAME.fullmatch(name) or is_own or len(name.encode()) > _LONGEST_NAME:
        raise ValueError(
            f"a trial is named {name!r}; expected up to {_LONGEST_NAME} bytes of letters, digits "
            f"and _ . , = + -, none of {', '.join(_OWN_NAMES)}, and no ending of "
            f"{', '.join(_OWN_SUFFIXES)}"
        )
    for field in _PLACE:
        if field in trial.changes:
            raise ValueError(
                f"trial {name} changes {field}, by which the sweep knows it; to name a trial "
                "yield (name, changes), and give the sweep's place by --name and --runs"
            )
    try:
        return with_changes(base, trial.changes)
    except ValueError as error:
        kind = Unfit if isinstance(error, Unfit) else ValueError
        raise kind(f"trial {name}: {error}") from error


def _pair(yielded: Any, what: str) -> tuple[str | None, dict[str, Any]]:
    name, changes = yielded if isinstance(yielded, tuple) and len(yielded) == 2 else (None, yielded)
    if not isinstance(changes, Mapping) or not isinstance(name, str | None):
        raise ValueError(
            f'{what} is {yielded!r}; expected fields, as in {{"optimizer.learning_rate": 0.01}}, '
            "or (name, fields)"
        )
    return name, {str(field): plain(value) for field, value in changes.items()}


def _short_names(base: ExperimentConfig) -> dict[str, str]:
    """Returns the last part of each field's name; it stands for the first that has it, alone."""
    shorts: dict[str, str] = {}
    for field in flatten(base):
        last = field.rpartition(".")[2]
        shorts[field] = field if last in shorts.values() else last
    return shorts


def _name_of(changes: Changes, shorts: Mapping[str, str]) -> str:
    """Returns a name of a trial's values, such as learning_rate=0.001,box=ciou.

    It is the trial's alone: whatever others a sweep has or is given later, it stays.
    """
    parts = [f"{shorts.get(field, field)}={_word(value)}" for field, value in changes.items()]
    name = ",".join(parts) or "base"
    if name.lower().endswith(_OWN_SUFFIXES):  # as a data set's path may end
        name = "_".join(name.rsplit(".", 1))
    if len(name.encode()) > _LONGEST_NAME:
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        start = name.encode()[: _LONGEST_NAME - 9].decode(errors="ignore")  # whole letters
        name = f"{start}-{digest}"
    return name


def _word(value: Any) -> str:
    if isinstance(value, list):
        return "+".join(map(_word, value))
    return re.sub(r"[^\w.+-]+", "_", str(value)) or "_"
