"""A run's folder: its config, its class names and its figures, in files that one can read."""

import dataclasses
import errno
import fcntl
import json
import logging
import os
import socket
import time
import typing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from yolo_jax.config import ExperimentConfig
from yolo_jax.core.anchors import AnchorSet
from yolo_jax.data.doctor import listed
from yolo_jax.networks.yolov3 import NETWORKS

_log = logging.getLogger(__name__)
_LEASE_SECONDS = 180  # of locks on a network's disk, and some more
# What may differ between a run folder's config and the one that resumes it.
MAY_DIFFER = frozenset(
    {
        "epochs",
        "runs",
        "keep_checkpoints",
        "data.threads",
        "data.workers",
        "data.cache",
        "data.cache_folder",
        "parallel.strategy",
    }
)


class RunFolder:
    """A run's folder.

    Args:
        path: of the folder, which need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._config, self._classes = path / "config.json", path / "classes.json"
        self._anchors, self._metrics = path / "anchors.json", path / "metrics.json"
        self._lock = path / "lock"
        self.weights = path / "final.weights"

    @property
    def is_begun(self) -> bool:
        """Tells that the folder holds a run."""
        return self._config.is_file()

    def resolve(self, config: ExperimentConfig, devices: int) -> ExperimentConfig:
        """Returns the config with what it leaves open: rows of a batch, and the horizon.

        That is the first run's.

        Args:
            config: as it was given.
            devices: of all processes.

        Raises:
            ValueError: the folder holds a run of another config, whose fields that differ are
                named; or no run, but other files.
        """
        self._refuse_other_files()
        stored = self.config() if self._config.is_file() else None
        if config.optimizer.horizon is None:
            horizon = config.epochs if stored is None else stored.optimizer.horizon
            optimizer = dataclasses.replace(config.optimizer, horizon=horizon)
            config = dataclasses.replace(config, optimizer=optimizer)
        rows = config.rows(devices)
        if stored is not None and config.batch_size_per_device is not None:
            rows = stored.batch_size  # of other devices too, to which the run may have moved
        config = dataclasses.replace(config, batch_size=rows, batch_size_per_device=None)
        if stored is not None:
            self._check_same_config(flatten(stored), flatten(config))
        return config

    def begin(
        self, config: ExperimentConfig, class_names: Sequence[str], anchors: AnchorSet
    ) -> None:
        """Writes what a new run is of; of a run that goes on, checks its classes.

        Raises:
            ValueError: the folder holds a run of other classes, or no run, but other files.
        """
        self._refuse_other_files()
        self.path.mkdir(parents=True, exist_ok=True)
        if not self._config.is_file():
            save_json(self._classes, list(class_names))
            save_json(self._anchors, {"sizes": anchors.sizes, "masks": anchors.masks})
            self.save_config(config)
        elif (stored := self.class_names()) != tuple(class_names):
            raise ValueError(
                f"{self.path} holds a run of the classes {list(stored)}; {config.data.train} now "
                f"has {list(class_names)}. Choose another --name, or go back to the run's data."
            )

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keeps other processes out of the folder, as long as the block or this process lasts.

        For another machine's lock it waits some minutes: of a machine that died, a network's disk
        keeps it until its lease runs out.

        Raises:
            ValueError: a living process has it, which is named.
        """
        self._refuse_other_files()
        self.path.mkdir(parents=True, exist_ok=True)
        with self._lock.open("a+", encoding="utf-8") as file:
            deadline = time.monotonic() + _LEASE_SECONDS
            while (other := self._taken_by(file)) is not None:
                is_ours = other.endswith(f" on {socket.gethostname()}")
                if is_ours or time.monotonic() > deadline:
                    raise ValueError(
                        f"{self.path} is in use by {other or 'another process'}, which still runs; "
                        "wait for it, or stop it, or choose another --name"
                    )
                time.sleep(1)
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
            yield

    def _taken_by(self, file: TextIO) -> str | None:
        """Takes the lock and returns None, or says whose it is."""
        try:
            # Of this process alone: one of `flock` would outlast it in the workers it forks.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                file.seek(0)
                return file.read().strip()
            _log.warning("%s cannot be locked (%s): let nothing else use it", self.path, error)
        return None

    def save_config(self, config: ExperimentConfig) -> None:
        """Writes every field of a config."""
        save_json(self._config, flatten(config))

    def save_figures(self, figures: dict[str, Any]) -> None:
        """Writes the final figures."""
        save_json(self._metrics, figures)

    def config(self) -> ExperimentConfig:
        """Returns the run's config; fields that are younger than the run have their defaults.

        Raises:
            FileNotFoundError: the folder has none.
            ValueError: the file is damaged, or of another version.
        """
        flat = _brought_up(_read_json(self._config, dict))
        config = _build(ExperimentConfig, flat, "", self._config)
        unknown = sorted(flat.keys() - flatten(config).keys())
        if unknown:
            raise ValueError(
                f"{self._config} has the fields {unknown}, which this version does not know"
            )
        return config

    def class_names(self) -> tuple[str, ...]:
        """Returns the name of each class index.

        Raises:
            FileNotFoundError: the folder has none.
            ValueError: the file is damaged.
        """
        return tuple(map(str, _read_json(self._classes, list)))

    def anchors(self, kind: str) -> AnchorSet:
        """Returns the run's anchors; of a run from before they were written, the network's.

        Args:
            kind: of the run's network.

        Raises:
            ValueError: the file is damaged.
        """
        shipped = NETWORKS[kind][1]
        if not self._anchors.is_file():
            return shipped
        stored = _read_json(self._anchors, dict)
        try:
            sizes = tuple((float(width), float(height)) for width, height in stored["sizes"])
            masks = tuple(tuple(map(int, mask)) for mask in stored["masks"])
            return AnchorSet(sizes, masks, shipped.strides)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{self._anchors} is damaged: {error!r}") from error

    def figures(self) -> dict[str, Any] | None:
        """Returns the final figures, or None before the run's first end.

        Raises:
            ValueError: the file is damaged.
        """
        if not self._metrics.is_file():
            return None
        figures = _read_json(self._metrics, dict)
        missing = sorted({"AP", "AP50", "sources", "epochs"} - figures.keys())
        if missing:
            raise ValueError(
                f"{self._metrics} lacks {missing}; delete it, and the same command makes it anew"
            )
        return figures

    def _refuse_other_files(self) -> None:
        """Refuses a folder of somebody's own files, which a run's would overwrite."""
        if self._config.is_file() or not self.path.is_dir():
            return
        # All that a first start may leave that is stopped before the config is there.
        early = {self._classes, self._anchors}
        early |= {_partial(path) for path in (*early, self._config)} | {self._lock}
        others = sorted(path.name for path in self.path.iterdir() if path not in early)
        if others:
            raise ValueError(
                f"{self.path} holds no run (there is no {self._config.name}) but {listed(others)}, "
                "which a run might overwrite; choose another --name, or an empty folder"
            )

    def _check_same_config(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        differing = [
            f"{name} (there {old.get(name)!r}, here {new.get(name)!r})"
            for name in sorted(old.keys() | new.keys())
            if old.get(name) != new.get(name) and name not in MAY_DIFFER
        ]
        if differing:
            raise ValueError(
                f"{self.path} holds a run of another config; these differ: {'; '.join(differing)}. "
                "Choose another --name, or go back to the run's own config."
            )


def save_json(path: Path, content: object) -> None:
    """Writes JSON, whole or not at all."""
    partial = _partial(path)
    partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)


