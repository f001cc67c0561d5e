"""YOLO's folders as Ultralytics lays them out: a data.yaml, and a text file of labels an image.

Source: https://docs.ultralytics.com/datasets/detect/.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from yolo_jax.core.types import Dataset
from yolo_jax.data.doctor import Fault, Problem, report
from yolo_jax.data.readers.records import (
    climbs_out,
    find_image,
    image_files,
    make_annotation,
    read_class_names,
    read_lines,
    read_text,
)
from yolo_jax.data.readers.sizes import image_sizes
from yolo_jax.data.readers.yolo_labels import label_file, read_boxes, report_unused

_log = logging.getLogger(__name__)
YAML_NAME = "data.yaml"
# PyYAML takes seconds for them; 20,000 class names have fewer.
_MOST_CHARACTERS = 400_000
_SPLITS = ("train", "val", "test")


def read_yolo(
    path: Path | str,
    split: str | None = None,
    *,
    class_names_file: Path | str | None = None,
    strict: bool = False,
) -> tuple[Dataset, tuple[Problem, ...]]:
    """Reads the data set of a data.yaml.

    `path` in it is the data's folder, as seen from the file (default: the file's own, which is
    also taken, with a warning, for a `path` that is not there, if the split is in it). `train`,
    `val` and `test` are each a folder of images, a text file that lists images, or a list of
    these, relative to the data's folder and inside it, or absolute. Without `path`, Roboflow's
    `../train/images` may lie beside the yaml's folder, or else is `train/images` in it, as in
    Ultralytics. A line of a list is absolute, or inside the list's folder or the data's. The
    labels of an image lie where `labels` stands in place of the last `images` of its path; an
    image without that file shows no object. A polygon becomes the box around it; of a pose
    (`kpt_shape`) the box is taken. Bad records are skipped and reported. Image ids count from 0.

    Args:
        path: of the yaml file, or of the folder with a data.yaml.
        split: `train`, `val` or `test`; None takes what the file has if that is one thing.
        class_names_file: has a class a line, for a yaml without `names`.
        strict: a bad record is an error.

    Returns:
        The data set, and the bad records that it is without.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: the yaml cannot be read, it has a field that is wrong or names of another
            number than `nc`, it is unclear which split is meant, no image is usable, or strict
            and a record is bad.
    """
    file = _file(Path(path))
    content = _load(file)
    class_names = _class_names(file, content, class_names_file)
    problems: list[Problem] = []
    images = _images(file, content, _split(file, content, split), problems)
    labels = [label_file(image) for image in images]
    if images and not any(label.is_file() for label in labels):
        reason = f"none of its {len(images)} images has labels, such as {labels[0]}"
        problems.append(Problem(file, "the split", reason))
    annotations, polygons = [], 0
    for image, label, size in zip(images, labels, image_sizes(images), strict=True):
        if isinstance(size, Fault):
            problems.append(Problem(image, "the image", *size, loses_image=True))
            continue
        boxes = read_boxes(label, size, class_names, "kpt_shape" in content, problems)
        if boxes is not None:
            polygons += sum(len(box.numbers) > 4 for box in boxes)
            annotations.append(make_annotation(len(annotations), image, size, boxes))
    report(problems, strict=strict)
    if not annotations:
        raise ValueError(f"{file} has no usable image, of {len(images)} that it leads to")
    lost = [f"{polygons:,} polygons: the boxes around them are"] if polygons else []
    if "kpt_shape" in content:
        lost.append("keypoints")
    dataset = Dataset(tuple(annotations), class_names, file, not_kept=tuple(lost))
    return dataset, tuple(problems)


def yolo_splits(path: Path) -> list[str]:
    """Returns the splits of a data.yaml; of those that are one and the same, the first.

    Args:
        path: of the yaml file, or of the folder with a data.yaml.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the yaml cannot be read.
    """
    return _distinct(_load(_file(path)))


def _file(path: Path) -> Path:
    return path / YAML_NAME if path.is_dir() else path


def _distinct(content: Mapping[str, Any]) -> list[str]:
    names: dict[str, str] = {}
    for name in _SPLITS:
        if name in content:
            names.setdefault(repr(content[name]), name)
    return list(names.values())


class _Loader(yaml.BaseLoader):
    """Reads YAML, and refuses what data sets have no use for.

    That is a key that stands twice, of which others take the last, and an alias, by which a few
    lines may stand for gigabytes.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.YAMLError(
                f"line {event.start_mark.line + 1} has the alias *{event.anchor:.40}; write out "
                "what it stands for"
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        first: dict[str, yaml.Node] = {}
        for key, _ in node.value:
            line, other = key.start_mark.line + 1, first.setdefault(str(key.value), key)
            if other is not key:
                raise yaml.YAMLError(
                    f"line {line} has the key {key.value!r} again, which line "
                    f"{other.start_mark.line + 1} has; leave one"
                )
        return super().construct_mapping(node, deep)


def _load(file: Path) -> dict[str, Any]:
    text = read_text(file, "a YOLO data.yaml", "YAML")
    if len(text) > _MOST_CHARACTERS:
        raise ValueError(
            f"{file} has {len(text)} characters; of a YOLO data.yaml at most {_MOST_CHARACTERS} "
            "are read: list images in a .txt file, and name that"
        )
    try:
        # Every scalar as text: a class named `no` or `007` is not False or 7.
        content = yaml.load(text, _Loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{file} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} is not a YOLO data.yaml: expected `train: …` and `names: …`")
    # What stands there without a value is not there.
    return {key: value for key, value in content.items() if value not in ("", "~", "null")}


def _class_names(
    file: Path, content: Mapping[str, Any], class_names_file: Path | str | None
) -> tuple[str, ...]:
    """Returns the names by class index, checked against `nc`."""
    names, count = content.get("names"), content.get("nc")
    where = f"{file}: names"
    if names is None and class_names_file is not None:
        names, where = list(read_class_names(class_names_file)), str(class_names_file)
    if isinstance(names, dict):
        numbers = [str(index) for index in range(len(names))]
        if set(names) != set(numbers):
            raise ValueError(
                f"{where} has the indices {list(names)}; expected 0 to {len(names) - 1}"
            )
        names = [names[number] for number in numbers]
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise ValueError(
            f"{where} is {names!r}; expected a list of class names, or `index: name` lines. "
            "Without it, give a file of class names"
        )
    if count is not None and count != str(len(names)):
        raise ValueError(
            f"{where} has {len(names)} class names, and nc in {file} is {count}; mend one of them"
        )
    return tuple(names)


def _split(file: Path, content: Mapping[str, Any], split: str | None) -> list[str]:
    """Returns the folders and lists of a split, as the yaml has them."""
    found = {name: content[name] for name in _SPLITS if name in content}
    if split is None:
        distinct = _distinct(content)
        if len(distinct) != 1:
            raise ValueError(f"{file} has the splits {list(found)}; say which one is meant")
        (split,) = distinct
    if split not in found:
        raise ValueError(f"{file} has no split {split!r}; it has {list(found)}")
    entries = found[split] if isinstance(found[split], list) else [found[split]]
    if not entries or not all(isinstance(entry, str) for entry in entries):
        raise ValueError(
            f"{file}: {split} is {found[split]!r}; expected a folder of images, a text file that "
            "lists them, or a list of these"
        )
    return entries


def _images(
    file: Path, content: Mapping[str, Any], entries: Sequence[str], problems: list[Problem]
) -> list[Path]:
    """Returns the image files of a split, each once."""
    root = _root(file, content, entries)
    images: dict[Path, None] = {}
    for entry in entries:
        place = _place(file, root, entry, may_climb="path" not in content)
        if _is_folder(place):
            found = image_files(place, problems, below=True)
            report_unused(place, found, problems)
            if not found:
                problems.append(Problem(file, entry, f"there is no image in {place}"))
        else:
            found = _listed(place, root, problems)
        for image in found:
            if image in images:
                problems.append(Problem(place, str(image), "it was listed before; skipped"))
            images[image] = None
    return list(images)


def _root(file: Path, content: Mapping[str, Any], entries: Sequence[str]) -> Path:
    """Returns the data's folder; see `read_yolo`."""
    root, own = file.parent / str(content.get("path", "")), file.parent
    if _is_folder(root):
        return root
    if not all(_is_folder(own / entry) or _is_list(own / entry) for entry in entries):
        raise FileNotFoundError(
            f"{file}: path is {content['path']!r}, and there is no folder {root}; expected the "
            f"data's folder, absolute or as seen from {own}"
        )
    _log.warning("%s: there is no folder %s (its path); %s is taken for it", file, root, own)
    return own


def _place(file: Path, root: Path, entry: str, *, may_climb: bool) -> Path:
    """Returns the folder or list of an entry.

    Args:
        file: the yaml.
        root: the data's folder.
        entry: its path, as the yaml has it.
        may_climb: a single `../` at its start may lead out of the data's folder.
    """
    places, hint = [root / entry], ""
    if climbs_out(entry):
        below, hint = entry.removeprefix("../"), "; set path to the data's folder"
        if climbs_out(below):
            raise ValueError(f"{file}: {entry!r} lies outside {root}{hint}")
        places = [*([_above(file, root, entry)] if may_climb else []), root / below]
    found = [p for p in places if _is_folder(p) or _is_list(p)]
    if not found:
        shown = " or ".join(map(str, places))
        raise FileNotFoundError(
            f"{file}: {entry!r}: there is no folder of images or .txt list {shown}{hint}"
        )
    if len(found) > 1:
        _log.warning("%s: %r is taken as %s, while there is %s too", file, entry, *found)
    return found[0]


def _above(file: Path, root: Path, entry: str) -> Path:
    """Returns the place of an entry that leads out of the data's folder."""
    try:
        return (root / entry).resolve()
    except ValueError as error:  # a NUL, or half a surrogate pair
        raise ValueError(
            f"{file}: {entry!r} is not a path that a file can have: {error}"
        ) from error


def _is_list(path: Path) -> bool:
    # False too where nothing can have the path, as in `_is_folder`.
    return path.suffix.lower() == ".txt" and os.path.isfile(path)  # noqa: PTH113


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 (False too where nothing can have the path)


def _listed(file: Path, root: Path, problems: list[Problem]) -> list[Path]:
    """Returns the image files that a text file lists."""
    images = []
    for place, line in read_lines(file, "a list of images"):
        image, fault = find_image(line, [file.parent, root])
        if fault:
            problems.append(Problem(file, f"{place} ({line})", *fault, loses_image=True))
        else:
            images.append(image)
    return images
