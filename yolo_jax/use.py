"""Detection from the command line: a run or a weights file, image files, drawings and JSON."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from yolo_jax.core.anchors import TINY_DARKNET
from yolo_jax.data.images import ImageError, read_image
from yolo_jax.data.readers.records import read_class_names
from yolo_jax.detection.detector import Detector
from yolo_jax.inference.detect import drawing_name, write_images, write_json
from yolo_jax.networks.cfg.network import load_cfg_network
from yolo_jax.networks.darknet import load_weights
from yolo_jax.networks.pretrained import COCO_CLASSES, SIZE, fetch_pretrained
from yolo_jax.networks.yolov3 import NETWORKS, create_network
from yolo_jax.run_folder import RunFolder

_COCO_INPUT = 416


def open_detector(
    weights: str, *, score_threshold: float, iou_threshold: float, darknet: bool = False
) -> Detector:
    """Returns the detector of a run folder, of a COCO weights file, or of `yolov3-tiny`.

    Raises:
        ValueError: the folder has no finished run, or the file does not fit the network.
        FileNotFoundError: there is no such file or folder.
    """
    path = fetch_pretrained() if weights == "yolov3-tiny" else Path(weights)
    names, side, anchors = COCO_CLASSES, _COCO_INPUT, None
    is_run = path.is_dir()
    if is_run:
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
    return Detector(
        network,
        anchors,
        names,
        (side, side),
        darknet=darknet,
        score_threshold=score_threshold,
        iou_threshold=iou_threshold,
    )


def open_cfg_detector(
    weights: str,
    cfg: Path,
    names: Path | None,
    *,
    score_threshold: float,
    iou_threshold: float,
    darknet: bool = False,
) -> Detector:
    """Returns the detector of a weights file and the `.cfg` that it was trained with.

    Args:
        weights: a `.weights` file, or `yolov3-tiny`.
        cfg: what the network is, with its input size and anchors.
        names: a text file of class names, one a line; None: COCO's for 80 classes, else `class 0`
            and so on.
        score_threshold: detections score more than this.
        iou_threshold: overlap above which the lower score of a class goes.
        darknet: letterbox as the darknet program does.

    Raises:
        ValueError: a file is damaged or not supported, or they do not fit each other.
        FileNotFoundError: there is no such file.
    """
    path = fetch_pretrained() if weights == "yolov3-tiny" else Path(weights)
    given = None if names is None else read_class_names(names)
    network = load_cfg_network(cfg, path)
    count = network.num_classes
    if given is not None and len(given) != count:
        raise ValueError(
            f"{names} has {len(given)} class names, and the network of {cfg} has {count} classes"
        )
    if given is None:
        numbered = tuple(f"class {index}" for index in range(count))
        given = COCO_CLASSES if count == len(COCO_CLASSES) else numbered
    return Detector(
        network,
        network.anchors,
        given,
        network.input_shape,
        darknet=darknet,
        score_threshold=score_threshold,
        iou_threshold=iou_threshold,
    )


def detect_files(
    weights: str,
    paths: Sequence[Path],
    *,
    cfg: Path | None = None,
    names: Path | None = None,
    out: Path | None,
    json_file: Path | None,
    score_threshold: float,
    iou_threshold: float,
    darknet: bool,
) -> None:
    """Detects in image files; writes JSON and drawings where asked for, and prints a line each.

    With `cfg` the weights are read as `open_cfg_detector` does, else as `open_detector`.

    Raises:
        ValueError: there are names without a cfg; two images would be drawn to one name, or one
            onto itself; or, when all others are done, an image is not there or cannot be read.
        OSError: a result cannot be written.
    """
    if names is not None and cfg is None:
        raise ValueError("--names goes with --cfg; without it the weights' own classes are used")
    # What can be wrong with the results' places is said before the work.
    if out is not None:
        drawings = [(out / drawing_name(path)).resolve() for path in paths]
        if len(set(drawings)) < len(paths):
            raise ValueError("two of the images have one file name; --out would lose one of them")
        for path in paths:
            if path.resolve() in drawings:
                raise ValueError(f"--out {out} would draw over {path} itself; name another folder")
        out.mkdir(parents=True, exist_ok=True)
    if json_file is not None:
        if json_file.is_dir():
            raise IsADirectoryError(f"--json {json_file} is a folder; name a file")
        json_file.parent.mkdir(parents=True, exist_ok=True)
    open_it = open_detector if cfg is None else partial(open_cfg_detector, cfg=cfg, names=names)
    detector = open_it(
        weights, score_threshold=score_threshold, iou_threshold=iou_threshold, darknet=darknet
    )
    images, faults = {}, []
    for path in paths:
        try:
            images[path] = read_image(path)
        except FileNotFoundError:
            faults.append(f"there is no image {path}")
        except ImageError as error:
            faults.append(str(error))
    found = detector.detect(list(images.values()))
    files = [str(path) for path in images]
    for name, detections in zip(files, found, strict=True):
        pairs = zip(detections.classes, detections.scores, strict=True)
        shown = ", ".join(f"{detector.class_names[i]} {score:.2f}" for i, score in pairs)
        print(f"{name}: {shown or 'nothing'}")
    if json_file is not None:
        write_json(json_file, files, found, detector.class_names)
    if out is not None:
        write_images(out, list(images), list(images.values()), found, detector.class_names)
    if faults:
        raise ValueError("\n".join(faults))  # the others are done
