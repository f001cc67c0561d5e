"""Sequences of numbers, read by threads and by processes."""

import os
import threading
import time

import pytest

from yolo_jax.model.sequence import Sequence

KINDS = [(0, False), (1, False), (4, False), (1, True), (4, True)]
kinds = pytest.mark.parametrize(("workers", "processes"), KINDS)
# Spawning takes seconds a worker: most tests start one process, the test of order four.
fewer = pytest.mark.parametrize(("workers", "processes"), KINDS[:-1])


class AwkwardError(Exception):
    """An exception that pickling does not bring back."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


class Numbers(Sequence):
    """Item i of pass p is (p, i, process id); earlier items take longer, as order would show."""

    def __init__(self, length=6, *, error=None, grow=0, delay=0.0):
        self.length, self.error, self.grow, self.delay = length, error, grow, delay
        self.ended = 0

    def __len__(self):
        return self.length + self.ended * self.grow

    def __getitem__(self, index):
        if self.delay:
            time.sleep(self.delay * (len(self) - index))
        if self.error is not None and index == 3:
            kind, *arguments = self.error
            raise kind(*arguments)
        return self.ended, index, os.getpid()

    def on_epoch_end(self):
        self.ended += 1


def without_pid(items):
    return [item[:2] for item in items]


def running():
    return {thread for thread in threading.enumerate() if thread.name.startswith("yolo_jax")}
