"""The data of an experiment: annotations read, and loaders over them."""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax

from yolo_jax.config import ExperimentConfig
from yolo_jax.core.types import Dataset
from yolo_jax.data.classes import in_classes
from yolo_jax.data.doctor import Problem, check_trainable
from yolo_jax.data.pipeline import Loader
from yolo_jax.data.readers import read_dataset
from yolo_jax.data.shares import split_off
from yolo_jax.networks.pretrained import cache_folder


class Data(NamedTuple):
    """The loaders of an experiment."""

    train: Loader
    validation: Loader
    held_out: Loader

    def counted(self) -> str:
        """Says how many images there are for what, such as were set apart for it."""
        train, validation, held_out = (len(loader.dataset.annotations) for loader in self)
        return (
            f"{train} images to train on, {validation} to validate, {held_out} held out; "
            f"{len(self.train.dataset.class_names)} classes"
        )


def open_data(config: ExperimentConfig) -> Data:
    """Reads the annotations and returns the loaders; bad records are reported, or raised."""
    strict = config.data.strict
    side = config.network.input_size
    canvas = config.data.canvas_size or side
    loader = partial(
        Loader,
        batch_size=config.rows(jax.device_count()),
        threads=config.data.threads,
        process=(jax.process_index(), jax.process_count()),
        strict=strict,
    )

    def read(path: Path, split: str | None) -> tuple[Dataset, tuple[Problem, ...]]:
        names = config.data.classes
        return read_dataset(path, split=split, strict=strict, class_names_file=names)

    wanted = config.data
    train, problems = read(wanted.train, wanted.train_split)
    # Those that are named are their own; the others are shares of the training images.
    shares = (
        0 if wanted.validation is not None else wanted.validation_share,
        0 if wanted.held_out is not None else wanted.held_out_share,
    )
    train, *taken = split_off(train, shares) if any(shares) else [train] * 3
    check_trainable(train)
    names = train.class_names
    own_validation, own_held_out = (
        (share, ()) if path is None else read(path, split)
        for share, path, split in (
            (taken[0], wanted.validation, wanted.validation_split),
            (taken[1], wanted.held_out, wanted.held_out_split),
        )
    )
    cache: Any = {
        "none": None,
        "ram": "memory",
        "disk": config.data.cache_folder or cache_folder() / "images",
    }[config.data.cache]
    validation, held_out = (
        loader(in_classes(dataset, names), image_shape=(side, side), cache=kept, problems=bad)
        for (dataset, bad), kept in (
            (own_validation, cache),
            (own_held_out, None),  # read once
        )
    )
    train = loader(
        in_classes(train, names),
        image_shape=(canvas, canvas),
        max_boxes=config.data.max_boxes,
        workers=config.data.workers,
        cache=cache,
        mixing=config.augment.mixing(_mixed_batches(config, len(train.annotations))),
        shuffle=True,
        seed=config.seed if wanted.order_seed is None else wanted.order_seed,
        whole_batches=True,
        problems=problems,
    )
    return Data(train, validation, held_out)


def _mixed_batches(config: ExperimentConfig, images: int) -> int | None:
    """Returns the batches whose images are mixed, or None for all."""
    if config.close_mosaic == 0:
        return None
    steps = config.steps_per_epoch or max(1, images // config.rows(jax.device_count()))
    return config.mixed_epochs() * steps
