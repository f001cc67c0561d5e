"""Trained networks opened: run folders, Darknet's files, with a .cfg or not, other programs'."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from yolo_jax.core.anchors import TINY_DARKNET, AnchorSet
from yolo_jax.core.numbers import whole_number
from yolo_jax.data.readers.records import read_class_names
from yolo_jax.detection.detector import Detector, Resize
from yolo_jax.detection.nms import Suppression
from yolo_jax.inference.foreign import assign, is_foreign, read_layers
from yolo_jax.inference.yolo import YOLO
from yolo_jax.networks.cfg.network import CfgNetwork, empty_cfg_network, load_cfg_network
from yolo_jax.networks.darknet import load_weights, read_floats
from yolo_jax.networks.pretrained import COCO_CLASSES, SIZE, fetch_pretrained
from yolo_jax.networks.yolov3 import NETWORKS, Network, create_network
from yolo_jax.run_folder import RunFolder

_COCO_INPUT = (416, 416)
_ANCHORS = 3  # of a scale
# By which other programs' files are told apart: tiny's convolutions, YOLOv3's, and with SPP.
_KINDS = {13: "tiny", 75: "yolov3", 76: "yolov3_spp"}
# By which Darknet's files are: floats of no class, and those that each class adds.
_FLOATS = {
    "yolov3_spp": (62_621_581, 5_385),
    "yolov3": (61_570_957, 5_385),
    "tiny": (8_673_934, 2_310),
}
_MOST_SIDE = 2**14  # px, as of a run's; what is larger ends in want of memory


class Trained(NamedTuple):
    """A trained network, with what it takes to read its outputs.

    Attributes:
        network: itself.
        anchors: of the network.
        class_names: name of each class index.
        input_shape: (height, width), px.
    """

    network: Network | CfgNetwork
    anchors: AnchorSet
    class_names: Sequence[str]
    input_shape: tuple[int, int]


def load(
    weights: str | Path,
    *,
    cfg: str | Path | None = None,
    names: str | Path | None = None,
    input_size: int | None = None,
    letterbox: Resize | None = None,
    darknet: bool = False,
) -> YOLO:
    """Opens a trained network to show it images.

    `yolo_jax.load("yolov3-tiny").detect("photo.jpg")[0].plot()` is a picture of what is seen.

    Args:
        weights: a run folder; a `.weights` file of YOLOv3, YOLOv3-SPP or YOLOv3-tiny,
            keras-yolo3's `.h5` or a PyTorch state dict as `.safetensors`, of these too or of any
            network with its `cfg`; or the text `yolov3-tiny` for the official weights.
        cfg: Darknet's file of what the network is.
        names: a text file of class names, one a line; None: the run's, or COCO's for 80 classes,
            else `class 0` and so on. A run has names of its own.
        input_size: side of the network's input, px; None: the run's, the cfg's, or 416.
        letterbox: how images are fitted into it: `opencv` (as in training), `pillow` (as
            keras-yolo3 does), `darknet`; None: `opencv`, or `darknet` with `darknet`.
        darknet: do as the darknet program does: its letterbox, its reading of tiny's anchors.

    Raises:
        ValueError: the folder has no finished run, a file is damaged, not supported or of another
            network, the names are not as many as the classes, or no such input can be.
        FileNotFoundError: there is no such file or folder.
    """
    detector = open_detector(
        weights, cfg=cfg, names=names, input_size=input_size, letterbox=letterbox, darknet=darknet
    )
    return YOLO(detector)


def open_detector(
    weights: str | Path,
    *,
    cfg: str | Path | None = None,
    names: str | Path | None = None,
    input_size: int | None = None,
    letterbox: Resize | None = None,
    darknet: bool = False,
    suppression: Suppression | None = None,
) -> Detector:
    """Returns the detector of a trained network; see `load`."""
    trained = open_network(weights, cfg=cfg, names=names, input_size=input_size, darknet=darknet)
    resize = letterbox or ("darknet" if darknet else "opencv")
    return Detector(*trained, resize=resize, suppression=suppression)


def open_network(
    weights: str | Path,
    *,
    cfg: str | Path | None = None,
    names: str | Path | None = None,
    input_size: int | None = None,
    darknet: bool = False,
) -> Trained:
    """Returns a trained network, and what it takes to read its outputs; see `load`.

    Raises:
        ValueError: the folder has no finished run, a file is damaged, not supported or of another
            network, the names are not as many as the classes, or no such input can be.
        FileNotFoundError: there is no such file or folder.
    """
    given = None if names is None else read_class_names(names)
    path = fetch_pretrained() if str(weights) == "yolov3-tiny" else Path(weights)
    if path.is_dir():
        for option, value in (("cfg", cfg), ("names", names)):
            if value is not None:
                raise ValueError(
                    f"{option} {value} is for weights files; the run {path} has its own"
                )
        trained = _of_run(path)
    elif not path.is_file():
        raise FileNotFoundError(f"there is no run folder or weights file {path}")
    elif cfg is not None:
        trained = _of_cfg(Path(cfg), path)
    elif is_foreign(path):
        trained = _of_other_program(path)
    else:
        trained = _of_darknet(path, len(given or COCO_CLASSES), darknet=darknet)
    count = trained.network.num_classes
    if given is not None and len(given) != count:
        raise ValueError(
            f"{names} has {len(given)} class names, and the network has {count} classes"
        )
    class_names = trained.class_names or given or _usual_names(count)
    if input_size is None:
        return trained._replace(class_names=class_names)
    side, stride = whole_number("input_size", input_size, 1), max(trained.anchors.strides)
    if side % stride:
        raise ValueError(f"the input's size is a multiple of {stride} px; found {side}")
    if side > _MOST_SIDE:
        raise ValueError(f"the input's size is {_MOST_SIDE} px at most; found {side}")
    return trained._replace(class_names=class_names, input_shape=(side, side))


def _of_run(path: Path) -> Trained:
    run = RunFolder(path)
    if not run.weights.is_file():
        raise ValueError(f"{path} holds no finished run: it lacks {run.weights.name}")
    config, names = run.config(), run.class_names()
    network = create_network(config.network.kind, len(names))
    load_weights(run.weights, network)
    side = config.network.input_size
    return Trained(network, run.anchors(config.network.kind), names, (side, side))


def _of_cfg(cfg: Path, path: Path) -> Trained:
    if is_foreign(path):
        network = empty_cfg_network(cfg)
        assign(read_layers(path), network, path)
    else:
        network = load_cfg_network(cfg, path)
    return Trained(network, network.anchors, (), network.input_shape)


def _of_darknet(path: Path, likely_classes: int, *, darknet: bool) -> Trained:
    """Opens a `.weights` file by its size, which tells the network and its classes."""
    count = len(read_floats(path)[1])
    # Of a size that is no network's, reading it as the likely one says where it ends.
    found = ("tiny" if path.stat().st_size <= SIZE else "yolov3", likely_classes)
    for kind, (fixed, of_class) in _FLOATS.items():
        if count > fixed and not (count - fixed) % of_class:
            found = (kind, (count - fixed) // of_class)
            break
    kind, classes = found
    # That program's reading of the anchors is for weights of its own, not for runs of this one.
    anchors = TINY_DARKNET if darknet and kind == "tiny" else NETWORKS[kind][1]
    network = create_network(kind, classes)
    load_weights(path, network)
    return Trained(network, anchors, (), _COCO_INPUT)


def _of_other_program(path: Path) -> Trained:
    layers = read_layers(path)
    count = len(layers.convolutions)
    if count not in _KINDS:
        raise ValueError(
            f"{path} has {count} convolutions; expected 13 of YOLOv3-tiny, 75 of YOLOv3 or 76 of "
            "YOLOv3 with SPP"
        )
    kind = _KINDS[count]
    name, (kernel, *_) = layers.convolutions[-1]
    classes, rest = divmod(kernel.shape[-1], _ANCHORS)
    if rest or classes < 6:
        raise ValueError(
            f"{path}: {name}, the last convolution, has {kernel.shape[-1]} filters; expected "
            f"{_ANCHORS} · (5 + classes)"
        )
    network = create_network(kind, classes - 5)
    assign(layers, network, path)
    return Trained(network, NETWORKS[kind][1], (), _COCO_INPUT)


def _usual_names(count: int) -> Sequence[str]:
    """Returns COCO's names of its number of classes, and of others what counts them."""
    numbered = tuple(f"class {index}" for index in range(count))
    return COCO_CLASSES if count == len(COCO_CLASSES) else numbered
