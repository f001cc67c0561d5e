"""What `yolo-jax sweep` does: reads the trials, picks those that are left, and runs them."""

import argparse
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType

from yolo_jax.config import config_of
from yolo_jax.config.files import load_module
from yolo_jax.core.extras import module_of_extra
from yolo_jax.core.fields import check_fields
from yolo_jax.launch.command import job_of, ray_address, ray_resources, slurm_resources
from yolo_jax.launch.job import Job
from yolo_jax.sweep.folder import SweepFolder
from yolo_jax.sweep.local import Local, places
from yolo_jax.sweep.run import Backend, Entry, Listed, Source, State, Sweeper, Unit
from yolo_jax.sweep.table import line, shown, summary
from yolo_jax.sweep.together import begun_units, told, units_of
from yolo_jax.sweep.trials import Trial, read_trials

JobMaker = Callable[[tuple[str, ...]], Job]
_log = logging.getLogger(__name__)
_METRIC = "val_loss"


def sweep(options: argparse.Namespace, overrides: Sequence[str]) -> int:
    """Runs a sweep's trials that are not done, and prints how they stand; returns the exit status.

    Args:
        options: of the command line.
        overrides: of the base config's fields.

    Raises:
        ValueError: something about the trials, the folder or the backend cannot be.
        KeyboardInterrupt: a signal asked for an end; the running trials have saved.
    """
    if options.config.suffix != ".py":
        raise ValueError(f"a sweep is of a config file with sweep(); found {options.config}")
    _check_search(options)
    base = config_of(options.config, overrides, "sweep", options=vars(options))
    check_fields(base)
    folder, module = SweepFolder(base), load_module(options.config)
    trials = [] if options.search else read_trials(module, options.config, base)
    job = _job_maker(options, overrides)
    if options.dry_run:
        folder.resolve(trials)
        _tell(options, folder, folder.trials if options.search else trials)
        return 0
    with folder.in_use():
        folder.resolve(trials)
        if options.search:
            return _search(options, folder, module, job)
        return _listed(options, folder, trials, job)


def _tell(options: argparse.Namespace, folder: SweepFolder, trials: Sequence[Trial]) -> None:
    """Prints how the trials stand, and which of them would be trained together."""
    entries = {trial.name: entry_of(folder, trial) for trial in trials}
    print("\n".join(map(line, entries.values())) or f"{folder.path} has no trial yet")
    units = _units(options, folder, entries)
    if any(len(unit) > 1 for unit in units):
        print("\n".join(told(folder, units)))


def _listed(
    options: argparse.Namespace, folder: SweepFolder, trials: Sequence[Trial], job: JobMaker
) -> int:
    entries = {trial.name: entry_of(folder, trial) for trial in trials}
    units = _units(options, folder, entries)
    for unit in units:
        folder.check_free(unit)
    if options.together == "auto" or any(len(unit) > 1 for unit in units):
        print("\n".join(told(folder, units)))
    if units:
        with backend_of(options) as backend:
            _run(options, folder, entries, backend, job, Listed(units))
    else:
        folder.save(options.config)
    print("\n".join(summary(list(entries.values()))))
    return int(any(entry.state not in ("done", "pruned") for entry in entries.values()))


def _units(
    options: argparse.Namespace, folder: SweepFolder, entries: Mapping[str, Entry]
) -> list[Unit]:
    """Returns the trials that are to be run; what crashed may end otherwise another time."""
    members = {trial.name for unit in begun_units(folder) for trial in unit}
    over = {name for name, entry in entries.items() if entry.state in ("diverged", "pruned")}
    again = over - members if options.retry else set()
    if options.retry and (frozen := over & members):
        _log.warning(
            "--retry leaves %s out: the state that it shares with the others of its group has it "
            "frozen; to train it once more give it another name",
            ", ".join(sorted(frozen)),
        )
    left = [
        entry.trial
        for name, entry in entries.items()
        if entry.state in ("waiting", "crashed") or name in again
    ]
    return units_of(folder, left, together=options.together == "auto")


