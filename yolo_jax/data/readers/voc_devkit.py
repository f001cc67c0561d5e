"""Pascal VOC's VOCdevkit: folders like VOC2007 and VOC2012, one or several read as one data set.

Most published figures are of 2007_trainval+2012_trainval, scored on 2007_test.
"""

import dataclasses
from collections import Counter
from pathlib import Path

from yolo_jax.core.types import Annotation, Dataset
from yolo_jax.data.doctor import Problem, listed
from yolo_jax.data.readers.voc import read_voc, voc_splits

_YEAR = "VOC"  # before it in a folder's name
_AND = "+"  # between splits, as tfds has it


def read_voc_devkit(
    path: Path | str,
    split: str | None = None,
    *,
    class_names_file: Path | str | None = None,
    strict: bool = False,
) -> tuple[Dataset, tuple[Problem, ...]]:
    """Reads splits of a folder like VOCdevkit, each by `read_voc`, as one data set.

    Image ids count from 0 through all of them, and the source of an image is its folder's name.

    Args:
        path: of the folder.
        split: such as `2007_test`: that of VOC2007, or of a folder called 2007; several are joined
            as in `2007_trainval+2012_trainval`. None takes the only one there is.
        class_names_file: has a class a line; None takes those that the folders have alike.
        strict: a bad record is an error.

    Returns:
        The data set, and the bad records that it is without.

    Raises:
        FileNotFoundError: there is no such split.
        ValueError: it is unclear which split is meant, two of them have an image in common, their
            folders name different classes; or see `read_voc`.
    """
    path = Path(path)
    annotations: list[Annotation] = []
    problems: list[Problem] = []
    class_names: tuple[str, ...] = ()
    not_kept: list[str] = []
    for part in _parts(path, split):
        folder, name = _of_folder(path, part)
        dataset, found = read_voc(folder, name, class_names_file=class_names_file, strict=strict)
        class_names = class_names or dataset.class_names
        if dataset.class_names != class_names:
            raise ValueError(
                f"{folder} has the classes [{listed(map(repr, dataset.class_names))}], and those "
                f"before it in {split} have [{listed(map(repr, class_names))}]; give a file of "
                "class names"
            )
        annotations += [dataclasses.replace(one, source=folder.name) for one in dataset.annotations]
        problems += found
        not_kept += [f"{lost} ({part})" for lost in dataset.not_kept]
    shared = [image for image, count in Counter(a.path for a in annotations).items() if count > 1]
    if shared:
        raise ValueError(f"{len(shared)} images are in two splits of {split}, such as {shared[0]}")
    numbered = (dataclasses.replace(a, image_id=number) for number, a in enumerate(annotations))
    return Dataset(tuple(numbered), class_names, path, not_kept=tuple(not_kept)), tuple(problems)


def devkit_splits(path: Path) -> list[str]:
    """Returns the splits of a folder's folders, none of which has another's images."""
    return [
        f"{year}_{name}" for year, folder in _folders(path).items() for name in voc_splits(folder)
    ]


def is_devkit(path: Path) -> bool:
    """Tells whether a folder has others like VOC2007 in it."""
    return bool(_folders(path))


def _folders(path: Path) -> dict[str, Path]:
    """Returns the folders with lists of images, by what a split starts with."""
    found = sorted(lists.parents[1] for lists in path.glob("*/ImageSets/Main"))
    return {folder.name.removeprefix(_YEAR): folder for folder in found}


def _parts(path: Path, split: str | None) -> list[str]:
    if split is not None:
        return split.split(_AND)
    found = devkit_splits(path)
    if len(found) != 1:
        raise ValueError(
            f"{path} has the splits {found}; say which one is meant, or which ones, as in "
            f"{_AND.join(found[:2])}"
        )
    return found


def _of_folder(path: Path, part: str) -> tuple[Path, str]:
    """Returns the folder of a split, and the split's name there."""
    year, _, name = part.rpartition("_")
    folder = _folders(path).get(year)
    if folder is None or not name:
        raise FileNotFoundError(f"{path}: there is no split {part!r}; it has {devkit_splits(path)}")
    return folder, name
