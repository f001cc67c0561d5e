"""Images of several clients shown to the network together."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from yolo_jax.detection.nms import Suppression
from yolo_jax.inference.found import Found
from yolo_jax.inference.sources import Frame
from yolo_jax.inference.yolo import YOLO


@dataclass(frozen=True, eq=False)
class _Job:
    frame: Frame
    how: Suppression
    found: asyncio.Future[Found]


class Batches:
    """Shows images to a network in one thread; those that wait with equal thresholds at once.

    It belongs to one event loop.

    Args:
        model: that looks.
        most: images of a batch; the powers of two up to it are compiled.
    """

    def __init__(self, model: YOLO, most: int) -> None:
        self._model = model
        self._sizes = [2**power for power in reversed(range(most.bit_length()))]
        self._thread = ThreadPoolExecutor(1, "detection")
        self._turn = asyncio.Lock()
        self._waiting: list[_Job] = []

    def warm_up(self, how: Suppression) -> None:
        """Compiles what the batches will need; other thresholds than these compile nothing."""
        frame = Frame(np.zeros((*self._model.detector.input_shape, 3), np.uint8), "")
        for size in self._sizes:
            self._show([frame] * size, how)

    async def detect(self, pixels: UInt8[np.ndarray, "h w 3"], how: Suppression) -> Found:
        """Returns what is found in an RGB image.

        Args:
            pixels: the image.
            how: what becomes of boxes that overlap; its thresholds are of type float.
        """
        job = _Job(Frame(pixels, ""), how, asyncio.get_running_loop().create_future())
        self._waiting.append(job)
        try:
            # Whose turn it is takes others along, who find when theirs comes that all is done.
            async with self._turn:
                if not job.found.done():
                    await self._look(job)
        finally:
            if job in self._waiting:
                self._waiting.remove(job)
        return await job.found

    async def _look(self, first: _Job) -> None:
        others = [job for job in self._waiting if job is not first and job.how == first.how]
        size = next(size for size in self._sizes if size <= 1 + len(others))
        group = [first, *others[: size - 1]]
        frames = [job.frame for job in group]
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._thread, self._show, frames, first.how)
        except Exception as error:  # whatever it is, each client of the batch is told
            for job in group:
                job.found.set_exception(error)
        else:
            for job, one in zip(group, found, strict=True):
                job.found.set_result(one)

    def _show(self, frames: Sequence[Frame], how: Suppression) -> list[Found]:
        return list(self._model.stream(frames, how, batch_size=len(frames)))
