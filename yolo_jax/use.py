"""A trained network put to use: opened, and shown images, videos and cameras."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from yolo_jax.core.anchors import TINY_DARKNET, AnchorSet
from yolo_jax.data.images import ImageError
from yolo_jax.detection.detector import Detector, Resize
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
from yolo_jax.networks.darknet import load_weights
from yolo_jax.networks.pretrained import COCO_CLASSES, SIZE, fetch_pretrained
from yolo_jax.networks.yolov3 import NETWORKS, Network, create_network
from yolo_jax.run_folder import RunFolder

_COCO_INPUT = 416
_STRIDE = 32  # of the coarsest scale


def load(
    weights: str | Path,
    *,
    input_size: int | None = None,
    letterbox: Resize | None = None,
    darknet: bool = False,
) -> YOLO:
    """Opens a trained network to show it images.

    `yolo_jax.load("yolov3-tiny").detect("photo.jpg")[0].plot()` is a picture of what is seen.

    Args:
        weights: a run folder, a `.weights` file of YOLOv3 or YOLOv3-tiny on COCO, or the text
            `yolov3-tiny` for the official weights.
        input_size: side of the network's input, px; None: the run's, or 416.
        letterbox: how images are fitted into it: `opencv` (as in training), `pillow` (as
            keras-yolo3 does), `darknet`; None: `opencv`, or `darknet` with `darknet`.
        darknet: do as the darknet program does: its letterbox, its reading of the anchors.

    Raises:
        ValueError: the folder has no finished run, or the file does not fit the network, or the
            size is no multiple of 32.
        FileNotFoundError: there is no such file or folder.
    """
    return YOLO(
        open_detector(str(weights), input_size=input_size, letterbox=letterbox, darknet=darknet)
    )


def open_detector(
    weights: str,
    *,
    input_size: int | None = None,
    letterbox: Resize | None = None,
    darknet: bool = False,
    suppression: Suppression | None = None,
) -> Detector:
    """Returns the detector of a run folder, a COCO weights file, or `yolov3-tiny`; see `load`.

    Raises:
        ValueError: the folder has no finished run, or the file does not fit the network, or the
            size is no multiple of 32.
        FileNotFoundError: there is no such file or folder.
    """
    resize = letterbox or ("darknet" if darknet else "opencv")
    trained = open_network(weights, input_size=input_size, darknet=darknet)
    return Detector(*trained, resize=resize, suppression=suppression)


class Trained(NamedTuple):
    """A trained network, with what it takes to read its outputs.

    Attributes:
        network: with its weights.
        anchors: of the network.
        class_names: name of each class index.
        input_shape: (height, width) of the network's input, px.
    """

    network: Network
    anchors: AnchorSet
    class_names: Sequence[str]
    input_shape: tuple[int, int]


def open_network(weights: str, *, input_size: int | None = None, darknet: bool = False) -> Trained:
    """Returns the network of a run folder, a COCO weights file, or `yolov3-tiny`; see `load`.

    Raises:
        ValueError: the folder has no finished run, or the file does not fit the network, or the
            size is no multiple of 32.
        FileNotFoundError: there is no such file or folder.
    """
    if input_size is not None and (input_size < _STRIDE or input_size % _STRIDE):
        raise ValueError(f"the input's size is a multiple of {_STRIDE} px; found {input_size}")
    path = fetch_pretrained() if weights == "yolov3-tiny" else Path(weights)
    names, side, anchors = COCO_CLASSES, _COCO_INPUT, None
    if path.is_dir():
        run = RunFolder(path)
        if not run.weights.is_file():
            raise ValueError(f"{path} holds no finished run: it lacks {run.weights.name}")
        config, names = run.config(), run.class_names()
        side, kind = config.network.input_size, config.network.kind
        anchors = run.anchors(kind)
        path = run.weights
    elif not path.is_file():
        raise FileNotFoundError(f"there is no run folder or weights file {path}")
    else:
        kind = "tiny" if path.stat().st_size <= SIZE else "yolov3"
    network = create_network(kind, len(names))
    load_weights(path, network)
    # That program's reading of the anchors is for weights of its own, not for runs of this one.
    if anchors is None:
        anchors = TINY_DARKNET if darknet and kind == "tiny" else NETWORKS[kind][1]
    side = input_size or side
    return Trained(network, anchors, names, (side, side))


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
