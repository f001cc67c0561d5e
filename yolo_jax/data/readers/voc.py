"""Pascal VOC's folders: an XML file an image.

A box is of whole pixels, which count from 1, and its last pixel is inside: xmin to xmax are
xmax − xmin + 1 px. By its edges, as a box is here, it is (xmin − 1, ymin − 1, xmax, ymax).

Source: Everingham & Winn, The PASCAL Visual Object Classes Challenge 2007 Development Kit: "the
top-left pixel in the image has coordinates (1,1)"; the kit's VOCevaldet measures boxes so.
"""

import functools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from yolo_jax.core.types import Annotation, Dataset
from yolo_jax.data.doctor import Fault, Kind, Problem, listed, report
from yolo_jax.data.readers.records import (
    IMAGE_SUFFIXES,
    Box,
    files_below,
    find_inside,
    image_files,
    make_annotation,
    place_box,
    read_class_names,
    read_lines,
    without_doubles,
)
from yolo_jax.data.readers.sizes import image_sizes
from yolo_jax.data.readers.voc_xml import read_root

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
CLASSES_FILE = "classes.txt"
CORNERS = ("xmin", "ymin", "xmax", "ymax")
# Of `ImageSets/Main`; beside them stand lists of each class, for VOC's task of classification.
_SPLITS = ("train", "val", "trainval", "test")


class _Record(NamedTuple):
    """An image as its XML file states it.

    Attributes:
        xml: the file.
        image: its image file.
        size: (width, height) in px; None where the XML does not tell.
        source: `source/database`, or "".
        objects: in the file's order.
    """

    xml: Path
    image: Path
    size: tuple[int, int] | None
    source: str
    objects: Sequence[ElementTree.Element]


def read_voc(
    path: Path | str,
    split: str | None = None,
    *,
    class_names_file: Path | str | None = None,
    strict: bool = False,
) -> tuple[Dataset, tuple[Problem, ...]]:
    """Reads a folder like VOCdevkit/VOC2007, or one of images with an XML file each.

    XML files stand in `Annotations`, images in `JPEGImages`, and in the folder itself where there
    is none of these. The image of an XML is its `filename`, or else the one of the XML's own name.
    Objects that are `difficult` become crowd regions, which are neither targets nor errors. A bad
    record (a damaged XML, an image or an XML that is missing or outside its folder, a box of no
    size or outside its image, an unknown class) is skipped and reported. Image ids count from 0.

    Args:
        path: of the folder.
        split: a list in `ImageSets/Main`, such as `train`; None takes the only one of train, val,
            trainval and test, and every XML file where there is no such folder.
        class_names_file: has a class a line; None takes `classes.txt` in the folder if it is
            there, else the names in all of the folder's XML files, whatever the split: VOC's 20
            classes in their order if there is no other name, or else the names found, sorted.
        strict: a bad record is an error.

    Returns:
        The data set, and the bad records that it is without.

    Raises:
        FileNotFoundError: there is no such folder or split.
        ValueError: it is unclear which split or folder is meant, a list is not UTF-8, no image is
            usable, or strict and a record is bad.
    """
    path = Path(path)
    problems: list[Problem] = []
    annotations, images = _folders(path)
    lists = path / "ImageSets" / "Main"
    if lists.is_dir():
        file = _split_file(lists, split)
        names = [(file, *line) for line in read_lines(file, "a list of images")]
        records = _records(annotations, images, names, problems)
    elif split is not None:
        raise FileNotFoundError(f"there is no split {split!r}: {path} has no ImageSets/Main")
    else:
        names = [(xml, "the file", xml.stem) for xml in sorted(annotations.glob("*.xml"))]
        records = _records(annotations, images, names, problems)
        _report_unused(images, records, problems)
    records = _with_sizes(records, problems)
    class_names = _class_names(path, class_names_file, annotations, records)
    class_of = {name: index for index, name in enumerate(class_names)}
    read = tuple(
        _annotation(number, size, record, class_of, problems)
        for number, (record, size) in enumerate(records)
    )
    report(problems, strict=strict)
    if not read:
        raise ValueError(f"{path} has no usable image, of {len(names)} that it lists")
    lost = _not_kept(element for record, _ in records for element in record.objects)
    return Dataset(read, class_names, path, not_kept=lost), tuple(problems)


