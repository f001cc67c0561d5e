"""Data sets that tensorflow_datasets (TFDS) has prepared as ArrayRecord files.

They are read by random access and without TensorFlow, which TFDS itself needs to prepare most of
them: a set can be prepared elsewhere, and its folder copied.

Source: https://www.tensorflow.org/datasets/data_source.
"""

import io
import struct
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from google.protobuf.json_format import ParseError
from google.protobuf.message import DecodeError
from jaxtyping import Int
from PIL import ExifTags, Image
from tensorflow_datasets.core.constants import DATA_DIR
from tensorflow_datasets.core.read_only_builder import builder_from_files

from yolo_jax.core.types import Annotation, Dataset
from yolo_jax.data.doctor import Fault, Kind, Problem, report
from yolo_jax.data.images import FORMATS, ImageError
from yolo_jax.data.readers.array_record import open_shard
from yolo_jax.data.readers.columns import Columns
from yolo_jax.data.readers.records import Box, make_annotation, place_box, without_doubles
from yolo_jax.data.readers.tfds_features import IMAGE_ID, Layout, find_layout

# What a damaged record raises: in ArrayRecord, in protobuf and in TFDS.
_DAMAGED = (RuntimeError, DecodeError, ValueError, KeyError)
_Records = Sequence[dict[str, Any]]
_ARRAY_RECORD = "array_record"
# A box of more than this is one in float32 too.
_SURE_PX = 0.01
_LARGEST_ID = 2**31 - 1


def read_tfds(
    name: str,
    split: str | None = None,
    *,
    data_dir: Path | str | None = None,
    strict: bool = False,
) -> tuple[Dataset, tuple[Problem, ...]]:
    """Opens a prepared data set of TFDS that has images with boxes, such as `voc/2007`.

    Every record is read once for its boxes and the size in its image's header, at about 0.3 ms a
    record. A record holds its image too: to read boxes only when they are asked for would read
    each image twice in every pass, and a loader asks for all when it starts. What is kept are
    columns; images are read when they are asked for. To start at once, pack the data set.

    Boxes that TFDS calls crowd, difficult or group become crowds. Boxes lie where TFDS has them:
    those of VOC, whose pixels count from 1, are not moved. A bad record (an image whose header
    cannot be read or says to turn it, which TFDS does not do; a box of no size or without a class)
    is skipped and reported.

    Args:
        name: of the data set: `coco/2017`, `voc/2007:5.0.0`.
        split: as TFDS writes it: `train`, `train[:80%]`, `train+validation`; None takes the only
            one.
        data_dir: that TFDS prepared in; None: ~/tensorflow_datasets, or $TFDS_DATA_DIR.
        strict: a bad record is an error.

    Returns:
        The data set, and the bad records that it is without.

    Raises:
        FileNotFoundError: the data set is not prepared, or one of its files is missing.
        ValueError: TFDS knows no such data set or split; its files are not of ArrayRecord; it has
            no images, boxes or classes; it has no usable image, or strict and a record is bad.
    """
    folder = Path(data_dir or DATA_DIR).expanduser().resolve()
    builder = _find(name, folder)
    place = Path(builder.data_dir)
    layout = find_layout(place, builder.info.features)
    if split is None:
        if len(builder.info.splits) != 1:
            raise ValueError(f"{place} has the splits {sorted(builder.info.splits)}; name one")
        (split,) = builder.info.splits
    source = _open(builder, name, split, layout.image)
    problems: list[Problem] = []
    records: dict[int, int] = {}
    kept = list(_annotations(source, layout, place / split, records, problems))
    report(problems, strict=strict)
    if not kept:
        raise ValueError(f"{place} has no usable image in split {split!r}, of {len(source)}")
    columns = Columns.of(kept, place)
    read = _Images(columns, source, layout.image, np.asarray(list(records.values())))
    return Dataset(columns, layout.class_names, place, read), tuple(problems)


def tfds_splits(name: str) -> list[str]:
    """Returns the splits of a prepared data set, sorted; it is sought where `read_tfds` does.

    Raises:
        FileNotFoundError: the data set is not prepared.
        ValueError: TFDS knows no such data set.
    """
    return sorted(_find(name, Path(DATA_DIR).expanduser().resolve()).info.splits)


class _Images:
    """Reads the encoded image of an annotation; goes to another process as names of files.

    Args:
        columns: the annotations.
        source: the records of TFDS.
        feature: that is the image.
        records: which record each annotation is of.
    """

    def __init__(
        self, columns: Columns, source: _Records, feature: str, records: Int[np.ndarray, "n"]
    ) -> None:
        self._columns, self._source = columns, source
        self._feature, self._records = feature, records

    def __call__(self, annotation: Annotation) -> bytes:
        """Returns the image as TFDS keeps it.

        Raises:
            ImageError: its record is damaged, or its file has gone.
            ValueError: the data set has no such image.
        """
        record = int(self._records[self._columns.row_of(annotation.image_id)])
        try:
            return self._source[record][self._feature]
        except _DAMAGED as error:
            raise ImageError(f"{annotation.path} cannot be read: {error}") from error


def _command(name: str, folder: Path) -> str:
    return (
        f"prepare it by `tfds build {name} --file_format={_ARRAY_RECORD} --data_dir={folder}` on a "
        "machine with TensorFlow, which reading does not need"
    )


