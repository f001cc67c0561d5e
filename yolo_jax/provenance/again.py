"""A run started again from its folder, and whether its numbers are the same to the bit."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from yolo_jax.config import ExperimentConfig
from yolo_jax.config.files import with_overrides
from yolo_jax.provenance.checksums import file_checksum
from yolo_jax.provenance.origin import ORIGIN, differences, read_starts
from yolo_jax.run_folder import MAY_DIFFER, RunFolder, flatten, is_complete

# What a run that repeats another one may have of its own. Its epochs are those of the other.
_OWN = MAY_DIFFER - {"epochs"} | {"name"}


def config_again(folder: Path, overrides: Sequence[str]) -> ExperimentConfig:
    """Returns the config of a run that repeats another one, beside it and under another name.

    Args:
        folder: of the run to be repeated.
        overrides: of the command line, such as `--name NEW`; without, its name ends in `_again`.

    Raises:
        ValueError: the folder holds no run, or a damaged one; its data are gone; the new run would
            be written into it, or is complete already; or a field was given that would make it
            another run.
    """
    run = RunFolder(folder)
    if not run.is_begun:
        raise ValueError(
            f"--reproduce {folder}: there is no run, for it has no config.json; give the folder of "
            "one, such as runs/quickstart"
        )
    stored = run.config()
    # As `.` and links have neither a name nor a place of their own.
    place = folder if folder.name == folder.resolve().name else folder.resolve()
    default = dataclasses.replace(stored, name=f"{place.name}_again", runs=place.parent)
    config = with_overrides(default, overrides, f"yolo-jax train --reproduce {folder}")
    old, new = flatten(default), flatten(config)
    others = [f"{name} (there {old[name]!r}, here {new[name]!r})" for name in old
              if old[name] != new[name] and name not in _OWN]  # fmt: skip
    if others:
        raise ValueError(
            f"--reproduce {folder} takes that run's own config; found {'; '.join(others)}. Leave "
            "them out, or train a config with them"
        )
    target = RunFolder(config.runs / config.name)
    if target.path.resolve() == folder.resolve():
        raise ValueError(
            f"--reproduce {folder} would write into that folder itself; give another --name"
        )
    if is_complete(target.figures(), config.epochs):
        raise ValueError(
            f"--reproduce {folder} would train nothing, for {target.path} is there and complete; "
            "give another --name"
        )
    _check_data(folder, config)
    return config


def was_deterministic(folder: Path) -> bool:
    """Tells whether a run was first started with `--deterministic`.

    Raises:
        ValueError: its `origin.json` is damaged.
    """
    starts = read_starts(folder)
    return bool(starts) and "--deterministic" in starts[0]["argv"]


def _check_data(folder: Path, config: ExperimentConfig) -> None:
    data = config.data
    for path in (data.train, data.validation, data.held_out, data.classes):
        if path is not None and not str(path).startswith("tfds:") and not path.exists():
            starts = read_starts(folder)
            there = f", seen from {starts[0]['folder']}" if starts else ""
            raise ValueError(
                f"{folder} is of the data {path}{there}, and there is nothing of that name here; "
                "bring them back, or go to the folder that the run was started in"
            )


def tell_differences(folder: Path, now: Mapping[str, Any]) -> None:
    """Prints what differs between the surroundings of a run's starts and of another's.

    Args:
        folder: of the run.
        now: the start of the run that repeats it.

    Raises:
        ValueError: its `origin.json` is damaged.
    """
    starts = read_starts(folder)
    if not starts:
        print(
            f"{folder} has no {ORIGIN}, for it is older than these: what differs in versions, "
            "devices and data cannot be told"
        )
        return
    found = differences(starts[0], now)
    if starts[0]["goes_on"]:
        print(f"the first start of {folder} is older than {ORIGIN}; this compares with a later one")
    print(f"surroundings of {folder}: {'these differ' if found else 'the same as here'}")
    print("".join(f"  {line}\n" for line in found), end="")
    for number, start in enumerate(starts[1:], 2):
        for line in differences(starts[0], start):
            print(f"  in its own start {number}: {line}")


def compare_runs(there: Path, here: Path) -> str | None:
    """Returns the first epoch and figure in which a run differs from another; None of the same.

    The figures are those of `history.csv`, then the weights in `final.weights`, then those of
    `metrics.json`.

    Args:
        there: folder of a run.
        here: folder of the one that repeats it, at its end.

    Raises:
        ValueError: a file is damaged.
    """
    old, new = (RunFolder(folder).history() for folder in (there, here))
    for epoch, (left, right) in enumerate(zip(old, new, strict=False)):
        for name in sorted(left.keys() | right.keys()):
            if repr(left.get(name)) != repr(right.get(name)):  # NaN is NaN
                return f"epoch {epoch + 1}: {name} {left.get(name)} then, {right.get(name)} now"
    if len(old) != len(new):
        return f"history.csv: {len(old)} epochs then, {len(new)} now"
    weights = [RunFolder(folder).weights for folder in (there, here)]
    sums = [file_checksum(path)[:12] if path.is_file() else "none" for path in weights]
    if sums[0] != sums[1]:
        return f"{weights[0].name}: sha256 {sums[0]} then, {sums[1]} now"
    first, second = (dict(_figures(RunFolder(folder).figures() or {})) for folder in (there, here))
    for name in sorted(first.keys() | second.keys()):
        if first.get(name) != second.get(name):
            return f"metrics.json: {name} {first.get(name)} then, {second.get(name)} now"
    return None


def _figures(figures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from _figures(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
