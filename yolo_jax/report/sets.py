"""Sets of runs that are compared: sweeps, and the runs that were named one by one."""

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from scipy.special import stdtrit

from yolo_jax.core.json_files import read_json
from yolo_jax.report.runs import Run, is_run, read_run
from yolo_jax.run_folder import MAY_DIFFER

SWEEP, FORMAT = "sweep.json", 1
# Fields in which runs of one group may differ: what is drawn, and what is of no number.
_SEEDS = ("seed", "data.order_seed")
_OF_NO_GROUP = frozenset({*_SEEDS, "name", *MAY_DIFFER} - {"epochs"})
# What a run fills in that its config left open, or gave by device.
_FILLED_IN = ("batch_size", "batch_size_per_device", "optimizer.horizon")

_Value = bool | int | float | str | None


class _Trial(TypedDict):
    name: str
    changes: dict[str, _Value | list[_Value]]


class _Sweep(TypedDict):
    """What `sweep.json` holds, beside its format and the config's file."""

    base: dict[str, _Value | list[_Value]]
    trials: list[_Trial]


class Spread(NamedTuple):
    """A figure over the runs of a group.

    Attributes:
        mean: over all.
        deviation: the sample's standard deviation (n − 1); None of one run.
        count: n.
    """

    mean: float
    deviation: float | None
    count: int

    def interval(self) -> tuple[float, float] | None:
        """Returns Student's 95 % confidence interval of the mean; None of one run."""
        if self.deviation is None:
            return None
        half = float(stdtrit(self.count - 1, 0.975)) * self.deviation / math.sqrt(self.count)
        return self.mean - half, self.mean + half


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seeds alone.

    Attributes:
        changes: the fields in which their config differs from the base.
        runs: one of each seed, in the order of the set.
        repeats: further runs of these seeds, which tell nothing of how figures spread.
    """

    changes: dict[str, Any]
    runs: list[Run]
    repeats: list[Run] = field(default_factory=list)

    def spread(self, name: str) -> Spread | None:
        """Returns a figure over the runs that are complete and have it; None where none has.

        Args:
            name: of the figure; see `figure`.
        """
        values = [figure(run, name) for run in self.runs if run.is_complete]
        known = [value for value in values if value is not None]
        if not known:
            return None
        return _spread(known)

    def against(self, other: "Group", name: str) -> Spread | None:
        """Returns how much greater a figure is than another group's, over the seeds of both.

        Seeds are paired, for what they have alike (the order of the data, first weights) does not
        tell the groups apart; see `Spread.interval` for how sure that is.

        Args:
            other: group.
            name: of the figure; see `figure`.
        """
        theirs = {_seeds(run): figure(run, name) for run in other.runs if run.is_complete}
        pairs = [(figure(r, name), theirs.get(_seeds(r))) for r in self.runs if r.is_complete]
        known = [a - b for a, b in pairs if a is not None and b is not None]
        return _spread(known) if known else None


def _spread(values: Sequence[float]) -> Spread:
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Spread(statistics.fmean(values), deviation, len(values))


def _seeds(run: Run) -> tuple[Any, ...]:
    return tuple((run.config or {})[name] for name in _SEEDS)


@dataclass(frozen=True)
class RunSet:
    """Runs that are compared with each other.

    Attributes:
        title: of the section.
        base: fields by dotted name that the runs' configs are held against.
        runs: in their order.
        faults: what is wrong with the sweep's own file.
        trials: of a sweep, what each run was to change of the base, by the run's name.
    """

    title: str
    base: dict[str, Any]
    runs: list[Run]
    faults: list[str] = field(default_factory=list)
    trials: dict[str, dict[str, Any]] = field(default_factory=dict)

    def changes(self, run: Run) -> dict[str, Any]:
        """Returns the fields of a run that differ from the base.

        Fields that a config leaves open, and every run has filled in alike, are no differences. Of
        a trial without a config they are what its sweep says.
        """
        told = self.trials.get(run.name, {})
        if run.config is None:
            return {k: v for k, v in told.items() if k not in self.base or self.base[k] != v}
        found = {}
        for name, value in run.config.items():
            given = self.base.get(name)
            if name in ("name", "runs") or (name in self.base and given == value):
                continue
            is_open = given is None or name in _FILLED_IN
            if is_open and name not in told and not _differ(name, self.runs):
                continue
            found[name] = value
        return found

    def varied(self) -> list[str]:
        """Returns the fields in which runs differ from the base, seeds last."""
        found = dict.fromkeys(name for run in self.runs for name in self.changes(run))
        return sorted(found, key=lambda name: (name in _SEEDS, name))

    def loss_fields(self) -> list[str]:
        """Returns the fields of the loss in which complete runs differ: they have no common one."""
        complete = [run for run in self.runs if run.is_complete]
        names = dict.fromkeys(name for run in complete for name in run.config or {})
        return [name for name in names if name.startswith("loss.") and _differ(name, complete)]

    def ranking(self) -> str | None:
        """Returns what the runs are ranked by: val_loss, val_AP50 where losses cannot be compared.

        None where not all complete runs have that.
        """
        if not self.loss_fields():
            return "val_loss"
        is_known = all(run.last("val_AP50") is not None for run in self.runs if run.is_complete)
        return "val_AP50" if is_known else None

    def groups(self) -> list[Group]:
        """Returns the groups by their ranking, the best first; without one as they are given.

        Runs whose config cannot be read are of no group.
        """
        found: dict[str, list[Run]] = {}
        for run in self.runs:
            if run.config is not None:
                kept = {k: v for k, v in run.config.items() if k not in _OF_NO_GROUP}
                found.setdefault(json.dumps(kept, sort_keys=True), []).append(run)
        groups = [self._group(runs) for runs in found.values()]
        ranking = self.ranking()
        if ranking is None:
            return groups
        sign = 1 if ranking == "val_loss" else -1
        spreads = [group.spread(ranking) for group in groups]
        places = [math.inf if spread is None else sign * spread.mean for spread in spreads]
        return [groups[i] for i in sorted(range(len(groups)), key=places.__getitem__)]

    def base_group(self) -> Group | None:
        """Returns the group of a sweep's base; None where there is none."""
        return next((one for one in self.groups() if self.trials and not one.changes), None)

    def _group(self, runs: Sequence[Run]) -> Group:
        changes = {k: v for k, v in self.changes(runs[0]).items() if k not in _OF_NO_GROUP}
        of_seed: dict[tuple[Any, ...], Run] = {}
        for run in sorted(runs, key=lambda run: not run.is_complete):
            of_seed.setdefault(_seeds(run), run)
        counted = {run.path for run in of_seed.values()}
        return Group(
            changes,
            [run for run in runs if run.path in counted],
            [run for run in runs if run.path not in counted],
        )


