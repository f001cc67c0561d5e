"""What the writers share: a new folder that appears when it is whole, and images copied into it."""

import io
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from yolo_jax.core.types import Dataset
from yolo_jax.data.images import FORMATS, ImageError, read_annotated
from yolo_jax.data.readers.array_record import MANIFEST, image_name
from yolo_jax.data.readers.records import IMAGE_SUFFIXES
from yolo_jax.data.readers.yolo import YAML_NAME

_SUFFIX_OF = {"JPEG": ".jpg", "TIFF": ".tif", "JPEG2000": ".jp2", "PPM": ".ppm"}
DECIMALS = 3  # of a pixel


def data_folder(source: str) -> Path | None:
    """Returns the folder of a data set, where its name tells it before it is read.

    Args:
        source: a folder, a file, or `tfds:NAME`, which is in no folder of the user's. Of the files
            `data.yaml` and `manifest.json` are of the folder that they are in. Others may lie
            anywhere: `check_apart` looks at what they list.
    """
    place = Path(source).resolve()
    if place.is_file() and place.name in (YAML_NAME, MANIFEST):
        return place.parent
    return place if place.is_dir() else None


def check_new(folder: Path, source: str | None = None) -> None:
    """Refuses a place where a data set cannot be written.

    Args:
        folder: to make.
        source: of the data, which stay as they are.

    Raises:
        ValueError: there is a file, or a folder that is not empty; or it lies in the data set.
    """
    own = None if source is None else data_folder(source)
    if own is not None and folder.resolve().is_relative_to(own):
        raise ValueError(f"{folder} lies in the data set {source}, which stays as it is")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; name a new folder")
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty; name a new folder")


def check_apart(folder: Path, dataset: Dataset) -> None:
    """Refuses a place among the images of a data set, whose readers may take what is put there.

    The folder of the annotation file itself may be the user's working directory, and is none.

    Raises:
        ValueError: it lies in a folder of images.
    """
    place = folder.resolve()
    above = {place, *place.parents} - {dataset.origin.resolve().parent}
    for images in {annotation.path.parent for annotation in dataset.annotations}:
        if dataset.read is None and images.resolve() in above:
            raise ValueError(
                f"{folder} lies in {images}, among images of the data set; name another"
            )


@contextmanager
def new_folder(folder: Path | str) -> Iterator[Path]:
    """Gives a folder to write into, which gets its name when all is there.

    Until then it is `FOLDER.unfinished-…`, beside it. It goes when writing fails; what a killed
    process leaves of it can be deleted.

    Args:
        folder: to make; it may exist, but must be empty.

    Raises:
        ValueError: it is not empty, or is a file.
    """
    folder = Path(folder).resolve()
    check_new(folder)
    unfinished = folder.with_name(f"{folder.name}.unfinished-{os.getpid()}")
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)  # by now its name is gone, if all went well


def names_lost(dataset: Dataset, names: Sequence[str] | None = None) -> list[str]:
    """Returns what to say of image files that lay in several folders or had other names.

    Args:
        dataset: whose images were copied.
        names: that `copy_images` gave them; None: they keep their own.
    """
    lost = []
    folders = {annotation.path.parent for annotation in dataset.annotations}
    if len(folders) > 1:
        lost.append(f"the {len(folders)} folders of the images: all are in one")
    old = [image_name(dataset, annotation) for annotation in dataset.annotations]
    changed = [f"{a!r} is {b!r}" for a, b in zip(old, names or old, strict=True) if a != b]
    if changed:
        lost.append(f"names of {len(changed)} image files, such as {changed[0]}")
    return lost


def copy_images(dataset: Dataset, folder: Path) -> list[str]:
    """Copies the image files of a data set, byte for byte.

    Args:
        dataset: whose images are copied.
        folder: to put them in; it is made.

    Returns:
        For each annotation the file's name: the one it had, but for characters that no text file
        can list, and a number where two would differ in their suffix or in capitals alone.

    Raises:
        FileNotFoundError: there is no such image file.
        ImageError: an image cannot be read.
        ValueError: the data set has no images.
    """
    if not dataset.annotations:
        raise ValueError(f"{dataset.origin} has no images to write")
    folder.mkdir(parents=True)
    names, stems = [], set()
    for annotation in tqdm(dataset.annotations, "images", disable=None):
        encoded = read_annotated(dataset, annotation)
        stem, suffix = _stem_and_suffix(image_name(dataset, annotation), annotation.path, encoded)
        first, number = stem, 2
        while stem.lower() in stems:
            stem, number = f"{first}_{number}", number + 1
        stems.add(stem.lower())
        names.append(stem + suffix)
        (folder / names[-1]).write_bytes(encoded)
    return names


def _stem_and_suffix(name: str, path: Path, encoded: bytes) -> tuple[str, str]:
    name = "".join(c if c.isprintable() and c not in '/\\"<>|?*:' else "_" for c in name).strip()
    name = name.lstrip(".")  # readers of folders do not take what is hidden
    stem, dot, suffix = name.rpartition(".")
    if dot + suffix.lower() in IMAGE_SUFFIXES:
        return stem.strip() or "image", dot + suffix
    # Readers know images by their suffix; this one's content has to tell.
    try:
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            kind = str(image.format)
    except (UnidentifiedImageError, OSError) as error:
        raise ImageError(f"{path} is not an image of a known format") from error
    return name or "image", _SUFFIX_OF.get(kind, f".{kind.lower()}")


def shortest(value: float) -> str:
    """Returns a number of pixels with three decimals, of which zeros at the end are left out."""
    text = f"{value:.{DECIMALS}f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def check_class_names(dataset: Dataset) -> None:
    """Refuses names that cannot be told apart, or not be listed one a line.

    Raises:
        ValueError: two classes have one name, or a name is empty or has spaces around it or
            characters that cannot be printed.
    """
    for name, count in Counter(dataset.class_names).items():
        if not name.strip() or name.strip() != name or not name.isprintable():
            raise ValueError(f"{dataset.origin}: the class name {name!r} cannot be listed; mend it")
        if count > 1:
            raise ValueError(f"{dataset.origin}: two classes have the name {name!r}; mend one")


def crowds_lost(dataset: Dataset) -> list[str]:
    """Returns what to say of the crowd regions of a data set whose new form has none."""
    crowds = sum(int(annotation.crowd.sum()) for annotation in dataset.annotations)
    return [f"{crowds} crowd regions: left out, as they are no targets"] if crowds else []


def sources_lost(dataset: Dataset) -> list[str]:
    """Returns what to say of the sources of images whose new form has none."""
    sources = sorted({annotation.source for annotation in dataset.annotations} - {""})
    return [f"which source an image is of: {', '.join(sources)}"] if sources else []


def ids_lost(dataset: Dataset) -> list[str]:
    """Returns what to say of ids where images of the new form are counted from 0."""
    kept = all(annotation.image_id == row for row, annotation in enumerate(dataset.annotations))
    return [] if kept else ["image ids: the images are counted from 0 anew"]
