"""Updates that the step refused, for a number in them was not finite, and what a fit does then."""

from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import jax
import numpy as np

from yolo_jax.core.caller import warn_caller
from yolo_jax.training.state import without_failure
from yolo_jax.training.step import FAILURES

if TYPE_CHECKING:
    from yolo_jax.model.fit import FitRun

OnNonfinite = Literal["stop", "skip", "continue"]
# Batches between two looks of several processes, which have to look at the same time.
_LOOK_EVERY = 64
_ADVICE = (
    "the update was refused, and the parameters are those before it. Look at that step's data "
    "and labels (NaN, infinity, class ids that are none), lower the learning rate, or clip the "
    "gradient."
)


class Refusal(NamedTuple):
    """The first update that was refused since the host had looked.

    Attributes:
        epoch: from 0.
        batch: of the epoch, from 0.
        step: updates that were tried before it.
        position: of its batch in the stream of the fit's data, from 0.
        term: one of `yolo_jax.training.step.FAILURES`.
        count: updates that were refused since the host had looked, it included.
    """

    epoch: int
    batch: int
    step: int
    position: int
    term: str
    count: int


class Refusals:
    """What was refused in a fit, as far as the host has looked.

    Args:
        action: `stop` raises at the first; `skip` warns in every epoch that has one, goes on
            without such updates, and raises after an epoch that had no other; `continue` warns of
            the first alone.

    Attributes:
        seen: the first of each look that found any.

    Raises:
        ValueError: there is no such action.
    """

    def __init__(self, action: OnNonfinite) -> None:
        if action not in get_args(OnNonfinite):
            actions = ", ".join(get_args(OnNonfinite))
            raise ValueError(f"on_nonfinite is {action!r}; expected one of {actions}")
        self.action = action
        self.seen: list[Refusal] = []
        self._tried = self._refused = 0  # updates of this epoch
        self._warned: set[str] = set()

    def begin_epoch(self) -> None:
        """Begins to count."""
        self._tried = self._refused = 0
        if self.action == "skip":
            self._warned.discard("")

    def tried(self, run: "FitRun", batches: int, *, was_fetched: bool) -> None:
        """Counts a call's batches, and looks if the host has waited for the device anyway."""
        self._tried += batches
        if jax.process_count() > 1:
            was_fetched = run.step % _LOOK_EVERY < batches
        if was_fetched:
            self.look(run)

    def end_epoch(self, run: "FitRun") -> None:
        """Looks at the last of them.

        Raises:
            FloatingPointError: as `look`; or the epoch had no other updates.
        """
        self.look(run)
        if self.action == "skip" and 0 < self._tried == self._refused:
            raise FloatingPointError(
                f"epoch {run.epoch} (counted from 0) had {self._tried} updates, and all were "
                f"refused: {self._said(self.seen[-1])}"
            )

    def look(self, run: "FitRun") -> None:
        """Reads what was refused, and acts on it.

        Raises:
            FloatingPointError: an update was refused and the fit is to stop then; of several
                trials, of each.
        """
        if run.model.trial_names:
            self._look_at_trials(run)
            return
        step, term, count = map(int, np.asarray(run.model.state.failure))
        if not count:
            return
        behind = int(run.model.state.step) - step
        found = Refusal(
            run.epoch, run.step - behind, step, run.batches - behind, FAILURES[term], count
        )
        self.seen.append(found)
        self._refused += count
        run.model.state = without_failure(run.model.state)
        if self.action == "stop":
            raise FloatingPointError(self._said(found))
        self._warn("", self._said(found))

    def _look_at_trials(self, run: "FitRun") -> None:
        """Tells of trials that were frozen, whose failures stay on record."""
        names = run.model.trial_names
        failures = np.asarray(run.model.state.failure)[: len(names)]
        for name, (step, term, _) in zip(names, failures, strict=True):
            if step < 0 or name in self._warned:
                continue
            said = f"trial {name}: {_first(step, FAILURES[term])}; {_ADVICE}"
            if self.action == "stop" and (failures[:, 0] >= 0).all():
                raise FloatingPointError(said)
            self._warn(name, said)

    def _warn(self, name: str, text: str) -> None:
        if name not in self._warned:
            self._warned.add(name)
            warn_caller(text)

    def _said(self, found: Refusal) -> str:
        others = f" (and of {found.count - 1} more since)" if found.count > 1 else ""
        return f"{_first(found.step, found.term)}{others}; {_ADVICE}"


def _first(step: int, term: str) -> str:
    return f"the {term} of step {step} (counted from 0) was not finite"
