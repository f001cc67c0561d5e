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
from yolo_jax.config.flat import flatten
from yolo_jax.core.types import Dataset
from yolo_jax.networks.yolov3 import Network
from yolo_jax.training import distributed

_log = logging.getLogger(__name__)
# Of which two versions in one run would compute two things.
_PACKAGES = ("yolo_jax", "jax", "jaxlib", "flax", "optax", "numpy", "grain", "orbax-checkpoint")
_SAMPLED = 1000  # annotations of a set


def check_settings(config: ExperimentConfig, *, begun: bool) -> None:
    """Checks that all processes have this config, and these packages, and rows for their devices.

    Args:
        config: of the experiment.
        begun: the run has its batch already, over other devices perhaps.

    Raises:
        ValueError: they differ, and names the fields or packages; or a batch does not divide.
    """
    if jax.process_count() > 1:
        distributed.check_agreement("configs", flatten(config))
        distributed.check_agreement("packages", versions())
        # Here all are at one place: what ends sooner takes the others' last words from them.
        uneven = _uneven(config)
        if uneven and not begun:
            raise ValueError(uneven)


def check_start(config: ExperimentConfig, network: Network, datasets: Sequence[Dataset]) -> None:
    """Checks that all processes start with the same weights, and read the same annotations.

    Of rows that do not divide it warns.

    Args:
        config: of the experiment.
        network: with its first weights.
        datasets: for training, validation and the held-out figures.

    Raises:
        ValueError: they differ; says in what.
    """
    if uneven := _uneven(config):
        _log.warning("%s: it is filled up by rows that count nothing", uneven)
    if jax.process_count() == 1:
        return
    found: dict[str, Any] = {"weights' checksum": checksum(jax.tree.leaves(nnx.state(network)))}
    for name, dataset in zip(("train", "validation", "held_out"), datasets, strict=True):
        listed = dataset.annotations
        sample = [listed[i] for i in range(0, len(listed), max(1, len(listed) // _SAMPLED))]
        found |= {
            f"data.{name}'s classes": list(dataset.class_names),
            f"data.{name}'s images": len(listed),
            f"data.{name}'s checksum": checksum(
                array
                for one in sample
                for array in (one.image_id, one.boxes, one.classes, one.crowd)
            ),
        }
    distributed.check_agreement("data and first weights", found)


def _uneven(config: ExperimentConfig) -> str | None:
    """Says that not every device has as many rows of a part of a batch, where that is so."""
    rows, parts, devices = config.rows(1), config.train.accumulate, jax.device_count()
    if rows % (parts * devices) == 0:
        return None
    return (
        f"a batch of {rows} rows does not divide among {devices} devices"
        f"{f' in {parts} parts' if parts > 1 else ''}; give --batch-size a multiple of "
        f"{parts * devices}, or --batch-size-per-device in its place (with --batch-size None)"
    )


def versions() -> dict[str, str]:
    """Returns the versions of what a run's numbers depend on."""
    return {name: version(name) for name in _PACKAGES} | {"python": platform.python_version()}


def checksum(arrays: Iterable[Any]) -> int:
    """Returns the CRC-32 of arrays' bytes."""
    total = 0
    for array in arrays:
        total = zlib.crc32(np.ascontiguousarray(array).tobytes(), total)
    return total
