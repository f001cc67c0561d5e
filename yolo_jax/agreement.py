"""What the processes of one run have to have alike.

They would else train two things, or wait for each other for ever where one has more batches.
"""

import logging
import platform
import zlib
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any

import jax
import numpy as np
from flax import nnx

from yolo_jax.config import ExperimentConfig
from yolo_jax.core.types import Dataset
from yolo_jax.networks.yolov3 import Network
from yolo_jax.run_folder import flatten
from yolo_jax.training import distributed

_log = logging.getLogger(__name__)
# Of which two versions in one run would compute two things.
_PACKAGES = ("yolo_jax", "jax", "jaxlib", "flax", "optax", "numpy", "grain", "orbax-checkpoint")
_SAMPLED = 1000  # annotations of a set


def check_settings(config: ExperimentConfig) -> None:
    """Checks that all processes have this config, and these packages, and rows for their devices.

    Raises:
        ValueError: they differ, and names the fields or packages; or a batch does not divide.
    """
    if jax.process_count() > 1:
        if uneven := _uneven(config.rows(1)):
            raise ValueError(uneven)
        distributed.check_agreement("configs", flatten(config))
        distributed.check_agreement("packages", versions())


def check_start(config: ExperimentConfig, network: Network, datasets: Sequence[Dataset]) -> None:
    """Checks that all processes start with the same weights, and read the same annotations.

    A single process with rows that do not divide is warned alone.

    Args:
        config: of the experiment.
        network: with its first weights.
        datasets: for training, validation and the held-out figures.

    Raises:
        ValueError: they differ; says in what.
    """
    if jax.process_count() == 1:
        if uneven := _uneven(config.rows(1)):
            _log.warning("%s: it is filled up by rows that count nothing", uneven)
        return
    found: dict[str, Any] = {"weights' checksum": _checksum(jax.tree.leaves(nnx.state(network)))}
    for name, dataset in zip(("train", "validation", "held_out"), datasets, strict=True):
        listed = dataset.annotations
        sample = [listed[i] for i in range(0, len(listed), max(1, len(listed) // _SAMPLED))]
        found |= {
            f"data.{name}'s classes": list(dataset.class_names),
            f"data.{name}'s images": len(listed),
            f"data.{name}'s checksum": _checksum(
                array for one in sample for array in (one.image_id, one.boxes, one.classes)
            ),
        }
    distributed.check_agreement("data and first weights", found)


def _uneven(rows: int) -> str | None:
    """Says that not every device has as many rows of a batch, where that is so."""
    devices = jax.device_count()
    if rows % devices == 0:
        return None
    return (
        f"a batch of {rows} rows does not divide among {devices} devices; give --batch-size a "
        f"multiple of {devices}, or --batch-size-per-device in its place (with --batch-size None)"
    )


def versions() -> dict[str, str]:
    """Returns the versions of what a run's numbers depend on."""
    return {name: version(name) for name in _PACKAGES} | {"python": platform.python_version()}


def _checksum(arrays: Iterable[Any]) -> int:
    total = 0
    for array in arrays:
        total = zlib.crc32(np.ascontiguousarray(array).tobytes(), total)
    return total