def _differ(name: str, runs: Iterable[Run]) -> bool:
    """Tells whether the configs of some runs, of those that can be read, differ in a field."""
    values = [run.config.get(name) for run in runs if run.config is not None]
    return any(value != values[0] for value in values)


def figure(run: Run, name: str) -> float | None:
    """Returns a run's figure after its last epoch; None where it has none.

    Args:
        run: that has it.
        name: `AP`, `AP50` or `AP75` of the held-out images, or a column of history.csv.
    """
    if not name.startswith("AP"):
        return run.last(name)
    return run.figures.get(name) if run.figures is not None and run.is_current else None


def usual_speed(run: Run) -> float | None:
    """Returns the median of images a second over the epochs behind the first, which compiles."""
    rates = [rate for rate in run.speed.get("images_per_second", ()) if rate is not None]
    return statistics.median(rates[1:] or rates) if rates else None


def input_wait(run: Run) -> float | None:
    """Returns the share of all epochs' time that was spent waiting for data."""
    pairs = zip(run.speed.get("input_wait", ()), run.speed.get("seconds", ()), strict=False)
    known = [(share, time) for share, time in pairs if share is not None and time is not None]
    total = sum(time for _, time in known)
    return sum(share * time for share, time in known) / total if total else None


def read_sets(paths: Sequence[Path]) -> list[RunSet]:
    """Reads run folders and sweep folders; each folder once.

    Returns:
        A set for each sweep, then one of all other runs.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: a folder is neither a run's nor a sweep's.
    """
    sets, alone = [], []
    for path in dict.fromkeys(path.resolve() for path in paths):
        if not path.exists():
            raise FileNotFoundError(f"there is no run folder {path}")
        if (path / SWEEP).exists():
            sets.append(_read_sweep(path))
        elif is_run(path):
            alone.append(path)
        else:
            raise ValueError(
                f"{path} is no run's folder (it has no config.json) and no sweep's ({SWEEP}); "
                "name such folders, as runs/quickstart"
            )
    if alone:
        runs = [read_run(path, name) for path, name in zip(alone, _names(alone), strict=True)]
        sets.append(RunSet("Runs", _alike(runs), runs))
    return sets


def _names(paths: Sequence[Path]) -> list[str]:
    """Returns the folders' names; of those that are alike the whole paths."""
    names = [path.name for path in paths]
    return [str(p) if names.count(p.name) > 1 else p.name for p in paths]


def _alike(runs: Iterable[Run]) -> dict[str, Any]:
    """Returns the fields that all configs have alike."""
    configs = [run.config for run in runs if run.config is not None]
    if not configs:
        return {}
    first = configs[0].items()
    return {k: v for k, v in first if all(other.get(k) == v for other in configs)}


def _read_sweep(path: Path) -> RunSet:
    """Reads a sweep; where its own file is damaged, the run folders that lie beside it."""
    try:
        base, trials = _trials(path / SWEEP)
        names, faults = list(trials), []
    except (OSError, ValueError) as error:
        base, trials, faults = None, {}, [str(error)]
        names = sorted(one.name for one in path.iterdir() if one.is_dir() and is_run(one))
    runs = [read_run(path / name, name) for name in names]
    return RunSet(path.name, _alike(runs) if base is None else base, runs, faults, trials)


def _trials(path: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Returns a sweep's base, and what each trial changes of it, by the trial's name."""
    content = read_json(path, dict)
    if content.get("format") != FORMAT:
        raise ValueError(f"{path} has the format {content.get('format')!r}; expected {FORMAT}")
    content = read_json(path, _Sweep)
    base = content["base"]
    trials = {one["name"]: one["changes"] for one in content["trials"]}
    for name in trials:
        if Path(name).name != name or name in ("", ".."):
            raise ValueError(f"{path} names a trial {name!r}; expected the name of one folder")
    return base, trials
