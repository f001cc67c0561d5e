"""Callbacks that write numbers down: `CSVLogger`, `TensorBoard`."""

import csv
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import UInt8
from tensorboardX import SummaryWriter
from tensorboardX.proto import event_pb2

from yolo_jax.core.numbers import whole_number
from yolo_jax.model.callbacks.callback import Callback, Logs
from yolo_jax.training.distributed import is_first
from yolo_jax.training.optimizers import parameter_path


class CSVLogger(Callback):
    """Writes every epoch's logs to a CSV file: `epoch` (from 0), then the keys in their order.

    Unlike Keras's, the file is replaced as a whole and never found half written; its epochs before
    the first of this fit, which an earlier one wrote, are kept even without `append`, so neither
    resuming nor a second stage leaves a gap; and a key that comes later gets its column. A value
    that an epoch lacks is `NA`.

    Args:
        filename: of the file; its folder is made.
        separator: between values.
        append: keep all that the file holds, whatever its epochs.
    """

    def __init__(self, filename: Path | str, separator: str = ",", append: bool = False) -> None:
        self.filename, self.separator, self.append = Path(filename), separator, append
        self._rows: list[dict[str, Any]] = []
        self._resumed_rows: int | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Reads the epochs that stay."""
        self._rows, self._columns = [], ["epoch"]
        kept, self._resumed_rows = self._resumed_rows, None
        if not self.filename.is_file():
            return
        with self.filename.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, delimiter=self.separator)
            rows = list(reader)
            columns = list(reader.fieldnames or self._columns)
        if not self.append:
            rows = self._rows_before(self.model.run.epoch, rows)
        elif kept is not None:
            # Epochs that a killed run wrote after its last checkpoint are trained again.
            rows = rows[:kept]
        self._rows = rows
        if rows:
            self._columns = columns

    def _rows_before(self, epoch: int, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        try:
            return [row for row in rows if int(row["epoch"]) < epoch]
        except (KeyError, TypeError, ValueError) as error:
            if not epoch:
                return []  # a new fit writes over whatever the file is
            raise ValueError(
                f"{self.filename} is damaged: a row lacks the number of its epoch. It would be "
                "written over; move it away to go on"
            ) from error

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Writes the file with this epoch's row."""
        row = {"epoch": epoch, **(logs or {})}
        self._rows.append(row)
        if not is_first():
            return
        self._columns += sorted(row.keys() - set(self._columns))
        self.filename.parent.mkdir(parents=True, exist_ok=True)
        partial = self.filename.with_suffix(".partial")
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns, restval="NA", delimiter=self.separator)
            writer.writeheader()
            writer.writerows(self._rows)
        partial.replace(self.filename)

    def state_dict(self) -> dict[str, Any]:
        """Returns the number of rows that are true to the checkpoint."""
        return {"rows": len(self._rows)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes it back."""
        self._resumed_rows = state.get("rows")


class TensorBoard(Callback):
    """Writes logs as TensorBoard scalars, each under its key.

    The step is the epoch (from 0); where `update_freq` counts samples, the samples seen. The other
    arguments of Keras's are taken so that scripts run, and refused where they would have an
    effect that is not there: no graph, gradients, images or embeddings are written.

    Args:
        log_dir: of the events files; made.
        histogram_freq: epochs between histograms of the weights, or 0 for none.
        batch_size: without effect.
        write_graph: without effect: there is no graph to be drawn from.
        write_grads: not supported.
        write_images: not supported.
        embeddings_freq: not supported.
        update_freq: `epoch`; or samples between writes, `batch` being 1, each of which waits for
            the device.
        images: returns pictures by name, RGB, which are written after every epoch, such as
            `MeanAP.pictures`; that callback stands before this one in the list.

    Raises:
        ValueError: an argument that is not supported, an unknown `update_freq`, or a
            `histogram_freq` that is no number of epochs.
    """

    def __init__(
        self,
        log_dir: Path | str = "./logs",
        histogram_freq: int = 0,
        batch_size: int | None = None,
        write_graph: bool = True,
        write_grads: bool = False,
        write_images: bool = False,
        embeddings_freq: int = 0,
        *,
        update_freq: Literal["epoch", "batch"] | int = "epoch",
        images: Callable[[], Mapping[str, UInt8[np.ndarray, "h w 3"]]] | None = None,
    ) -> None:
        unsupported = {
            "write_grads": write_grads,
            "write_images": write_images,
            "embeddings_freq": embeddings_freq,
        }
        for name, value in unsupported.items():
            if value:
                raise ValueError(f"TensorBoard's {name} is not supported; found {name}={value}")
        is_number = isinstance(update_freq, int) and update_freq > 0
        if update_freq not in ("epoch", "batch") and not is_number:
            raise ValueError(
                "TensorBoard's update_freq is 'epoch', 'batch' or a number of samples, 1 or more; "
                f"found {update_freq!r}"
            )
        self.log_dir = Path(log_dir)
        self.histogram_freq = whole_number("TensorBoard's histogram_freq", histogram_freq)
        self.images = images
        self._samples_between: int | None = None
        if update_freq != "epoch":
            self._samples_between = 1 if update_freq == "batch" else int(update_freq)
        self._writer: SummaryWriter | None = None
        self._samples = self._written = 0

    def on_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Writes the batch's logs, where samples are counted."""
        if self._samples_between is None or logs is None:
            return
        self._samples += int(logs["size"])
        if self._samples - self._written >= self._samples_between:
            self._write(logs, self._samples)
            self._written = self._samples

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Writes the epoch's logs and pictures, and the histograms where it is time."""
        writer = self._write(logs or {}, epoch if self._samples_between is None else self._samples)
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            params = self.model.parallel.whole(self.model.state.params)
            for path, leaf in jax.tree_util.tree_leaves_with_path(params):
                writer.add_histogram(parameter_path(path), np.asarray(leaf, np.float32), epoch)
        for name, picture in (self.images() if self.images else {}).items():
            writer.add_image(name, picture, epoch, dataformats="HWC")
        writer.flush()

    def log_after_fit(self, step: int, numbers: Mapping[str, float]) -> None:
        """Writes what is known only when the fit is over, to an events file of its own.

        Args:
            step: of the numbers.
            numbers: by name.
        """
        self._write(numbers, step)
        self.close()

    def close(self) -> None:
        """Closes the events file."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None

    def _write(self, logs: Mapping[str, Any], step: int) -> SummaryWriter:
        # Opened late: a fit that has nothing left to do needs no events file.
        if self._writer is None:
            self._writer = _open_events(self.log_dir, step)
        for key in logs:
            if key not in ("batch", "size"):
                self._writer.add_scalar(key, logs[key], step)
        return self._writer

    def state_dict(self) -> dict[str, Any]:
        """Returns the samples seen."""
        return {"samples": self._samples, "written": self._written}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes them back; nothing in a checkpoint that was made before they were kept."""
        self._samples, self._written = state.get("samples", 0), state.get("written", 0)


def _open_events(folder: Path, step: int) -> SummaryWriter:
    """Opens an events file of its own, beside which none shows anything from a step on.

    What a killed run wrote after its last checkpoint is not shown beside what comes.
    """
    # tensorboardX's name has whole seconds, so that two fits in one of them would have one file.
    suffix = f".{time.time_ns()}"
    writer: Any = SummaryWriter(str(folder), filename_suffix=suffix, write_to_disk=is_first())
    if is_first():
        # Without its queue and thread, behind which a flush leaves what a kill then loses.
        events = writer.file_writer.event_writer
        events.add_event = events._ev_writer.write_event
        protocol: Any = event_pb2  # its names are made when it is imported
        start = protocol.SessionLog(status=protocol.SessionLog.START)
        writer.file_writer.add_event(protocol.Event(step=step, session_log=start))
    return writer
