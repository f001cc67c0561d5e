"""`ProgbarLogger`: what fit, evaluate and predict print."""

import sys
import time
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from yolo_jax.model.callbacks.callback import Callback, Logs
from yolo_jax.model.callbacks.each_trial import means
from yolo_jax.training.distributed import is_first

_BAR_WIDTH = 30


class ProgbarLogger(Callback):
    """Shows progress in Keras's line shapes, with images per second added.

    On a terminal, `verbose` 1 draws a bar that ends as
    `10/10 [==============================] - 0s 38ms/step - 12.3 images/s - loss: 1.2111` under
    the line `Epoch 1/2`, with the share of the time spent waiting for data where a loader gives
    them, and `verbose` 2 prints ` - 0s - loss: 0.8315` there. Elsewhere (a pipe, a
    file) each epoch is one line, without carriage returns: `Epoch 1/2 - 0s - 12.3 images/s - loss:
    1.2111`, `verbose` 2 without the images. Another `verbose` than 0, 1 and 2 prints `Epoch 1/2`
    alone. Evaluation and prediction on their own show the bar, without values.

    Values of a running epoch are fetched from the device once a second on a terminal alone.

    Args:
        count_mode: what the bar counts: `steps`, or `samples` where `params` has their number.

    Attributes:
        pace: seconds between looks at the numbers on the device, each of which waits for it.

    Raises:
        ValueError: `count_mode` is neither.
    """

    pace: float = 1.0
    _trials: tuple[str, ...] = ()

    def __init__(self, count_mode: Literal["steps", "samples"] = "steps") -> None:
        if count_mode not in ("steps", "samples"):
            raise ValueError(f"count_mode must be 'steps' or 'samples'; found {count_mode!r}")
        self.count_mode = count_mode
        self._training, self._width = False, 0

    def set_model(self, model: Any) -> None:
        """Receives the model, and the names of the trials that it may be of."""
        super().set_model(model)
        self._trials = getattr(model, "trial_names", ())

    def set_params(self, params: dict[str, Any]) -> None:
        """Receives the numbers of the call, `verbose` among them.

        Raises:
            ValueError: `verbose` is no whole number, such as Keras 3's `auto`.
        """
        if not isinstance(params.get("verbose", 1), int | np.integer):
            raise ValueError(
                f"verbose is 0 (silent), 1 (a bar) or 2 (a line an epoch); found "
                f"{params['verbose']!r}"
            )
        super().set_params(params)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Remembers that evaluation is a part of fit now."""
        self._training, self._width = True, 0

    def close(self) -> None:
        """Leaves the terminal's cursor on a line of its own, wherever training broke off."""
        self._training = False
        self._end_line()

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Prints the epoch's number, where the rest will stand below it."""
        self._title = f"Epoch {epoch + 1}/{self.params['epochs']}"
        self._start()
        if self._verbose and (self._terminal or self._verbose not in (1, 2)):
            print(self._title, flush=True)

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Remembers where the batches begin: past 0 where an epoch is resumed in its midst."""
        self._begun = batch
        super().on_train_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Moves the bar."""
        self._move(logs or {}, with_values=True, steps=batch + 1 - self._begun)
        self._begun = batch + 1
        super().on_train_batch_end(batch, logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Prints the epoch's line."""
        seconds = time.perf_counter() - self._started
        speed = f" - {self._rows / max(seconds, 1e-9):.1f} images/s" if self._rows else ""
        if "input_wait" in self.params:
            speed += f" - {self.params['input_wait']:.1%} waiting for data"
        values = self._values(logs or {})
        match self._verbose, self._terminal:
            case 1, True:
                self._draw(f"{self._bar()} -{self._elapsed()}{speed}{values}")
                self._end_line()
            case 1, False:
                print(f"{self._title} - {seconds:.0f}s{speed}{values}", flush=True)
            case 2, True:
                print(f" - {seconds:.0f}s{values}", flush=True)
            case 2, False:
                print(f"{self._title} - {seconds:.0f}s{values}", flush=True)

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Starts a bar, unless this is fit's validation."""
        self._start_alone()

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """Starts a bar."""
        self._start_alone()

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Moves the bar."""
        if not self._training:
            self._move(logs or {}, with_values=False)

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Moves the bar."""
        self._move(logs or {}, with_values=False)

    def on_test_end(self, logs: Logs | None = None) -> None:
        """Ends the bar."""
        self._end_alone()

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """Ends the bar."""
        self._end_alone()

    def _start(self) -> None:
        self._verbose = self.params["verbose"] if is_first() else 0
        self._terminal = sys.stdout.isatty()
        self._started = self._shown = time.perf_counter()
        self._rows = self._steps = self._width = self._begun = 0

    def _start_alone(self) -> None:
        if not self._training:
            self._start()

    def _end_alone(self) -> None:
        if self._training or self._verbose != 1:
            return
        line = f"{self._bar()} -{self._elapsed()}"
        if self._terminal:
            self._draw(line)
            self._end_line()
        else:
            print(line, flush=True)

    def _move(self, logs: Logs, *, with_values: bool, steps: int = 1) -> None:
        self._steps += steps
        # The size is known to the host; every other value would wait for the device.
        self._rows += int(logs.get("size", 0))
        now = time.perf_counter()
        if self._verbose != 1 or not self._terminal or now - self._shown < self.pace:
            return
        self._shown = now
        values = ""
        if with_values:
            speed = f" - {self._rows / (now - self._started):.1f} images/s" if self._rows else ""
            values = speed + self._values(logs)
        self._draw(f"{self._bar()} -{self._remaining(now)}{values}")

    def _count(self) -> tuple[int, int | None, str]:
        """Returns what is done, of how many, of what."""
        if self.count_mode == "samples" and self.params.get("samples"):
            return self._rows, self.params["samples"], "sample"
        return self._steps, self.params["steps"], "step"

    def _bar(self) -> str:
        done, target, _ = self._count()
        if target is None:
            return f"{done:7d}/Unknown"
        filled = min(int(_BAR_WIDTH * done / max(target, 1)), _BAR_WIDTH)
        arrow = "=" * max(filled - 1, 0) + ("" if not filled else ">" if done < target else "=")
        return f"{done:{len(str(target))}d}/{target} [{arrow:.<{_BAR_WIDTH}}]"

    def _elapsed(self) -> str:
        seconds, (done, _, unit) = time.perf_counter() - self._started, self._count()
        each = seconds / max(done, 1)
        if each >= 1:
            return f" {seconds:.0f}s {each:.0f}s/{unit}"
        if each >= 1e-3:
            return f" {seconds:.0f}s {each * 1e3:.0f}ms/{unit}"
        return f" {seconds:.0f}s {each * 1e6:.0f}us/{unit}"

    def _remaining(self, now: float) -> str:
        done, target, _ = self._count()
        if target is None or done >= target:
            return self._elapsed()
        seconds = int((now - self._started) / max(done, 1) * (target - done))
        minutes, hours = seconds // 60, seconds // 3600
        if hours:
            return f" ETA: {hours}:{minutes % 60:02d}:{seconds % 60:02d}"
        return f" ETA: {minutes}:{seconds % 60:02d}" if minutes else f" ETA: {seconds}s"

    def _values(self, logs: Mapping[str, Any]) -> str:
        """Returns ` - loss: 0.1234 - …`; small numbers in scientific notation, as Keras's.

        Of trials that are trained together their mean.
        """
        shown = means(logs, self._trials) if self._trials else logs
        return "".join(
            f" - {key}: {shown[key]:.4f}"
            if abs(shown[key]) > 1e-3
            else f" - {key}: {shown[key]:.4e}"
            for key in shown
            if key not in ("batch", "size")
        )

    def _draw(self, line: str) -> None:
        """Draws over the terminal's line, whatever length the last drawing had."""
        print(f"\r{line:<{self._width}}", end="", flush=True)
        self._width = len(line)

    def _end_line(self) -> None:
        if self._width:
            print(flush=True)
        self._width = 0
