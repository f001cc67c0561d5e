"""Which trials of a sweep one program trains together."""

from collections.abc import Collection, Iterator, Sequence

from yolo_jax.experiment.together import group_folder
from yolo_jax.experiment.trial_numbers import differing, group_trials
from yolo_jax.sweep.folder import SweepFolder
from yolo_jax.sweep.run import Unit
from yolo_jax.sweep.trials import Trial


def units_together(
    folder: SweepFolder, trials: Sequence[Trial], left: Collection[Trial]
) -> list[Unit]:
    """Returns the trials that are left, in units that differ in numbers alone.

    A unit that was begun goes on with all its trials, those that are over too: they are one state.

    Args:
        folder: of the sweep.
        trials: all of it.
        left: that are to be run.
    """
    names = {trial.name for trial in left}
    found = []
    for unit in _groups(folder, trials):
        ours = tuple(trial for trial in unit if trial.name in names)
        begun = group_folder([folder.config(trial) for trial in unit]).is_dir()
        if ours:
            found.append(unit if begun and len(unit) > 1 else ours)
    return found


def told(folder: SweepFolder, units: Sequence[Unit]) -> Iterator[str]:
    """Yields lines that say which trials share a program, and what keeps others apart."""
    count = sum(map(len, units))
    yield f"together: {count} trials in {len(units)} programs"
    for unit in units:
        yield "  " + " ".join(trial.name for trial in unit)
    if len(units) > 1:
        fields = differing([folder.config(unit[0]) for unit in units])
        yield f"  apart by {', '.join(fields)}"


def _groups(folder: SweepFolder, trials: Sequence[Trial]) -> list[Unit]:
    groups = group_trials([folder.config(trial) for trial in trials])
    return [tuple(trials[place] for place in group) for group in groups]
