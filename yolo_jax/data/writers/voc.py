"""Any data set to Pascal VOC's folders; see `readers.voc`."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from yolo_jax.core.types import Annotation, Dataset
from yolo_jax.data.readers.voc import CLASSES_FILE, CORNERS
from yolo_jax.data.writers.folder import (
    check_class_names,
    copy_images,
    ids_lost,
    names_lost,
    new_folder,
    shortest,
)

_IMAGES = "JPEGImages"


def write_voc(dataset: Dataset, folder: Path | str) -> list[str]:
    """Writes `JPEGImages`, `Annotations`, the list `ImageSets/Main/trainval.txt` and the classes.

    Boxes are written as VOC counts pixels, with decimals where they have some. Crowd regions are
    written as difficult objects, and a source as `source/database`. `classes.txt` is not of VOC,
    which has no place for classes: it keeps their order.

    Args:
        dataset: whose images are copied as they are encoded.
        folder: to make; it may exist, but must be empty.

    Returns:
        What VOC cannot hold of the data set.

    Raises:
        FileNotFoundError: there is no such image file.
        ImageError: an image cannot be read.
        ValueError: the folder is not empty, or is a file; the data set has no images, or class
            names that are the same or cannot be listed.
        OSError: the disk is full, or may not be written to.
    """
    check_class_names(dataset)
    with new_folder(folder) as place:
        names = copy_images(dataset, place / _IMAGES)
        (place / "Annotations").mkdir()
        for annotation, name in zip(dataset.annotations, names, strict=True):
            tree = ElementTree.ElementTree(_element(annotation, name, dataset.class_names))
            ElementTree.indent(tree)
            xml = (place / "Annotations" / name).with_suffix(".xml")
            tree.write(xml, encoding="utf-8", xml_declaration=True)
        lists = place / "ImageSets" / "Main"
        lists.mkdir(parents=True)
        stems = "".join(f"{Path(name).stem}\n" for name in names)
        (lists / "trainval.txt").write_text(stems, encoding="utf-8")
        classes = "".join(f"{name}\n" for name in dataset.class_names)
        (place / CLASSES_FILE).write_text(classes, encoding="utf-8")
    return [*ids_lost(dataset), *names_lost(dataset, names)]


def _element(
    annotation: Annotation, name: str, class_names: tuple[str, ...]
) -> ElementTree.Element:
    root = ElementTree.Element("annotation")
    _add(root, "folder", _IMAGES)
    _add(root, "filename", name)
    if annotation.source:
        _add(ElementTree.SubElement(root, "source"), "database", annotation.source)
    size = ElementTree.SubElement(root, "size")
    for side, length in (("width", annotation.width), ("height", annotation.height), ("depth", 3)):
        _add(size, side, str(length))
    _add(root, "segmented", "0")
    # Its pixels count from 1, and the last is inside.
    boxes = annotation.boxes.astype(np.float64) + (1, 1, 0, 0)
    for box, index, crowd in zip(boxes, annotation.classes, annotation.crowd, strict=True):
        element = ElementTree.SubElement(root, "object")
        _add(element, "name", class_names[index])
        _add(element, "pose", "Unspecified")
        _add(element, "truncated", "0")
        _add(element, "difficult", str(int(crowd)))
        corners = ElementTree.SubElement(element, "bndbox")
        for corner, value in zip(CORNERS, box, strict=True):
            _add(corners, corner, shortest(value))
    return root


def _add(parent: ElementTree.Element, tag: str, text: str) -> None:
    # Of other characters, some may not stand in XML at all.
    printable = "".join(c if c.isprintable() else "_" for c in text)
    ElementTree.SubElement(parent, tag).text = printable