def voc_splits(path: Path) -> list[str]:
    """Returns the splits of a folder; `trainval` only where it is not two of them."""
    found = _split_lists(path / "ImageSets" / "Main")
    return [name for name in found if name != "trainval" or not {"train", "val"} & set(found)]


def _split_lists(lists: Path) -> list[str]:
    return [name for name in _SPLITS if (lists / f"{name}.txt").is_file()]


def _folders(path: Path) -> tuple[Path, Path]:
    """Returns the folders of the XML files and of the images."""
    if not path.is_dir():
        raise FileNotFoundError(f"there is no folder {path}; expected one like VOCdevkit/VOC2007")
    inner = sorted(folder.parent.name for folder in path.glob("*/Annotations"))
    annotations, images = path / "Annotations", path / "JPEGImages"
    if inner and not annotations.is_dir():
        raise ValueError(f"{path} is a folder of VOC data sets; name one of them: {inner}")
    return annotations if annotations.is_dir() else path, images if images.is_dir() else path


def _split_file(lists: Path, split: str | None) -> Path:
    found = _split_lists(lists)
    if split is None:
        if len(found) != 1:
            raise ValueError(f"{lists} has the splits {found}; say which one is meant")
        split = found[0]
    file = lists / f"{split}.txt"
    if not file.is_file():
        raise FileNotFoundError(f"there is no split {file}; there are {found}")
    return file


def _records(
    annotations: Path,
    images: Path,
    names: Sequence[tuple[Path, str, str]],
    problems: list[Problem],
) -> list[_Record]:
    """Reads XML files.

    Args:
        annotations: folder of the XML files.
        images: folder of the image files.
        names: (file that lists it, its place there, name of the XML without suffix) of each.
        problems: found before; bad ones are added.
    """
    records: list[_Record] = []
    xml_of: dict[Path, str] = {}
    record_of = functools.cache(_record)  # a list may have a name many times
    for file, place, name in names:
        xml, fault = find_inside(f"{name}.xml", [annotations], "XML file")
        if fault:
            problems.append(Problem(file, f"{place} ({name})", *fault, loses_image=True))
            continue
        record = record_of(xml, images, name)
        if isinstance(record, Fault):
            problems.append(Problem(xml, "the file", *record, loses_image=True))
        elif record.image in xml_of:
            reason = f"its image {record.image.name} is that of {xml_of[record.image]}; skipped"
            problems.append(Problem(xml, "the file", reason))
        else:
            xml_of[record.image] = xml.name
            records.append(record)
    return records


def _record(xml: Path, images: Path, name: str) -> _Record | Fault:
    """Returns what an XML file states, or why it is of no use."""
    root = read_root(xml)
    if isinstance(root, Fault):
        return root
    filename = root.findtext("filename", "").strip()
    image, fault = images, Fault("it names no image file; skipped")
    if filename:
        image, fault = find_inside(filename, [images])
    if fault and not Path(filename).is_absolute() and ".." not in Path(filename).parts:
        # Image files are renamed along with their XML, which still has the old name.
        endings = [end for suffix in sorted(IMAGE_SUFFIXES) for end in (suffix, suffix.upper())]
        found = (find_inside(name + end, [images]) for end in endings)
        image, fault = next((pair for pair in found if pair[1] is None), (image, fault))
    if fault:
        return Fault(f"image {filename!r}: {fault.reason}", fault.kind)
    source = root.findtext("source/database", "").strip()
    return _Record(
        xml,
        image,
        _size(root),
        "" if source == "Unknown" else source,  # as LabelImg writes
        root.findall("object"),
    )


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    texts = [root.findtext(f"size/{side}", "").strip() for side in ("width", "height")]
    if not all(text.isdecimal() and 0 < len(text) < 10 for text in texts):
        return None
    width, height = (int(text) for text in texts)
    return (width, height) if width and height else None


def _report_unused(images: Path, records: Sequence[_Record], problems: list[Problem]) -> None:
    """Reports images that no XML is of, which are none of the set: do they show no object?"""
    used = {record.image for record in records}
    reported = {problem.file.stem for problem in problems}  # their XML files are bad
    for file in image_files(images, problems):
        if file not in used and file.stem not in reported:
            problems.append(Problem(file, "the image", "there is no XML file of it; skipped"))