def _search(
    options: argparse.Namespace, folder: SweepFolder, module: ModuleType, job: JobMaker
) -> int:
    by_optuna = module_of_extra("yolo_jax.sweep.search", "search", "--search optuna")
    with backend_of(options) as backend:
        search = by_optuna.Search(
            module,
            options.config,
            folder,
            count=options.trials,
            url=options.study,
            metric=options.metric or _METRIC,
        )
        entries = {trial.name: entry_of(folder, trial) for trial in folder.trials}
        _run(options, folder, entries, backend, job, search)
    print("\n".join([*summary(list(entries.values())), search.best()]))
    # One that crashed in an earlier start has had another in its place.
    states = [entry.state for entry in entries.values() if entry.seconds is not None]
    return int(not set(states) <= {"done", "pruned", "diverged"})


def _check_search(options: argparse.Namespace) -> None:
    if options.search is None:
        for name in ("trials", "study", "metric"):
            if getattr(options, name) is not None:
                raise ValueError(f"--{name} is of --search optuna; found no --search")
    elif options.trials is None:
        raise ValueError("--search optuna needs --trials, how many the study is to have")
    elif options.together != "off":
        raise ValueError(
            "--together is of sweep(); a search has each trial learn from those before"
        )
    elif options.retry:
        raise ValueError("--retry is of sweep(); a search asks its study for other trials")


def _job_maker(options: argparse.Namespace, overrides: Sequence[str]) -> JobMaker:
    """Returns what makes a job of a unit's arguments.

    Raises:
        ValueError: an option of the job cannot be.
    """

    def job(words: tuple[str, ...]) -> Job:
        arguments = ("train", str(options.config), *overrides, *words)
        return job_of(options, arguments, options.backend)

    job(())  # a word about its options before anything is started
    return job


def _run(
    options: argparse.Namespace,
    folder: SweepFolder,
    entries: dict[str, Entry],
    backend: Backend,
    job: JobMaker,
    source: Source,
) -> None:
    folder.save(options.config)  # not before the backend is there: its options may be amiss
    with shown() as show:
        Sweeper(folder, entries, backend, job, show, options.restarts).run(source)


def entry_of(folder: SweepFolder, trial: Trial) -> Entry:
    """Returns how a trial stands before anything is started."""
    failure = folder.run(trial).failure()
    state: State = "waiting" if failure is None else failure.kind
    if folder.is_done(trial):
        state = "done"
    message = "" if failure is None else failure.message
    epochs = folder.config(trial).epochs
    return Entry(trial, epochs, state, folder.progress(trial), message=message)


@contextmanager
def backend_of(options: argparse.Namespace) -> Iterator[Backend]:
    """Yields what trials run on.

    Raises:
        ValueError: it is not there, or cannot do what is asked of it.
    """
    if options.devices_per_trial is not None and options.backend != "local":
        raise ValueError(
            f"--devices-per-trial is of --backend local; found --backend {options.backend}"
        )
    match options.backend:
        case "local":
            yield Local(places(options.parallel or 1, options.devices_per_trial))
        case "ray":
            on_ray = module_of_extra("yolo_jax.sweep.ray", "ray", "--backend ray")
            cluster = module_of_extra("yolo_jax.launch.ray_cluster", "ray", "--backend ray")
            with cluster.connected(ray_address(options), prints=False):
                yield on_ray.Ray(options.parallel or 1, ray_resources(options))
        case _:
            on_slurm = module_of_extra("yolo_jax.sweep.slurm", "slurm", "--backend slurm")
            # All may wait in its queue; a search learns from trials that are over.
            parallel = options.parallel or (1 if options.search else None)
            yield on_slurm.Slurm(parallel, slurm_resources(options), options.restarts)
