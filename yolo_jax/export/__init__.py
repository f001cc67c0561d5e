"""Trained networks in other programs' formats."""

from yolo_jax.export.stablehlo import Exported, open_exported

__all__ = ["Exported", "open_exported"]
