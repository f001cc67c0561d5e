"""A trained network put to use: opened, and shown images, videos and cameras."""

from yolo_jax.use.opening import load

__all__ = ["load"]
