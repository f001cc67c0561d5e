"""Which trials of a sweep one program trains together."""

from collections.abc import Iterator, Sequence

from yolo_jax.experiment.groups import begun_groups
from yolo_jax.experiment.trial_numbers import differing, group_trials
from yolo_jax.sweep.folder import SweepFolder
from yolo_jax.sweep.run import Unit
from yolo_jax.sweep.trials import Trial


def units_of(folder: SweepFolder, left: Sequence[Trial], *, together: bool) -> list[Unit]:
    """Returns the trials that are left, in the units that processes run.

    A group that was begun goes on as it was, with all its trials in their order, those that are
    over too: they are one state. So does a trial that was begun alone.

    Args:
        folder: of the sweep.
        left: that are to be run.
        together: the others that differ in numbers alone are a unit; else each is one.

    Raises:
        ValueError: see `begun_units`.
    """
    begun = begun_units(folder)
    members = {trial.name for unit in begun for trial in unit}
    alone = [trial for trial in left if trial.name not in members]
    fresh = [trial for trial in alone if together and not folder.is_begun(trial)]
    units: list[Unit] = [(trial,) for trial in alone if trial not in fresh]
    for places in group_trials([folder.config(trial) for trial in fresh]):
        units.append(tuple(fresh[place] for place in places))
    order = {trial.name: place for place, trial in enumerate(left)}
    found = [unit for unit in [*begun, *units] if any(trial.name in order for trial in unit)]
    return sorted(found, key=lambda unit: min(order.get(each.name, len(order)) for each in unit))


def begun_units(folder: SweepFolder) -> list[Unit]:
    """Returns the trials of each group that was begun, in their order.

    Raises:
        ValueError: the sweep does not know one of them.
    """
    known, found = {trial.name: trial for trial in folder.trials}, []
    for place, names in begun_groups(folder.path).items():
        if strangers := [name for name in names if name not in known]:
            raise ValueError(
                f"{place} was begun with {', '.join(strangers)}, which the sweep does not have; "
                "give them back their place in sweep(), or delete that folder to give its state up"
            )
        found.append(tuple(known[name] for name in names))
    return found


def told(folder: SweepFolder, units: Sequence[Unit]) -> Iterator[str]:
    """Yields lines that say which trials share a program, and what keeps others apart."""
    count = sum(map(len, units))
    yield f"together: {count} trials in {len(units)} programs"
    for unit in units:
        yield "  " + " ".join(trial.name for trial in unit)
    if fields := differing([folder.config(unit[0]) for unit in units]):
        yield f"  apart by {', '.join(fields)}"
