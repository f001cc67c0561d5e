"""Where a run's numbers come from: what it was started with, and whether another one has them."""

from yolo_jax.provenance.again import (
    compare_runs,
    config_again,
    tell_differences,
    was_deterministic,
)
from yolo_jax.provenance.origin import ORIGIN, differences, note_start, read_starts

__all__ = [
    "ORIGIN",
    "compare_runs",
    "config_again",
    "differences",
    "note_start",
    "read_starts",
    "tell_differences",
    "was_deterministic",
]
