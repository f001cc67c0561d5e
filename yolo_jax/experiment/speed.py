"""How fast an experiment's epochs were, kept in its run folder."""

from typing import Any

from yolo_jax.model.callbacks import CSVLogger
from yolo_jax.model.callbacks.callback import Logs


class SpeedLogger(CSVLogger):
    """Writes of every epoch `seconds`, `images_per_second` and `input_wait` to a CSV file.

    They are of its training steps, without validation; of an epoch that was resumed in its midst,
    of those since. `input_wait` is the share of the time that was spent waiting for data. The first
    epoch of a start compiles. All that is of no run's numbers: history.csv stays the same however
    often a run is stopped, which seconds would not.
    """

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Begins to count images."""
        self._images = 0

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Counts the batch's images, which the host knows."""
        self._images += int((logs or {})["size"])

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Writes the file with this epoch's row."""
        seconds = self.params["step_seconds"]
        speed = {
            "seconds": round(seconds, 4),
            "images_per_second": round(self._images / seconds, 4),
            "input_wait": round(self.params["input_wait"], 6),
        }
        super().on_epoch_end(epoch, speed)
