"""Sweeps: many runs of one config with other values, named, resumed and set side by side.

A config file's `sweep()` yields them; `grid`, `zipped` and `with_seeds` are for use in it.
"""

from yolo_jax.sweep.trials import Trial, grid, with_seeds, zipped

__all__ = ["Trial", "grid", "with_seeds", "zipped"]