def _partial(path: Path) -> Path:
    return path.with_suffix(".partial")


def _read_json(path: Path, kind: type) -> Any:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # not JSON, or not UTF-8
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(content, kind):
        raise ValueError(f"{path} is damaged: it holds a {type(content).__name__}")
    return content


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Returns a config's fields by dotted name, as JSON holds them."""
    flat: dict[str, Any] = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if dataclasses.is_dataclass(value):
            flat |= flatten(value, f"{prefix}{item.name}.")
        else:
            flat[prefix + item.name] = _plain(value)
    return flat


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return value.as_posix()
    return list(value) if isinstance(value, tuple) else value


def _brought_up(flat: dict[str, Any]) -> dict[str, Any]:
    """Returns a config's fields under the names and values that they have by now."""
    flat = dict(flat)
    if "train.sync_batch_norm" in flat:
        flat["train.batch_norm"] = "sync" if flat.pop("train.sync_batch_norm") else "local"
        if flat.get("optimizer.kind") == "adam" and flat.get("optimizer.weight_decay"):
            flat["optimizer.kind"] = "adamw"
    return flat


def _build(kind: type, flat: dict[str, Any], prefix: str, path: Path) -> Any:
    values, hints = {}, typing.get_type_hints(kind)
    for item in dataclasses.fields(kind):
        name, hint = item.name, hints[item.name]
        if dataclasses.is_dataclass(hint):
            values[name] = _build(typing.cast(type, hint), flat, f"{prefix}{name}.", path)
        elif prefix + name in flat:
            value = flat[prefix + name]
            if value is not None and Path in (hint, *typing.get_args(hint)):
                value = Path(value)
            values[name] = tuple(value) if isinstance(value, list) else value
        elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise ValueError(f"{path} lacks the field {prefix}{name}")
    return kind(**values)
