"""Detection in files and streams: what is found goes to drawings, records and the terminal."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from yolo_jax.data.images import ImageError
from yolo_jax.detection.nms import Suppression
from yolo_jax.inference.drawings import Drawings, drawing_name
from yolo_jax.inference.records import (
    Record,
    labels_name,
    record_of,
    write_coco_json,
    write_csv,
    write_json,
    write_yolo,
)
from yolo_jax.inference.sources import Frame, frames, is_address, is_camera, is_video
from yolo_jax.inference.yolo import YOLO


@dataclass(frozen=True)
class Outputs:
    """Where what is found goes; None is nowhere.

    Attributes:
        drawings: folder of drawn images and videos.
        json: file of detections by image.
        csv: file of a row for each object.
        coco: file of a COCO data set.
        labels: folder of YOLO's labels.
    """

    drawings: Path | None = None
    json: Path | None = None
    csv: Path | None = None
    coco: Path | None = None
    labels: Path | None = None

    @property
    def has_records(self) -> bool:
        """Tells whether anything but drawings is written."""
        return any(place is not None for place in (self.json, self.csv, self.coco, self.labels))

    def prepare(self, sources: Sequence[str]) -> None:
        """Says what is wrong with the places before the work, and makes the folders.

        Raises:
            ValueError: two files would have one place, or one that of a source.
            IsADirectoryError: a file is a folder.
            OSError: a folder cannot be made.
        """
        places, folders = [], []
        for option, path in (("json", self.json), ("csv", self.csv), ("coco", self.coco)):
            if path is not None and path.is_dir():
                raise IsADirectoryError(f"--{option} {path} is a folder; name a file")
            if path is not None:
                places.append((path, f"--{option}"))
                folders.append(path.parent)
        if self.labels is not None:
            for source in sources:
                name = labels_name(source, 0 if is_video(source) else None)
                places.append((self.labels / name, f"{source} in --txt"))
            folders.append(self.labels)
        if self.drawings is not None:
            places += [(self.drawings / drawing_name(one), f"{one} in --out") for one in sources]
            folders.append(self.drawings)
        _check_places(places, sources)
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)

    def write(self, records: Sequence[Record], class_names: Sequence[str]) -> None:
        """Writes everything but the drawings."""
        if self.json is not None:
            write_json(self.json, records, class_names)
        if self.csv is not None:
            write_csv(self.csv, records, class_names)
        if self.coco is not None:
            write_coco_json(self.coco, records, class_names)
        if self.labels is not None:
            write_yolo(self.labels, records)


def detect_sources(
    model: YOLO,
    sources: Sequence[str],
    outputs: Outputs,
    *,
    suppression: Suppression,
    augment: bool = False,
    batch_size: int | None = None,
) -> None:
    """Detects in images, videos and cameras; prints a line for each image or frame.

    What was found until it is interrupted is written too.

    Args:
        model: that looks.
        sources: as `expand` returned them, which `outputs` is prepared for.
        outputs: where what is found goes.
        suppression: what becomes of boxes that overlap.
        augment: look at each frame three times.
        batch_size: frames that are looked at at once; None: by the device, and of a camera one.

    Raises:
        ValueError: when all others are done, of those that are not there or cannot be read.
        OSError: a result cannot be written.
    """
    if batch_size is None and any(map(is_camera, sources)):
        batch_size = 1
    total = None if any(map(is_video, sources)) else len(sources)
    faults: list[str] = []
    records: list[Record] = []
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: outputs.write(records, model.class_names))
        drawings = outputs.drawings and stack.enter_context(Drawings(outputs.drawings))
        bar = stack.enter_context(tqdm(total=total, unit=" images", disable=None, leave=False))
        seen = _frames(sources, faults)
        for found in model.stream(seen, suppression, augment=augment, batch_size=batch_size):
            number = "" if found.frame is None else f" frame {found.frame}"
            tqdm.write(f"{found.name}{number}: {found.text()}")
            bar.update()
            if outputs.has_records:  # lest days of a camera fill the memory for nothing
                records.append(record_of(found))
            if drawings:
                drawings.add(found)
    if faults:
        raise ValueError("\n".join(faults))  # the others are done


def _check_places(places: Sequence[tuple[Path, str]], sources: Sequence[str]) -> None:
    """Checks that no file takes another's place, or a source's.

    Args:
        places: where files go, and what each is, in words.
        sources: that are looked at.

    Raises:
        ValueError: one would.
    """
    files = {Path(source).resolve() for source in sources if not is_address(source)}
    taken: dict[Path, str] = {}
    for path, what in places:
        place = path.resolve()
        if place in taken:
            raise ValueError(
                f"{taken[place]} and {what} would both be written to {path}: name other places, or "
                "write them by two commands"
            )
        if place in files:
            raise ValueError(f"{what} would be written over {path} itself; name another place")
        taken[place] = what


def _frames(sources: Sequence[str], faults: list[str]) -> Iterator[Frame]:
    """Yields the frames of all sources; what is wrong with one goes to the list."""
    for source in sources:
        try:
            yield from frames(source)
        except FileNotFoundError:
            faults.append(f"there is no file {source}")
        except ImageError as error:
            faults.append(str(error))
