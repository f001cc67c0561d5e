"""One file a format, each yielding the same `Annotation`; `read_dataset` tells the format."""

from collections import Counter
from pathlib import Path

from yolo_jax.core.types import Dataset
from yolo_jax.data.classes import in_classes
from yolo_jax.data.doctor import Problem, listed
from yolo_jax.data.readers.array_record import ANNOTATIONS, MANIFEST, read_array_record
from yolo_jax.data.readers.coco import read_coco
from yolo_jax.data.readers.keras_yolo3 import LINES_NAME, read_keras_yolo3
from yolo_jax.data.readers.records import read_class_names
from yolo_jax.data.readers.tfds import read_tfds, tfds_splits
from yolo_jax.data.readers.voc import read_voc, voc_splits
from yolo_jax.data.readers.voc_devkit import devkit_splits, is_devkit, read_voc_devkit
from yolo_jax.data.readers.yolo import YAML_NAME, read_yolo, yolo_splits

_TFDS = "tfds:"
_FORMAT_OF = {".json": "coco", ".yaml": "yolo", ".yml": "yolo", ".txt": "keras_yolo3"}


def read_dataset(
    path: Path | str,
    *,
    split: str | None = None,
    strict: bool = False,
    class_names_file: Path | str | None = None,
) -> tuple[Dataset, tuple[Problem, ...]]:
    """Reads a data set whose format its path tells.

    A `.json` file is COCO's, a `.yaml` YOLO's, a `.txt` keras-yolo3's; a folder is of the format
    whose files are in it; `tfds:NAME` is a data set of tensorflow_datasets. See their readers.

    Args:
        path: of the file or folder, or `tfds:NAME`.
        split: the part to read, where a format has parts; None takes the only one. Of a folder of
            COCO files it picks `SPLIT.json` or `annotations/instances_SPLIT.json`.
        strict: a bad record is an error.
        class_names_file: has a class a line, by growing index. Of a data set that names its classes
            itself it has to have all names, and gives their order.

    Returns:
        The data set, and the bad records that it is without.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: its format is not known, it is unclear which split is meant, it cannot be read,
            it has no usable image, it has a class that is not in the file of class names, or
            strict and a record is bad.
    """
    dataset, problems = _read(path, split, class_names_file, strict=strict)
    _check_class_names(dataset)
    if class_names_file is None:
        return dataset, problems
    names = read_class_names(class_names_file)
    known = set(names)
    unknown = [repr(name) for name in dataset.class_names if name not in known]
    if unknown:
        raise ValueError(
            f"{path} has the classes [{listed(unknown)}], which are not in {class_names_file}; add "
            "them to it"
        )
    return in_classes(dataset, names), problems


def split_names(path: Path | str) -> list[str]:
    """Returns the splits of a data set that has several; none where `read_dataset` needs no name.

    What is wrong with the files themselves is for the reader to say.

    Args:
        path: of the file or folder, or `tfds:NAME`.
    """
    place = Path(path)
    try:
        if str(path).startswith(_TFDS):
            names = tfds_splits(str(path).removeprefix(_TFDS))
            return names if len(names) > 1 else []
        match _format(place):
            case "yolo":
                names = yolo_splits(place)
            case "voc":
                names = voc_splits(place)
            case "voc_devkit":
                names = devkit_splits(place)
            case "coco" if place.is_dir():
                names = list(_coco_files(place))
            case _:
                names = []
    except (ValueError, OSError):
        return []
    return names if len(names) > 1 else []


def _check_class_names(dataset: Dataset) -> None:
    """Refuses names that cannot be told apart: classes are matched by them."""
    counts = Counter(dataset.class_names)
    for name, count in counts.items():
        if not name.strip() or count > 1:
            what = "has no name" if not name.strip() else f"has the name {name!r} of another"
            raise ValueError(f"{dataset.origin}: a class {what}; give each its own")


def _read(
    path: Path | str, split: str | None, class_names_file: Path | str | None, *, strict: bool
) -> tuple[Dataset, tuple[Problem, ...]]:
    if str(path).startswith(_TFDS):
        return read_tfds(str(path).removeprefix(_TFDS), split, strict=strict)
    place = Path(path)
    if not place.exists():
        raise FileNotFoundError(f"there is no file or folder {path} to read a data set from")
    kind = _format(place)
    if kind == "yolo":
        return read_yolo(place, split, class_names_file=class_names_file, strict=strict)
    if kind == "voc":
        return read_voc(place, split, class_names_file=class_names_file, strict=strict)
    if kind == "voc_devkit":
        return read_voc_devkit(place, split, class_names_file=class_names_file, strict=strict)
    if kind == "coco" and place.is_dir():
        return read_coco(_coco_file(place, split), strict=strict)
    if split is not None:
        raise ValueError(f"{path} is one data set, without the split {split!r}; leave that out")
    if kind == "coco":
        return read_coco(place, strict=strict)
    if kind == "array_record":
        return read_array_record(place, strict=strict)
    lines = place / LINES_NAME if place.is_dir() else place
    return read_keras_yolo3(lines, class_names_file=class_names_file, strict=strict)


def _format(path: Path) -> str:
    """Returns the format of a file or folder.

    Raises:
        ValueError: it is not of any.
    """
    if path.name == MANIFEST and (path.parent / ANNOTATIONS).is_file():
        return "array_record"
    if path.is_file() and path.suffix.lower() in _FORMAT_OF:
        return _FORMAT_OF[path.suffix.lower()]
    if (path / MANIFEST).is_file():
        return "array_record"
    if (path / YAML_NAME).is_file():
        return "yolo"
    # COCO's folder of annotations differs from VOC's in one letter, or on some disks not at all.
    if (path / "ImageSets").is_dir() or _files(path, "*.xml", "Annotations/*.xml"):
        return "voc"
    if is_devkit(path):
        return "voc_devkit"
    if _coco_files(path):
        return "coco"
    if (path / LINES_NAME).is_file():
        return "keras_yolo3"
    raise ValueError(
        f"{path} is a data set of no known format. Sought: {_TFDS}NAME, a file .json (COCO), "
        f".yaml (YOLO) or .txt (keras-yolo3), or a folder with {MANIFEST} (array_record), "
        f"{YAML_NAME} (YOLO), ImageSets or .xml files or Annotations/*.xml (Pascal VOC; "
        f"or folders of such, as VOCdevkit has), "
        f".json files or annotations/instances_*.json (COCO), or {LINES_NAME} (keras-yolo3)"
    )


def _files(folder: Path, *patterns: str) -> list[Path]:
    return [file for pattern in patterns for file in sorted(folder.glob(pattern))]


def _coco_files(folder: Path) -> dict[str, Path]:
    """Returns the COCO files of a folder by the split that each is."""
    files = _files(folder, "*.json", "annotations/instances_*.json")
    return {file.stem.removeprefix("instances_"): file for file in files}


def _coco_file(folder: Path, split: str | None) -> Path:
    files = _coco_files(folder)
    if split is None and len(files) == 1:
        return next(iter(files.values()))
    if split not in files:
        found = "no split is named" if split is None else f"there is no split {split!r}"
        raise ValueError(f"{folder}: {found}; it has {list(files)}")
    return files[split]
