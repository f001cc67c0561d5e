"""A search by Optuna: trials asked of a stored study, pruned by their validation curves.

A study knows the config and the space that it is of. What a killed sweep left running goes on.
"""

import ast
import inspect
import logging
import math
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import optuna
from optuna.trial import TrialState

from yolo_jax.config import ExperimentConfig
from yolo_jax.config.files import told_by_line
from yolo_jax.config.flat import flatten, plain
from yolo_jax.core.fields import Unfit
from yolo_jax.run_folder import differences
from yolo_jax.sweep.folder import Progress, SweepFolder
from yolo_jax.sweep.run import Entry, Unit
from yolo_jax.sweep.trials import Trial, check_trial

_log = logging.getLogger(__name__)
# Of the base config's epochs, in which nothing is pruned: curves cross while the rate warms up.
_WARMUP_SHARE = 0.2
_MOST_REFUSED = 50  # trials one after the other, before the space is taken to be amiss
_ABOUT = "yolo_jax"  # the study's attribute that says what it is of
_OVER = (TrialState.COMPLETE, TrialState.PRUNED)


class Search:
    """A source of a sweep's trials: a study that is asked for as many as there are to be.

    MedianPruner ends a trial whose best value so far is worse than the median of what the others
    had at the same epoch. Hyperband would need far more trials than a detector's search has, to
    fill its brackets.

    Args:
        module: the config file, run, with `search(trial)`.
        config_file: its path.
        folder: of the sweep, in use by this process.
        count: trials that the study is to have, those that failed apart.
        url: Optuna's, of the study's storage; None: SQLite in the folder.
        metric: of the validation images, in history.csv.

    Raises:
        ValueError: there is no `search`, the metric is no validation figure, or the study is of
            another config, space or metric.
    """

    def __init__(
        self,
        module: ModuleType,
        config_file: Path,
        folder: SweepFolder,
        *,
        count: int,
        url: str | None,
        metric: str,
    ) -> None:
        if not hasattr(module, "search"):
            raise ValueError(
                f"{config_file} has no search(trial), which should return a trial's fields, as in "
                '{"optimizer.learning_rate": trial.suggest_float("rate", 1e-4, 1e-2, log=True)}'
            )
        check_metric(metric, folder.base)
        self._space, self._file, self._folder = module.search, config_file, folder
        self._metric, self._count = metric, count
        self._study = self._open(url)
        self._check_same()
        self._under_way: dict[str, optuna.Trial] = {}
        self._known: dict[str, int] = {}  # epochs that the study was told of
        self._left = list(self._left_running(is_own=url is None))
        self._asks = count - self._so_far()
        self._is_warned = False

    def _left_running(self, *, is_own: bool) -> Iterator[tuple[Trial, int]]:
        """Yields what a killed sweep left: the study's trials whose run folders are here.

        Args:
            is_own: nobody else asks the study; what is not here is lost.
        """
        here = {trial.name: trial for trial in self._folder.trials}
        for one in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            trial = here.get(_name(one.number))
            if trial is not None:
                self._folder.check_free((trial,))
                self._known[trial.name] = 1 + max(one.intermediate_values, default=-1)
                yield trial, one._trial_id
            elif is_own:
                self._study.tell(one.number, state=TrialState.FAIL)

    def _open(self, url: str | None) -> optuna.Study:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        base, name = self._folder.base, self._folder.path.name
        storage = url or f"sqlite:///{self._folder.path.resolve() / 'study.db'}"
        # The sampler draws anew at each start; machines that share a study may not draw alike.
        try:
            study = optuna.create_study(
                study_name=name,
                storage=storage,
                load_if_exists=True,
                direction="maximize" if _is_precision(self._metric) else "minimize",
                pruner=optuna.pruners.MedianPruner(
                    n_warmup_steps=math.ceil(_WARMUP_SHARE * base.epochs)
                ),
            )
        except Exception as error:  # of whatever driver the URL is of
            raise ValueError(f"--study {storage} cannot be opened: {error}") from error
        seed = None if url else base.seed + len(study.get_trials(deepcopy=False))
        study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        return study

    def _check_same(self) -> None:
        """Checks that the study is of this search, or says so in a new one."""
        own = {
            "base": flatten(self._folder.base),
            "space": _source(self._space),
            "metric": self._metric,
        }
        stored = self._study.user_attrs.get(_ABOUT)
        if stored is None and not self._study.get_trials(deepcopy=False):
            self._study.set_user_attr(_ABOUT, own)
            return
        here = f"the study {self._study.study_name} of {self._folder.path}"
        if stored is None:
            raise ValueError(f"{here} has trials of no sweep; choose another --name or --study")
        # Fields that are younger than the study are None to it.
        there = dict.fromkeys(own["base"]) | stored["base"]
        if differing := differences(there, own["base"]):
            raise ValueError(
                f"{here} is of another config; these differ: {differing}. Choose another --name "
                "or --study, or go back to the study's own config."
            )
        if stored["metric"] != self._metric:
            raise ValueError(f"{here} is of --metric {stored['metric']}; found {self._metric}")
        if stored["space"] != own["space"]:
            raise ValueError(
                f"{here} is of another search() than that of {self._file}, which was:\n"
                f"{stored['space']}\nChoose another --name or --study, or go back to that one."
            )

    def _so_far(self) -> int:
        """Returns the trials that count: those that are over but for the failed, or run."""
        states = (*_OVER, TrialState.RUNNING)
        return len(self._study.get_trials(deepcopy=False, states=states))

    def next(self) -> Unit | None:
        """Returns a trial that was left, or one that the study is asked for; each is a unit.

        Raises:
            ValueError: search() fails, or returns what is none of the config's fields or of
                another type; or trial after trial cannot be.
        """
        if self._left:
            trial, identity = self._left.pop(0)
            self._under_way[trial.name] = optuna.Trial(self._study, identity)
            return (trial,)
        # Other machines may have asked too; those that fail here are replaced at the next start.
        refusal = ""
        for _ in range(_MOST_REFUSED):
            if self._asks <= 0 or self._so_far() >= self._count:
                return None
            asked = self._study.ask()
            try:
                trial = self._drawn(asked)
            except optuna.TrialPruned as error:  # by search() itself
                refusal = f"it was pruned: {error}"
                self._asks -= 1
                self._study.tell(asked, state=TrialState.PRUNED)
            except Unfit as error:
                refusal = str(error)
                _log.warning("%s; another is asked for", error)
                self._study.tell(asked, state=TrialState.FAIL)
            except ValueError:
                self._study.tell(asked, state=TrialState.FAIL)
                raise
            else:
                self._asks -= 1
                self._under_way[trial.name] = asked
                return (trial,)
        raise ValueError(
            f"search() of {self._file} gave {_MOST_REFUSED} trials one after the other that cannot "
            f"be, the last one: {refusal}. Narrow what it suggests."
        )

    def _drawn(self, asked: optuna.Trial) -> Trial:
        """Returns the trial of what the study suggests, once it is one of the folder's."""
        with told_by_line(self._file, but=(optuna.TrialPruned,)):
            values = self._space(asked)
        if not isinstance(values, Mapping):
            raise ValueError(
                f"search() of {self._file} returned {values!r}; expected fields, as in "
                '{"optimizer.learning_rate": 0.01}'
            )
        changes = {str(field): plain(value) for field, value in values.items()}
        trial = Trial(_name(asked.number), changes)
        check_trial(trial, self._folder.base)
        self._take_in(trial)
        self._warn(changes)
        return trial

    def _take_in(self, trial: Trial) -> None:
        """Takes a trial among those of the folder, where another study may have left its own."""
        own = {one.name: one for one in self._folder.trials}.get(trial.name)
        if own is None:
            self._folder.trials.append(trial)
            self._folder.save(self._file)
        elif own.changes != trial.changes:
            raise ValueError(
                f"{self._folder.path} has a {trial.name} of another study, with {own.changes}; "
                f"this one gives it {trial.changes}. Choose another --name, or go back to that "
                "--study."
            )

    def _warn(self, changes: Mapping[str, Any]) -> None:
        weighed = sorted(field for field in changes if field.startswith("loss."))
        if weighed and self._metric.endswith("loss") and not self._is_warned:
            self._is_warned = True
            _log.warning(
                "search() changes %s, and %s is not comparable between losses of other forms or "
                "weights; choose by val_AP50 (--metric), where the history has it",
                ", ".join(weighed),
                self._metric,
            )

    def is_hopeless(self, trial: Trial, progress: Progress) -> bool:
        """Reports a trial's curve to the study; tells whether it is to end.

        Raises:
            ValueError: the history lacks the metric.
        """
        self._check_column(trial, progress, is_over=False)
        return self._report(trial, progress) and self._under_way[trial.name].should_prune()

    def _report(self, trial: Trial, progress: Progress) -> bool:
        """Tells the study of the epochs that it does not know of; tells whether there are any."""
        asked, known = self._under_way[trial.name], self._known.setdefault(trial.name, 0)
        new = [row for row in progress.history if row["epoch"] >= known]
        for row in new:
            value = row.get(self._metric, math.nan)
            if not math.isnan(value):
                asked.report(value, int(row["epoch"]))
        self._known[trial.name] = known + len(new)
        return bool(new)

    def _check_column(self, trial: Trial, progress: Progress, *, is_over: bool) -> None:
        row = progress.history[-1] if progress.history else {self._metric: math.nan}
        # Average precision gets its columns with its first score.
        may_come = _is_precision(self._metric) and not any(map(_is_precision, row))
        if self._metric not in row and (is_over or not may_come):
            names = sorted(name for name in row if name.startswith("val_"))
            raise ValueError(
                f"--metric is {self._metric}, which {trial.name} does not have; start a sweep of "
                f"another --name with one of {', '.join(names)}"
            )

    def ended(self, entry: Entry) -> None:
        """Tells the study of a trial's end.

        One that diverged is told as pruned, so that the sampler stays away from there; one that
        crashed is no trial of the space's.

        Raises:
            ValueError: it is done, and its history lacks the metric.
        """
        self._check_column(entry.trial, entry.progress, is_over=entry.state == "done")
        self._report(entry.trial, entry.progress)
        asked = self._under_way.pop(entry.trial.name)
        value = entry.progress.last(self._metric)
        if entry.state == "done" and value is not None:
            self._study.tell(asked, value)
        elif entry.state in ("pruned", "diverged"):
            self._study.tell(asked, state=TrialState.PRUNED)
        else:
            self._study.tell(asked, state=TrialState.FAIL)

    def best(self) -> str:
        """Returns the best trial so far, in a line."""
        if not self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            return f"the study {self._study.study_name} has no trial that is done"
        best = self._study.best_trial
        return f"best by {self._metric}: {_name(best.number)} {best.value:.4g}  {best.params}"


def check_metric(metric: str, base: ExperimentConfig) -> None:
    """Checks that a metric is of the validation images: held-out ones choose nothing.

    Raises:
        ValueError: it is not; or it is an average precision, which the base config never takes.
    """
    if not metric.startswith("val_"):
        raise ValueError(
            f"--metric is {metric!r}; expected a figure of the validation images, such as "
            "val_loss: what is chosen by training or held-out figures says nothing of new images"
        )
    every = base.validation_ap_every
    if _is_precision(metric) and not 0 < every <= base.epochs:
        raise ValueError(
            f"--metric is {metric!r}, and validation_ap_every is {every}: no history would have "
            f"it; expected a score every 1 to {base.epochs} epochs, as in --validation-ap-every 1"
        )


def _is_precision(metric: str) -> bool:
    """Tells whether a metric is an average precision, of which more is better."""
    return "AP" in metric


def _name(number: int) -> str:
    return f"trial_{number:04}"


def _source(function: Any) -> str:
    """Returns a function's source, whatever its comments and its form."""
    return ast.unparse(ast.parse(textwrap.dedent(inspect.getsource(function))))
