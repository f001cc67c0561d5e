"""Detection in files and streams: what is found goes to drawings, records and the terminal."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from yolo_jax.data.images import ImageError
from yolo_jax.detection.nms import Suppression
from yolo_jax.inference.drawings import Drawings, check_places
from yolo_jax.inference.records import (
    Record,
    record_of,
    write_coco_json,
    write_csv,
    write_json,
    write_yolo,
)
from yolo_jax.inference.sources import Frame, frames, is_camera
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

    def prepare(self, sources: Sequence[str]) -> None:
        """Says what is wrong with the places before the work, and makes the folders.

        Raises:
            ValueError: two drawings would have one place, or one that of its source.
            OSError: a folder cannot be made, or a file is a folder.
        """
        for option, path in (("json", self.json), ("csv", self.csv), ("coco", self.coco)):
            if path is not None and path.is_dir():
                raise IsADirectoryError(f"--{option} {path} is a folder; name a file")
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
        if self.labels is not None:
            self.labels.mkdir(parents=True, exist_ok=True)
        if self.drawings is not None:
            check_places(self.drawings, sources)
            self.drawings.mkdir(parents=True, exist_ok=True)

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
    faults: list[str] = []
    records: list[Record] = []
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: outputs.write(records, model.class_names))
        drawings = outputs.drawings and stack.enter_context(Drawings(outputs.drawings))
        bar = stack.enter_context(tqdm(unit=" images", disable=None, leave=False))
        seen = _frames(sources, faults)
        for found in model.stream(seen, suppression, augment=augment, batch_size=batch_size):
            number = "" if found.frame is None else f" frame {found.frame}"
            tqdm.write(f"{found.name}{number}: {found.text()}")
            bar.update()
            records.append(record_of(found))
            if drawings:
                drawings.add(found)
    if faults:
        raise ValueError("\n".join(faults))  # the others are done


def _frames(sources: Sequence[str], faults: list[str]) -> Iterator[Frame]:
    """Yields the frames of all sources; what is wrong with one goes to the list."""
    for source in sources:
        try:
            yield from frames(source)
        except FileNotFoundError:
            faults.append(f"there is no file {source}")
        except ImageError as error:
            faults.append(str(error))
