"""A run's folder: its config, its class names and its figures, in files that one can read."""

import csv
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict

from yolo_jax.config import ExperimentConfig
from yolo_jax.config.flat import flatten, unflatten
from yolo_jax.core.anchors import AnchorSet
from yolo_jax.core.fields import check_fields
from yolo_jax.core.json_files import partial_of, read_json, save_json
from yolo_jax.core.locks import locked
from yolo_jax.data.doctor import listed
from yolo_jax.networks.yolov3 import NETWORKS

# What may differ between a run folder's config and the one that resumes it.
MAY_DIFFER = frozenset(
    {
        "epochs",
        "runs",
        "keep_checkpoints",
        "validation_ap_every",
        "data.threads",
        "data.workers",
        "data.cache",
        "data.cache_folder",
        "train.on_nonfinite",
        "parallel.strategy",
        "track",
        "track_project",
    }
)

# In the folder of what trials that are trained together share: their names. It is no run's.
GROUP_MEMBERS = "trials.json"

FailureKind = Literal["crashed", "diverged", "pruned"]


class Failure(NamedTuple):
    """Why a sweep's trial ended before its last epoch.

    Attributes:
        kind: `crashed` may end otherwise another time, `diverged` had a loss or an update that was
            not finite, and `pruned` was ended by the search.
        message: what it said last.
        status: exit status of its process.
    """

    kind: FailureKind
    message: str
    status: int


class _FailureFile(TypedDict):
    kind: FailureKind
    message: str
    status: int


class _Refused(TypedDict):
    stage: int
    epoch: int
    batch: int
    step: int
    position: int
    term: str
    count: int
    images: list[str]


class _OfClass(TypedDict):
    AP: float | None
    AP50: float | None


class _OfImages(_OfClass):
    AP75: NotRequired[float | None]
    per_class: NotRequired[dict[str, _OfClass]]


class _Figures(_OfImages):
    """What `metrics.json` holds: of all held-out images, and of each source."""

    sources: dict[str, _OfImages]
    epochs: int
    stopped_early: NotRequired[bool]
    skipped: NotRequired[dict[str, str]]


