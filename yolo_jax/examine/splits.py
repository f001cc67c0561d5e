"""The parts of a data set, all of which the doctor looks at."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from yolo_jax.core.types import Dataset
from yolo_jax.data.doctor import Problem, held_back
from yolo_jax.data.readers import coco_files, read_dataset
from yolo_jax.data.readers.array_record import MANIFEST
from yolo_jax.data.readers.yolo import YAML_NAME

_YOLO_SPLITS = ("train", "val", "test")
_VOC_SPLITS = ("train", "val", "test")  # `trainval` is two of them


def read_parts(
    source: str, split: str | None, class_names_file: Path | None
) -> tuple[dict[str, tuple[Dataset, tuple[Problem, ...]]], list[Problem]]:
    """Reads a split of a data set, or all that it has.

    Args:
        source: a file, a folder or `tfds:NAME`; see `readers.read_dataset`.
        split: to read; None: all.
        class_names_file: has a class a line.

    Returns:
        For each split, or for "" where there are none, the data set and the bad records that it is
        without; and the splits that cannot be read, of several.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: it cannot be read, or none of its splits.
    """
    names = [split] if split is not None else split_names(source)
    parts: dict[str, tuple[Dataset, tuple[Problem, ...]]] = {}
    unreadable: list[Problem] = []
    for name in names:
        try:
            with held_back():
                read = read_dataset(source, split=name, class_names_file=class_names_file)
        except (ValueError, OSError) as error:
            if len(names) == 1:
                raise
            unreadable.append(Problem(Path(source), f"split {name}", str(error)))
        else:
            parts[name or ""] = read
    if not parts:
        reasons = "; ".join(problem.reason for problem in unreadable)
        raise ValueError(f"none of the splits {names} of {source} can be read: {reasons}")
    return parts, unreadable


def split_names(source: str) -> Sequence[str | None]:
    """Returns the splits of a data set of several; None where its reader needs no name of one.

    What is wrong with the files themselves is for the reader to say. Of `tfds:NAME` the reader
    lists the splits, among which to choose.
    """
    place = Path(source)
    file = place / YAML_NAME if place.is_dir() else place
    lists = place / "ImageSets" / "Main"
    if (place / MANIFEST).is_file():
        names = []
    elif file.suffix in (".yaml", ".yml") and file.is_file():
        names = _yolo_splits(file)
    elif lists.is_dir():
        names = [name for name in _VOC_SPLITS if (lists / f"{name}.txt").is_file()]
    else:
        names = list(coco_files(place))
    return names if len(names) > 1 else [None]


def _yolo_splits(file: Path) -> list[str]:
    """Returns the splits of a data.yaml; of two that are one and the same, the first."""
    try:
        content = yaml.load(file.read_bytes(), yaml.BaseLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        return []
    if not isinstance(content, dict):
        return []
    names: dict[str, str] = {}
    for name in _YOLO_SPLITS:
        if content.get(name) not in (None, "", "~", "null"):
            names.setdefault(repr(content[name]), name)
    return list(names.values())
