"""Configs that differ in numbers which a step takes as arrays, and what keeps others apart."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from yolo_jax.config import ExperimentConfig
from yolo_jax.config.flat import flatten, unflatten

# What a program takes as an array, so that trials which differ in it can share the program.
NUMBERS = frozenset(
    {
        "optimizer.learning_rate",
        "optimizer.momentum",
        "optimizer.weight_decay",
        "optimizer.clip_norm",
        "optimizer.final_fraction",
        "optimizer.step_factor",
        "optimizer.ema_decay",
        "freeze_body.learning_rate",
        "loss.ignore_thresh",
        "loss.label_smoothing",
        "loss.match_iou",
        "loss.box_weight",
        "loss.objectness_weight",
        "loss.classification_weight",
        "augment.crop",
        "augment.aspect_jitter",
        "augment.flip",
        "augment.brightness",
        "augment.contrast",
        "augment.saturation",
        "augment.hue",
        "augment.min_box_px",
        "augment.min_area",
        "augment.scale",
        "augment.hsv",
        "augment.placed",
        "augment.recoloured",
        "augment.mosaic_zoom",
        "augment.copy_px",
    }
)
# Of each trial, and no part of its program.
_OWN = frozenset({"name", "seed"})


def static_fields(config: ExperimentConfig) -> dict[str, Any]:
    """Returns what trials of one program have alike: the other fields, and which numbers are set.

    The order of the data is one of them, and so is the seed where it decides on more than first
    weights and augmentation. Where anchors are found by k-means all the augmentation is: they are
    of boxes that were augmented.
    """
    flat = flatten(config)
    finds_anchors = config.network.anchors == "kmeans"
    for name in NUMBERS:
        if not (finds_anchors and name.startswith("augment.")):
            flat[name] = flat[name] is not None
    order = config.data.order_seed
    flat["data.order_seed"] = config.seed if order is None else order
    if finds_anchors:
        flat["seed of k-means"] = config.seed
    if config.augment.multi_scale:
        flat["augment.multi_scale, a program for each"] = config.name
    if config.optimizer.schedule == "plateau":
        flat["optimizer.schedule plateau, which looks at one"] = config.name
    if config.early_stopping:
        flat["early_stopping, which looks at one"] = config.name
    if config.validation_ap_every:
        flat["validation_ap_every, which looks at one"] = config.name
    if config.train.on_nonfinite != "stop":
        flat["train.on_nonfinite, for a trial among others is frozen"] = config.name
    return {name: value for name, value in flat.items() if name not in _OWN}


def group_trials(configs: Sequence[ExperimentConfig]) -> list[list[int]]:
    """Returns which configs can be trained in one program, as lists of their places."""
    groups: dict[str, list[int]] = {}
    for place, config in enumerate(configs):
        groups.setdefault(repr(sorted(static_fields(config).items())), []).append(place)
    return list(groups.values())


def differing(configs: Sequence[ExperimentConfig]) -> list[str]:
    """Returns the fields that keep configs apart."""
    found = [static_fields(config) for config in configs]
    names = {name for one in found for name in one}
    return sorted(n for n in names if any(one.get(n) != found[0].get(n) for one in found))


def numbers_of(configs: Sequence[ExperimentConfig]) -> dict[str, np.ndarray]:
    """Returns the numbers in which configs differ, `[trials, …]` float32, by field."""
    flats = [flatten(config) for config in configs]
    return {
        name: np.asarray([flat[name] for flat in flats], np.float32)
        for name in sorted(NUMBERS)
        if any(flat[name] != flats[0][name] for flat in flats)
    }


def with_numbers(config: ExperimentConfig, numbers: Mapping[str, Any]) -> ExperimentConfig:
    """Returns a config with other numbers in its fields, which may be traced.

    Args:
        config: of any of the trials.
        numbers: by dotted field: scalars, or arrays `[k]` for a field of k numbers.
    """
    fitting = {n: value if np.ndim(value) == 0 else list(value) for n, value in numbers.items()}
    return unflatten(flatten(config) | fitting)