def _with_sizes(
    records: Sequence[_Record], problems: list[Problem]
) -> list[tuple[_Record, tuple[int, int]]]:
    """Returns records with sizes, read from the image file where the XML does not tell."""
    unstated = [record.image for record in records if record.size is None]
    read = dict(zip(unstated, image_sizes(unstated), strict=True))
    sized = []
    for record in records:
        size = record.size or read[record.image]
        if isinstance(size, Fault):
            name = f"image {record.image.name}"
            problems.append(Problem(record.xml, name, *size, loses_image=True))
        else:
            sized.append((record, size))
    return sized


def _class_names(
    path: Path,
    class_names_file: Path | str | None,
    annotations: Path,
    records: Sequence[tuple[_Record, tuple[int, int]]],
) -> tuple[str, ...]:
    """Returns the names of the folder's classes, which are the same for each of its splits."""
    if class_names_file is None and (path / CLASSES_FILE).is_file():
        class_names_file = path / CLASSES_FILE
    if class_names_file is not None:
        return read_class_names(class_names_file)
    objects = {record.xml: record.objects for record, _ in records}
    # Those of a split may stand in folders of the folder; of a flat one only its own are read.
    files = annotations.glob("*.xml") if annotations == path else files_below(annotations)
    for file in files:
        if file.suffix == ".xml" and file not in objects:
            root = read_root(file)
            objects[file] = [] if isinstance(root, Fault) else root.findall("object")
    found = {_name(element) for elements in objects.values() for element in elements} - {""}
    return VOC_CLASSES if found <= set(VOC_CLASSES) else tuple(sorted(found))


def _not_kept(objects: Iterable[ElementTree.Element]) -> tuple[str, ...]:
    """Returns what of objects is not read, in words; what says nothing is no loss."""
    counts = Counter(
        field.tag
        for element in objects
        for field in element
        if field.tag not in ("name", "bndbox", "difficult")
        and (len(field) or (field.text or "").strip() not in ("", "0", "Unspecified"))
    )
    return tuple(f"{tag} of {count:,} objects" for tag, count in sorted(counts.items()))


def _name(element: ElementTree.Element) -> str:
    return element.findtext("name", "").strip()


def _annotation(
    number: int,
    size: tuple[int, int],
    record: _Record,
    class_of: Mapping[str, int],
    problems: list[Problem],
) -> Annotation:
    boxes = []
    for index, element in enumerate(record.objects, 1):
        place = f"object {index} ({_name(element)})"
        box, fault = _box(place, element, size, class_of)
        if box is not None:
            boxes.append(box)
        if fault:
            problems.append(Problem(record.xml, place, *fault))
    boxes, doubles = without_doubles(boxes)
    name = f"image {record.image.name}"
    problems += [Problem(record.xml, name, *double) for double in doubles]
    return make_annotation(number, record.image, size, boxes, record.source)


def _box(
    place: str, element: ElementTree.Element, size: tuple[int, int], class_of: Mapping[str, int]
) -> tuple[Box | None, Fault | None]:
    """Returns the box if it is usable, and what is wrong or None."""
    name, difficult = _name(element), element.findtext("difficult", "0").strip()
    if name not in class_of:
        reason = f"its class {name!r} is not among [{listed(map(repr, class_of))}]; skipped"
        return None, Fault(reason, Kind.UNKNOWN_CLASS)
    if difficult not in ("0", "1"):
        return None, Fault(f"its difficult is {difficult!r}, not 0 or 1; skipped")
    texts = [element.findtext(f"bndbox/{corner}", "").strip() for corner in CORNERS]
    shown = "its bndbox " + ", ".join(
        f"{corner}={text!r}" for corner, text in zip(CORNERS, texts, strict=True)
    )
    try:
        numbers = tuple(float(text) for text in texts)
    except ValueError:
        return None, Fault(f"{shown} is not of four numbers; skipped")
    if not np.isfinite(numbers).all():
        return None, Fault(f"{shown} is not of four finite numbers; skipped")
    placed, fault = place_box(np.asarray(numbers) - (1, 1, 0, 0), *size, shown)
    if placed is None:
        return None, fault
    crowd = difficult == "1"
    return Box(place, numbers, placed, class_of[name], crowd), fault