def _find(name: str, folder: Path) -> tfds.core.DatasetBuilder:
    """Opens a prepared data set by its files: the code of some builders imports TensorFlow."""
    try:
        return builder_from_files(name, data_dir=folder)
    except tfds.core.DatasetNotFoundError as error:
        base = name.split("/")[0].split(":")[0]
        known = tfds.list_builders(with_community_datasets=False)
        prepared = [
            str(path.parent.relative_to(folder)) for path in folder.glob(f"{base}/**/features.json")
        ]
        if base not in known and not prepared:
            near = get_close_matches(base, known, 3)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise ValueError(f"TFDS has no data set {base!r}, nor has {folder}{hint}") from error
        found = f" (there are {sorted(prepared)})" if prepared else ""
        raise FileNotFoundError(
            f"{name} is not prepared in {folder}{found}: {_command(name, folder)}"
        ) from error
    except (ValueError, KeyError, ParseError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{name!r} cannot be opened as a data set of TFDS: {reason}") from error


def _open(builder: Any, name: str, split: str, image: str) -> _Records:
    """Returns the records of a split, whose images stay encoded."""
    place = builder.data_dir
    formats = sorted(kind.value for kind in builder.info.available_file_formats())
    if _ARRAY_RECORD not in formats:
        raise ValueError(
            f"{place} has files of {formats}, which have no random access; delete it and "
            + _command(name, Path(place).parents[len(builder.info.full_name.split("/")) - 1])
        )
    try:
        source = builder.as_data_source(
            split, decoders={image: tfds.decode.SkipDecoding()}, file_format=_ARRAY_RECORD
        )
        parts = builder.info.splits[split].file_instructions
        files = [(Path(part.filename), part.examples_in_shard) for part in parts]
        len(source)  # of a slice that ends before it starts TFDS says so only here
    except ValueError as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"{place} has no split {split!r} with images ({reason}); its splits are "
            f"{sorted(builder.info.splits)}"
        ) from error
    for path, records in files:
        open_shard(path, records).close()  # TFDS does not look before it reads
    return source


def _annotations(
    source: _Records,
    layout: Layout,
    place: Path,
    records: dict[int, int],
    problems: list[Problem],
) -> Iterator[Annotation]:
    """Yields the annotations of the usable records, and notes the number of each by image id."""
    for number in range(len(source)):
        name = f"record {number}"
        try:
            record = source[number]
            if layout.file_name:
                name += f" ({_text(record[layout.file_name])})"
            image_id = int(record[IMAGE_ID]) if layout.has_id else number
            size = _size(record[layout.image])
            boxes = _boxes(record[layout.objects], layout, size, (place, name), problems)
        except _DAMAGED as error:
            reason = f"{error}; skipped"
            problems.append(Problem(place, name, reason, Kind.UNREADABLE, loses_image=True))
            continue
        if not 0 <= image_id <= _LARGEST_ID or image_id in records:
            reason = f"its {IMAGE_ID} is {image_id}: not of 31 bits, or given twice; skipped"
            problems.append(Problem(place, name, reason, loses_image=True))
            continue
        records[image_id] = number
        path = place.with_name(f"{place.name}#{name.removeprefix('record ')}")
        yield make_annotation(image_id, path, size, boxes)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace").replace("/", "_").replace("\0", "_")


def _size(encoded: bytes) -> tuple[int, int]:
    """Returns (width, height) by an image's header, px.

    Raises:
        ValueError: there is no header to read, or it says to turn the image.
    """
    try:
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            # Of a file that has none before the pixels, Pillow would decode them to look behind.
            turn = image.getexif().get(ExifTags.Base.Orientation) if "exif" in image.info else 1
            size = image.size
    except (OSError, SyntaxError, ValueError, RuntimeError, EOFError, struct.error) as error:
        # Pillow raises each of these on damaged files.
        raise ValueError(f"its image cannot be read: {error}") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"its image has too many pixels: {error}") from error
    if turn not in (None, 0, 1):
        raise ValueError(
            f"its image is to be turned (EXIF orientation {turn}), while TFDS has its boxes on the "
            "image as it is stored"
        )
    return size


def _boxes(
    objects: dict[str, Any],
    layout: Layout,
    size: tuple[int, int],
    place: tuple[Path, str],
    problems: list[Problem],
) -> list[Box]:
    """Returns the usable boxes of an image of `size` (width, height) px."""
    yxyx = np.asarray(objects[layout.bbox], np.float64).reshape(-1, 4)
    labels = np.asarray(objects[layout.label], np.int64)
    crowd = np.zeros(len(yxyx), bool)
    for key in layout.crowd:
        crowd |= np.asarray(objects[key], bool)
    xyxy = yxyx[:, [1, 0, 3, 2]] * [*size, *size]
    placed = list(xyxy.astype(np.float32))
    # Few boxes are unsound, and a look at each by itself would take longer than to read them all.
    sound = ((yxyx >= 0) & (yxyx <= 1)).all(1) & (labels >= 0) & (labels < len(layout.class_names))
    sound &= (xyxy[:, 2:] - xyxy[:, :2] > _SURE_PX).all(1)
    for number in np.flatnonzero(~sound).tolist():
        row, label = np.round(yxyx[number], 4).tolist(), labels[number]
        shown = f"its box {number} (ymin, xmin, ymax, xmax = {row})"
        placed[number] = None
        if not np.isfinite(row).all():
            fault = Fault(f"{shown} is not of finite numbers; skipped")
        elif not 0 <= label < len(layout.class_names):
            reason = f"{shown} is of class {label}, which has no name; skipped"
            fault = Fault(reason, Kind.UNKNOWN_CLASS)
        else:
            placed[number], fault = place_box(xyxy[number], *size, shown)
        if fault:
            problems.append(Problem(*place, *fault))
    columns = zip(yxyx.tolist(), placed, labels.tolist(), crowd.tolist(), strict=True)
    boxes = [
        Box(f"box {number}", tuple(row), box, label, flag)
        for number, (row, box, label, flag) in enumerate(columns)
        if box is not None
    ]
    kept, doubles = without_doubles(boxes)
    problems += [Problem(*place, *double) for double in doubles]
    return kept
