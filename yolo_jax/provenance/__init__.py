"""Where a run's numbers come from: what it was started with."""

from yolo_jax.provenance.origin import ORIGIN, differences, note_start, read_starts

__all__ = ["ORIGIN", "differences", "note_start", "read_starts"]
