"""What `yolo-jax sweep` does: reads the trials, picks those that are left, and runs them."""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from yolo_jax.config import config_of
from yolo_jax.config.files import load_module
from yolo_jax.core.extras import module_of_extra
from yolo_jax.core.fields import check_fields
from yolo_jax.launch.command import job_of, ray_address, ray_resources, slurm_resources
from yolo_jax.sweep.folder import SweepFolder
from yolo_jax.sweep.local import Local, places
from yolo_jax.sweep.run import Backend, Entry, Listed, Source, State, Sweeper
from yolo_jax.sweep.table import line, shown, summary
from yolo_jax.sweep.together import told, units_of
from yolo_jax.sweep.trials import Trial, read_trials

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
    base = config_of(options.config, overrides, "sweep")
    check_fields(base)
    folder, module = SweepFolder(base), load_module(options.config)
    trials = [] if options.search else read_trials(module, options.config, base)
    if options.dry_run:
        folder.resolve(trials)
        print("\n".join(line(entry_of(folder, trial)) for trial in trials))
        return 0
    with folder.in_use():
        folder.resolve(trials)
        folder.save(options.config)
        if options.search:
            return _search(options, overrides, folder, module)
        entries = {trial.name: entry_of(folder, trial) for trial in trials}
        left = [trial for trial in trials if _is_left(entries[trial.name], retry=options.retry)]
        units = units_of(folder, left, together=options.together == "auto")
        for unit in units:
            folder.check_free(unit)
        if options.together == "auto" or any(len(unit) > 1 for unit in units):
            print("\n".join(told(folder, units)))
        if units:
            _run(options, overrides, folder, entries, Listed(units))
        print("\n".join(summary(list(entries.values()))))
        return int(any(entry.state not in ("done", "pruned") for entry in entries.values()))


def _search(
    options: argparse.Namespace, overrides: Sequence[str], folder: SweepFolder, module: ModuleType
) -> int:
    by_optuna = module_of_extra("yolo_jax.sweep.search", "search", "--search optuna")
    search = by_optuna.Search(
        module,
        options.config,
        folder,
        count=options.trials,
        url=options.study,
        metric=options.metric or _METRIC,
    )
    entries = {trial.name: entry_of(folder, trial) for trial in folder.trials}
    _run(options, overrides, folder, entries, search)
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


def _run(
    options: argparse.Namespace,
    overrides: Sequence[str],
    folder: SweepFolder,
    entries: dict[str, Entry],
    source: Source,
) -> None:
    def job(words: tuple[str, ...]) -> Any:
        arguments = ("train", str(options.config), *overrides, *words)
        return job_of(options, arguments, options.backend)

    job(())  # a word about its options before anything is started
    with backend_of(options) as backend, shown() as show:
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


def _is_left(entry: Entry, *, retry: bool) -> bool:
    """Tells whether a trial is to be run; what crashed may end otherwise another time."""
    return entry.state in ("waiting", "crashed", *("diverged", "pruned") * retry)


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
