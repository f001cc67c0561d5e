"""Batches from annotations, by Grain: the order is a function of (seed, pass) alone."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import parent_process
from pathlib import Path
from typing import Literal

import cloudpickle
import grain
import numpy as np
from absl import flags
from jaxtyping import Int

from yolo_jax.core.types import Batch, Dataset
from yolo_jax.data.cache import DiskCache, MemoryCache
from yolo_jax.data.doctor import Kind, Problem, listed, report
from yolo_jax.data.examples import PADDING, Example, ExampleMaker, GroupMaker, Mixing
from yolo_jax.data.images import ImageError
from yolo_jax.data.readers.columns import Columns

_log = logging.getLogger(__name__)
_BATCHES_AHEAD = 2
# More lost images than this share of a data set end the run, of a small one than this number.
_MOST_SKIPPED, _FEW = 0.01, 3
# Rows of a stream without end. Grain counts them by floats too, which its own sys.maxsize exceeds.
_ENDLESS = 2**48


class Loader:
    """An endless stream of batches over a data set, which can start at any of them.

    Args:
        dataset: the annotations.
        batch_size: rows a batch, over all processes; the last of a pass has fewer where they do
            not divide.
        image_shape: (height, width) that every image is letterboxed into, px.
        max_boxes: boxes kept an image, T; None: the data's maximum, rounded up to a multiple of 8.
            Crowd regions are no targets and do not count.
        shuffle: draw a new order for every pass.
        seed: of the orders.
        whole_batches: batches go on over the end of a pass, so that all are full.
        threads: that decode images in this process, when there are no `workers`.
        workers: processes that decode, spawned; 0 for none. Like `threads` they change the speed
            alone.
        process: (index, number) of this process among those that share every batch: it gets its
            own consecutive rows. Of the last batch of a pass padding rows make up what is missing.
        cache: keep letterboxed images in `memory`, for threads alone, or in a folder.
        mixing: makes every row a group of images, for augmentation that mixes them. The others of
            an example are drawn by (seed, pass, example), whatever the batch or process.
        strict: an image that cannot be read, or that has too many boxes, is an error.
        problems: what the data set's reader reported. The images that it left out count as those
            that cannot be read.

    Attributes:
        skipped: why an image is not trained on or scored, by its path, or by its record where the
            reader left it out. The rows of those that cannot be read are padding.

    Raises:
        ValueError: the data set is empty; a number is not positive; the processes do not divide
            the batch; a cache in memory is to be shared with workers, or has no room; or strict
            and an image has more than T boxes.
        ImageError: the reader left out more than 1 % of all images (of fewer than 300 images, more
            than 3); or, when batches are read: more are lost with those that cannot be read, no
            image can be read, or strict and one cannot.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        batch_size: int,
        image_shape: tuple[int, int],
        max_boxes: int | None = None,
        shuffle: bool = False,
        seed: int = 0,
        whole_batches: bool = False,
        threads: int = 2,
        workers: int = 0,
        process: tuple[int, int] = (0, 1),
        cache: Literal["memory"] | Path | None = None,
        mixing: Mixing | None = None,
        strict: bool = False,
        problems: Sequence[Problem] = (),
    ) -> None:
        if not len(dataset.annotations):
            raise ValueError(f"{dataset.origin} has no images to load")
        counts = _target_counts(dataset)
        self.max_boxes = max(8, -(-int(counts.max()) // 8) * 8) if max_boxes is None else max_boxes
        for name, value in (("batch_size", batch_size), ("max_boxes", self.max_boxes)):
            if value < 1:
                raise ValueError(f"{name} is {value}; it has to be 1 or more")
        index, count = process
        if batch_size % count or not 0 <= index < count:
            raise ValueError(
                f"process {index} of {count} cannot have its share of batches of {batch_size} rows"
            )
        self.dataset, self.batch_size, self.image_shape = dataset, batch_size, image_shape
        self.threads, self.workers, self.whole_batches = threads, workers, whole_batches
        _report_crowded(dataset, counts, self.max_boxes, strict=strict)
        self.skipped = {f"{p.file}: {p.record}": p.reason for p in problems if p.loses_image}
        self._images = len(dataset.annotations) + len(self.skipped)
        self._check_skipped()
        self._make = ExampleMaker(
            dataset, image_shape, self.max_boxes, strict, _cache(dataset, image_shape, cache)
        )
        if workers and cache == "memory":
            cloudpickle.dumps(self._make.cache)  # says why it cannot be sent to them
        self._group = None if mixing is None else GroupMaker(self._make, mixing, seed)
        # Batches of (number of the batch, pass, index), which say what a batch is of unread.
        self._order = _batch_order(
            len(dataset.annotations),
            batch_size=batch_size // count,
            process=process,
            shuffle=shuffle,
            seed=seed,
            whole_batches=whole_batches,
        )

    def __len__(self) -> int:
        """Returns the batches of one pass."""
        rows = len(self.dataset.annotations)
        if self.whole_batches:
            return max(1, rows // self.batch_size)
        return -(-rows // self.batch_size)

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """Yields batch `start` and those after it, without reading those before."""
        return self._read(self._order[start:])

    def images_of(self, number: int) -> list[Path]:
        """Returns the files that a batch's rows, in this process, are made of."""
        found: dict[int, None] = {}
        for batch, epoch, index in np.asarray(self._order[number]).tolist():
            others = [] if self._group is None else self._group.draw(index, batch, epoch)[1]
            found |= dict.fromkeys([index, *others])
        return [self.dataset.annotations[index].path for index in found if index != PADDING]

    def one_pass(self) -> Iterator[Batch]:
        """Yields the batches of the first pass."""
        return self._read(self._order[: len(self)])

    def _read(self, order: grain.MapDataset) -> Iterator[Batch]:
        options = grain.ReadOptions(
            num_threads=0 if self.workers else self.threads,
            # A thread makes a batch: with fewer places than threads some would stand idle.
            prefetch_buffer_size=max(_BATCHES_AHEAD, self.threads),
        )
        batches = order.map(_BatchMaker(self._make, self._group)).to_iter_dataset(options)
        if self.workers:
            processes = grain.MultiprocessingOptions(
                num_workers=self.workers, per_worker_buffer_size=_BATCHES_AHEAD
            )
            if not flags.FLAGS.is_parsed():  # Grain looks at absl's flags, which nobody here parses
                flags.FLAGS.mark_as_parsed()
            # Through pipes: of shared memory Grain 0.2.18 leaves a batch behind when it is closed.
            options = grain.experimental.DatasetOptions(min_shm_size=sys.maxsize)
            batches = grain.experimental.WithOptionsIterDataset(batches, options)
            batches = batches.mp_prefetch(processes, worker_init_fn=_start_worker)
        stream = iter(batches)
        try:
            for batch, faults in stream:
                self._note_skipped(faults)
                yield batch
        finally:
            stream.close()

    def _note_skipped(self, faults: Mapping[int, str]) -> None:
        """Says once of each image that could not be read why its row is padding."""
        for index, reason in faults.items():
            path = str(self.dataset.annotations[index].path)
            if path not in self.skipped:
                self.skipped[path] = reason
                _log.warning("an image is left out, its row is padding: %s", reason)
        self._check_skipped()

    def _check_skipped(self) -> None:
        check_skipped(self.skipped, self._images, self.dataset.origin)


def check_skipped(skipped: Mapping[str, str], images: int, origin: Path) -> None:
    """Checks that most images of a data set are left.

    Args:
        skipped: why images are left out, by path or record.
        images: number of all.
        origin: of the data set.

    Raises:
        ImageError: they are more than 1 % (of fewer than 300 images, more than 3), or all.
    """
    lost = len(skipped)
    if lost > max(_MOST_SKIPPED * images, _FEW) or lost == images:
        reasons = [
            reason if reason.startswith(name) else f"{name}: {reason}"
            for name, reason in skipped.items()
        ]
        raise ImageError(
            f"{lost} of the {images} images of {origin} cannot be read, too many to go on; mend or "
            "remove them, or let `yolo-jax doctor DATA --fix FOLDER` write a copy without them:\n"
            f"{listed(reasons, between=chr(10))}"
        )


class _BatchMaker:
    """Makes a batch of rows, alone or in groups, and tells which images could not be read."""

    def __init__(self, make: ExampleMaker, group: GroupMaker | None) -> None:
        self.make, self.group = make, group

    def __call__(self, places: Int[np.ndarray, "b 3"]) -> tuple[Batch, dict[int, str]]:
        rows = [self._row(*place) for place in places.tolist()]
        faults = {index: reason for row in rows for index, reason in row.faults.items()}
        columns = [*zip(*(row[:-1] for row in rows), strict=True)]
        mix = None if self.group is None else np.stack(columns[-1])
        return Batch(*(np.stack(column) for column in columns[:-1]), mix=mix), faults

    def _row(self, number: int, epoch: int, index: int) -> Example:
        if self.group is None:
            return self.make(index)
        return self.group(index, number=number, epoch=epoch)


def _batch_order(
    images: int,
    *,
    batch_size: int,
    process: tuple[int, int],
    shuffle: bool,
    seed: int,
    whole_batches: bool,
) -> grain.MapDataset:
    """Returns the endless stream of a process's batches: rows of (number, pass, index)."""
    index, count = process
    whole = batch_size * count

    def place(position: int, index: int) -> Int[np.ndarray, "3"]:
        return np.asarray((position // whole, position // images, index))

    order = grain.MapDataset.range(images).seed(seed)
    if shuffle:
        order = order.shuffle()
    if whole_batches:
        endless = order.repeat(-(-_ENDLESS // images))
        return endless.map_with_index(place).batch(batch_size)[index::count]
    missing = -images % whole if count > 1 else 0
    if missing:
        padding = grain.MapDataset.source([PADDING] * missing)
        order = grain.MapDataset.concatenate([order, padding])
    return order.map_with_index(place).batch(batch_size)[index::count].repeat()


def _start_worker(index: int, count: int) -> None:
    """Makes a worker process end with its parent, and leave Ctrl-C to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None  # a worker is spawned

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _cache(
    dataset: Dataset, image_shape: tuple[int, int], where: Literal["memory"] | Path | None
) -> MemoryCache | DiskCache | None:
    if where is None:
        return None
    if where == "memory":
        return MemoryCache(dataset, image_shape)
    return DiskCache(dataset, image_shape, Path(where))


def _target_counts(dataset: Dataset) -> Int[np.ndarray, "n"]:
    """Returns the boxes of each image that are targets; of a packed set without a walk over it."""
    if isinstance(dataset.annotations, Columns):
        return dataset.annotations.targets_an_image()
    return np.asarray([int((~annotation.crowd).sum()) for annotation in dataset.annotations])


def _report_crowded(
    dataset: Dataset, counts: Int[np.ndarray, "n"], max_boxes: int, *, strict: bool
) -> None:
    problems = []
    for index in np.flatnonzero(counts > max_boxes).tolist():
        annotation = dataset.annotations[index]
        reason = (
            f"it has {counts[index]} boxes and max_boxes is {max_boxes}: the first are kept; raise "
            "max_boxes to keep all"
        )
        record = f"image {annotation.image_id} ({annotation.path.name})"
        problems.append(Problem(dataset.origin, record, reason, Kind.CROWDED))
    report(problems, strict=strict)
