"""The one training loop."""

import math
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from itertools import chain, islice, takewhile
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from yolo_jax.core.caller import warn_caller
from yolo_jax.core.interrupts import hear_every_interrupt, uncut
from yolo_jax.core.numbers import whole_number
from yolo_jax.model.augmenting import report_excess
from yolo_jax.model.callbacks import Callback, CallbackList, Checkpoint
from yolo_jax.model.callbacks.params import Params, known_rows
from yolo_jax.model.evaluating import BatchLogs, evaluate
from yolo_jax.model.feed import Feed, LoaderFeed, form_of
from yolo_jax.model.history import History
from yolo_jax.model.refusals import OnNonfinite, Refusals
from yolo_jax.model.validation import Validation
from yolo_jax.training.state import without_failure
from yolo_jax.training.step import Fed, Sums, row_count

if TYPE_CHECKING:
    from yolo_jax.model.trainer import Trainer

# Steps handed to the device ahead of the one it computes: enough to keep it busy, few enough
# that batches do not pile up in memory.
_STEPS_AHEAD = 2


class FitRun:
    """One call of `fit`: where it stands, and how to go on from a checkpoint.

    Attributes:
        epoch: the current one, from 0.
        step: batches of it that are done.
        batches: batches taken from the feed since its start; the data position.
        number: of this fit on the model, from 0; rows are shuffled anew in each.
        ended: its batches and their validation are done.
        interrupted: the data ended before the last epoch did.
        refusals: updates that were not finite.
    """

    def __init__(
        self,
        model: "Trainer",
        feed: Feed,
        *,
        epochs: int,
        initial_epoch: int,
        steps: int | None,
        callbacks: Sequence[Callback],
        validation: Validation | None,
        verbose: int,
        on_nonfinite: OnNonfinite,
    ) -> None:
        for name, number in (("epochs", epochs), ("initial_epoch", initial_epoch)):
            whole_number(name, number)
        self.model, self.feed, self.validation = model, feed, validation
        self.epochs, self.wanted_steps = epochs, steps
        self.epoch, self.step, self.number = initial_epoch, 0, model.fits
        self.batches = initial_epoch * (steps or feed.steps or 0) if feed.numbered else 0
        self.sums: Sums | None = None
        self.stored_sums: list[Any] | None = None
        # Batches that were read and not trained on yet, and how many a call takes (0: unknown).
        self._read: deque[Fed] = deque()
        self._failure: Exception | None = None  # of reading ahead
        self._at_once = 0
        self.interrupted = self.ended = False
        self.refusals = Refusals(on_nonfinite)
        if not model.trial_names:  # of trials, those that were frozen stay so
            model.state = without_failure(model.state)
        self.history = History()
        savers = [callback for callback in callbacks if isinstance(callback, Checkpoint)]
        others = [callback for callback in callbacks if not isinstance(callback, Checkpoint)]
        # History follows what adds to the logs; a checkpoint holds what all the others know.
        self.callbacks = CallbackList([*others, self.history, *savers])
        self.callbacks.set_model(model)
        names = [*model.metrics_names, *(f"val_{n}" for n in model.metrics_names if validation)]
        self._params = Params(
            {"epochs": epochs, "steps": self.steps, "verbose": verbose},
            {"metrics": names, "do_validation": bool(validation), **known_rows(feed.order)},
        )
        self.callbacks.set_params(self._params)

    @property
    def steps(self) -> int | None:
        """Returns the batches of an epoch: as asked for, or of a pass, read anew."""
        return self.feed.steps if self.wanted_steps is None else self.wanted_steps

    def run(self) -> History:
        """Trains until the last epoch is done, a callback stops it, or the data end.

        As in Keras `on_train_end` is called then alone, and not after an exception; the callbacks
        are closed in any case.
        """
        hear_every_interrupt()
        model = self.model
        model.stop_training, model.fits = False, self.number + 1
        try:
            self.callbacks.on_train_begin()
            with uncut() as self._uncut:
                logs = self._run_epochs()
            self.callbacks.on_train_end(logs)
        except BaseException as error:
            self.callbacks.close(error)
            raise
        self.callbacks.close()
        return self.history

    def _run_epochs(self) -> dict[str, float]:
        """Trains for all epochs and returns the last one's logs."""
        logs: dict[str, float] = {}
        is_left = self.epoch < self.epochs
        stream = self.feed.batches(self.batches, self.number) if is_left else iter(())
        try:
            while self.epoch < self.epochs and not (self.interrupted or self.model.stop_training):
                logs = self._run_epoch(stream)
                self.feed.end_pass()
                self.epoch, self.step, self.sums = self.epoch + 1, 0, None
        finally:
            if isinstance(stream, Generator):
                stream.close()
            if self.validation is not None:
                self.validation.close()
            self.model.refresh_layers()
        return logs

    def _run_epoch(self, stream: Iterator[Any]) -> dict[str, float]:
        """Trains for an epoch and returns its logs."""
        self.ended = False
        self.refusals.begin_epoch()
        self.callbacks.on_epoch_begin(self.epoch)
        self.model.read_layers()
        started, self._waited = time.perf_counter(), 0.0
        self._run_steps(stream)
        if self.stored_sums is not None and self._read_until(1, stream):
            self.sums = self._first_sums(self._read[0])  # stopped after the epoch's last batch
        self.refusals.end_epoch(self)
        objective = self.model.require_compiled().objective
        sums: Sums = {} if self.sums is None else jax.device_get(self.sums)
        # Of an epoch that found no data left nothing is known: tf_keras logs 0, which looks best.
        logs = dict.fromkeys(objective.log_names, math.nan) | objective.results(sums)
        if isinstance(self.feed, LoaderFeed):
            seconds = time.perf_counter() - started
            self._params |= {"input_wait": self._waited / seconds, "step_seconds": seconds}
        self.model.refresh_layers()
        if self.validation is not None and self.validation.is_due(self.epoch):
            found = self._validate(self.validation)
            logs |= {f"val_{name}": value for name, value in found.items()}
        self.ended = True
        self.callbacks.on_epoch_end(self.epoch, logs)
        report_excess(sums, self.epoch)
        return logs

    def _run_steps(self, stream: Iterator[Any]) -> None:
        model, compiled = self.model, self.model.require_compiled()
        ahead: deque[Sums] = deque()
        steps = self.steps
        while steps is None or self.step < steps:
            # Before the data are asked for, as in tf_keras: where they end, a batch begins in vain.
            self.callbacks.on_train_batch_begin(self.step)
            asked = time.perf_counter()
            feds = self._next_batches(stream, steps)
            self._waited += time.perf_counter() - asked
            if not feds:
                self._say_out_of_data(steps)
                return
            if self.sums is None:
                self.sums = self._first_sums(feds[0])
            with self._uncut:  # the step takes the state's arrays, and returns others
                model.state, self.sums = compiled.train(
                    model.state, self.sums, feds, self.batches, room=self._at_once
                )
            self.step, self.batches = self.step + len(feds), self.batches + len(feds)
            names = compiled.objective.log_names
            batch, results = self.step - 1, compiled.objective.results
            rows = model.parallel.processes * sum(map(row_count, feds))
            logs = BatchLogs(batch, rows, self.sums, names, results)
            self.callbacks.on_train_batch_end(batch, logs)
            self.refusals.tried(self, len(feds), was_fetched=logs.was_fetched)
            model.take_changes()
            ahead.append(self.sums)
            if len(ahead) > _STEPS_AHEAD:
                jax.block_until_ready(ahead.popleft())
            if model.stop_training:
                return

    def _next_batches(self, stream: Iterator[Fed], steps: int | None) -> list[Fed]:
        """Returns the batches of one call, which have the same shapes; none where they end."""
        self._read_until(1, stream)
        if self._read and not self._at_once:
            self._at_once = self._choose_at_once(self._read[0], steps)
        left = self._at_once if steps is None else min(self._at_once, steps - self.step)
        self._read_until(left, stream)
        forms = [form_of(fed) for fed in islice(self._read, left)]
        alike = sum(1 for _ in takewhile(lambda form: form == forms[0], forms))
        return [self._read.popleft() for _ in range(alike)]

    def _read_until(self, count: int, stream: Iterator[Fed]) -> bool:
        """Reads ahead; what fails then is raised once the batches before it are taken.

        Returns:
            Whether there is a batch.
        """
        if self._failure is not None and not self._read:
            raise self._failure
        while self._failure is None and len(self._read) < count:
            try:
                self._read.append(next(stream))
            except StopIteration:
                break
            except Exception as error:
                if not self._read:
                    raise
                self._failure = error
        return bool(self._read)

    def _choose_at_once(self, fed: Fed, steps: int | None) -> int:
        """Returns the steps of a call; one, unless told, where something may happen in between."""
        compiled = self.model.require_compiled()
        if compiled.steps_per_execution is None and (
            self.callbacks.has_batch_hooks or not self.feed.numbered
        ):
            return 1
        found = compiled.steps_at_once(self.model.state, fed)
        return found if steps is None else min(found, steps)

    def _first_sums(self, fed: Any) -> Sums:
        """Returns the sums that the epoch starts with: nothing, or what a checkpoint held."""
        compiled = self.model.require_compiled()
        zeros = compiled.zero_sums(self.model.state, fed, training=True)
        compiled.compile_ahead(self.model.state, zeros, fed)
        if self.stored_sums is None:
            return zeros
        leaves, structure = jax.tree.flatten(zeros)
        stored = [jnp.asarray(s, z.dtype) for s, z in zip(self.stored_sums, leaves, strict=True)]
        self.stored_sums = None
        return self.model.parallel.place(jax.tree.unflatten(structure, stored))

    def _say_out_of_data(self, steps: int | None) -> None:
        """Ends the fit where the data do; an epoch of unknown length is over then, as it should."""
        self.interrupted = True
        if self.sums is None and not self.history.epoch:
            raise ValueError("the data ended before the first batch: there was nothing to train on")
        if steps is not None:
            warn_caller(
                "Your input ran out of data; interrupting training. Make sure that your dataset or "
                f"generator can generate at least `steps_per_epoch * epochs` batches (in this "
                f"case, {steps * self.epochs} batches)."
            )

    def _validate(self, validation: Validation) -> dict[str, float]:
        """Returns the figures of the validation data; none, and no more, where they have ended."""
        steps = validation.steps or validation.feed.steps
        stream = validation.stream()
        first = next(stream, None)
        if first is None:
            warn_caller(
                f"Your validation_data ran out of data: epoch {self.epoch + 1} and those after it "
                f"have no val_ figures. Make sure that it has `validation_steps` batches (in this "
                f"case, {steps}) for each evaluation."
            )
            validation.close()
            self.validation = None
            return {}
        stream = chain((first,), stream)
        found = evaluate(self.model, stream, steps, self.callbacks, "validation_data")
        validation.feed.end_pass()
        return found