class RunFolder:
    """A run's folder; beside it lies, of a sweep's trial that ended early, why.

    Args:
        path: of the folder, which need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._config, self._classes = path / "config.json", path / "classes.json"
        self._anchors, self.figures_file = path / "anchors.json", path / "metrics.json"
        self._lock = path / "lock"
        self.weights, self.history_file = path / "final.weights", path / "history.csv"
        self._refused = path / "refused.json"
        named = path.absolute()  # `.` has no name
        self.failure_file = named.with_name(f"{named.name}.failure.json")

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
        with locked(self._lock, "choose another --name"):
            yield

    def save_config(self, config: ExperimentConfig) -> None:
        """Writes every field of a config."""
        save_json(self._config, flatten(config))

    def save_figures(self, figures: dict[str, Any]) -> None:
        """Writes the final figures."""
        save_json(self.figures_file, figures)

    def config(self) -> ExperimentConfig:
        """Returns the run's config; fields that are younger than the run have their defaults.

        Raises:
            FileNotFoundError: the folder has none.
            ValueError: the file is damaged, or of another version.
        """
        flat = _brought_up(read_json(self._config, dict))
        try:
            config = unflatten(flat)
            check_fields(config, ranges=False)
        except ValueError as error:
            raise ValueError(f"{self._config} {error}") from error
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
        return tuple(map(str, read_json(self._classes, list[object])))

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
        stored = read_json(self._anchors, dict)
        try:
            sizes = tuple((float(width), float(height)) for width, height in stored["sizes"])
            masks = tuple(tuple(map(int, mask)) for mask in stored["masks"])
            return AnchorSet(sizes, masks, shipped.strides)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{self._anchors} is damaged: {error!r}") from error

    def history(self) -> list[dict[str, float]]:
        """Returns the logs by epoch, `epoch` among them, NaN what one lacks; none before the first.

        Raises:
            ValueError: the file is damaged.
        """
        if not self.history_file.is_file():
            return []
        try:
            with self.history_file.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            # `NA` is what `CSVLogger` writes for what an epoch lacks.
            return [{n: float(v.replace("NA", "nan")) for n, v in row.items()} for row in rows]
        # A row too short, too long, or without an end.
        except (AttributeError, TypeError, ValueError, csv.Error) as error:
            raise ValueError(f"{self.history_file} is damaged: {error}") from error

    def figures(self) -> dict[str, Any] | None:
        """Returns the final figures, or None before the run's first end.

        Raises:
            ValueError: the file is damaged.
        """
        if not self.figures_file.is_file():
            return None
        try:
            figures = read_json(self.figures_file, _Figures)
        except ValueError as error:
            again = "delete it, and the same command makes it anew"
            raise ValueError(f"{error}; {again}") from error
        return {"stopped_early": False} | figures  # which runs did not tell that could not

    def failure(self) -> Failure | None:
        """Returns why the run ended early, if it did.

        Raises:
            ValueError: the file is damaged.
        """
        path = self.failure_file
        if not path.is_file():
            return None
        read = read_json(path, _FailureFile)
        return Failure(read["kind"], read["message"], read["status"])

    def save_failure(self, failure: Failure | None) -> None:
        """Writes why the run ended early, or None where it did not or is tried again."""
        if failure is None:
            self.failure_file.unlink(missing_ok=True)
        else:
            save_json(self.failure_file, failure._asdict())

    def refused(self) -> list[dict[str, Any]]:
        """Returns the updates that were not finite, by step; see `model.refusals.Refusal`.

        Raises:
            ValueError: the file is damaged.
        """
        if not self._refused.is_file():
            return []
        return read_json(self._refused, list[_Refused])

    def save_refused(self, refused: Sequence[Mapping[str, Any]]) -> None:
        """Writes them."""
        save_json(self._refused, list(refused))

    def _refuse_other_files(self) -> None:
        """Refuses a folder of somebody's own files, which a run's would overwrite."""
        if self._config.is_file() or not self.path.is_dir():
            return
        # All that a first start may leave that is stopped before the config is there.
        early = {self._classes, self._anchors}
        early |= {partial_of(path) for path in (*early, self._config)} | {self._lock}
        others = sorted(path.name for path in self.path.iterdir() if path not in early)
        if others:
            raise ValueError(
                f"{self.path} holds no run (there is no {self._config.name}) but {listed(others)}, "
                "which a run might overwrite; choose another --name, or an empty folder"
            )

    def _check_same_config(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        if differing := differences(old, new):
            raise ValueError(
                f"{self.path} holds a run of another config; these differ: {differing}. "
                "Choose another --name, or go back to the run's own config."
            )


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Returns in words which fields of two configs differ, but for those that may; else "".

    One that lacks differs from None: of a trial it has the value of the sweep's base.
    """
    return "; ".join(
        f"{name} (there {_told(old, name)}, here {_told(new, name)})"
        for name in sorted(old.keys() | new.keys())
        if (name in old, old.get(name)) != (name in new, new.get(name)) and name not in MAY_DIFFER
    )


def _told(fields: Mapping[str, Any], name: str) -> str:
    return repr(fields[name]) if name in fields else "left as it is"


def is_complete(figures: Mapping[str, Any] | None, epochs: int) -> bool:
    """Tells that a run's figures are of all its epochs, or that it stopped early for good."""
    return figures is not None and (figures["epochs"] >= epochs or figures["stopped_early"])


def _brought_up(flat: dict[str, Any]) -> dict[str, Any]:
    """Returns a config's fields under the names and values that they have by now."""
    flat = dict(flat)
    if "train.sync_batch_norm" in flat:
        flat["train.batch_norm"] = "sync" if flat.pop("train.sync_batch_norm") else "local"
        if flat.get("optimizer.kind") == "adam" and flat.get("optimizer.weight_decay"):
            flat["optimizer.kind"] = "adamw"
    return flat
