"""What a run keeps, what a command line says, and what is sent to the server."""

import asyncio
import contextlib
import functools
import io
import json
from pathlib import Path

import jax.numpy as jnp
from data_targets import network
from places import Target, picture, place, refusing
from starlette.types import ASGIApp

from yolo_jax.config import DataConfig, ExperimentConfig
from yolo_jax.config.files import with_overrides
from yolo_jax.config.flat import flatten, with_changes
from yolo_jax.core.anchors import TINY
from yolo_jax.core.fields import check_fields
from yolo_jax.detection.detector import Detector
from yolo_jax.detection.nms import Suppression
from yolo_jax.inference.yolo import YOLO
from yolo_jax.report.details import DETAILS, EXAMPLES, read_details
from yolo_jax.report.runs import HISTORY, SPEED, read_run
from yolo_jax.report.warned import WARNINGS, read_warnings
from yolo_jax.run_folder import RunFolder
from yolo_jax.serve.api import Service
from yolo_jax.serve.limits import Limits
from yolo_jax.training.checkpoint import Checkpoints
from yolo_jax.training.checksums import verify, write_checksums

CONFIG = ExperimentConfig("run", DataConfig(Path("a.json"), cache="ram"), epochs=3)
STATE = {"kernel": jnp.arange(40.0).reshape(4, 10), "bias": jnp.ones(3)}
LIMITS = Limits(body=100_000, pixels=10_000)
EXAMPLE = {"name": "a", "source": "", "f1": 0.5, "true": 3, "found": 2, "right": 1}
CURVE = [1.0, 0.5, None]
FIGURES = {"AP": 0.1, "AP50": 0.4, "AP75": None, "per_class": {"ash": {"AP": 0.1, "AP50": None}}}
FAILURE = "failure.json"
RUN = {
    "config.json": flatten(CONFIG),
    "classes.json": ["ash", "oak"],
    "anchors.json": {"sizes": TINY.sizes, "masks": TINY.masks},
    "metrics.json": FIGURES | {"sources": {"here": FIGURES}, "epochs": 2, "skipped": {"x": "y"}},
    DETAILS: {
        "threshold": 0.3,
        "iou": 0.5,
        "recall_step": 0.02,
        "precision": {"all": CURVE, "sources": {"here": CURVE}, "classes": {"ash": CURVE}},
        "confusion": [[5, 1, 2], [0, 4, 1], [3, 0, 0]],
        "worst": [EXAMPLE | {"picture": f"{EXAMPLES}/worst_1.jpg"}],
        "best": [EXAMPLE | {"picture": f"{EXAMPLES}/worst_1.jpg"}],
    },
    WARNINGS: [{"kind": "warning", "text": "of old age", "count": 2}],
    FAILURE: {"kind": "crashed", "message": "it did", "status": 1},
}
TABLES = {
    HISTORY: b"epoch,loss,val_loss,val_AP50\n0,2.0,0.7,NA\n1,1.0,0.6,0.4\n",
    SPEED: b"epoch,seconds,images_per_second,input_wait\n0,2.5,10,0.01\n1,2.5,11,0.01\n",
}


@functools.cache
def run_folder(*, has_config: bool) -> RunFolder:
    """Returns the folder of a run, whole but perhaps for its config, which takes long to read."""
    folder = place("run" if has_config else "part")
    for name, content in run_files().items():
        if has_config or name != "config.json":
            (folder / name).write_bytes(content)
    run = RunFolder(folder)
    run.failure_file.symlink_to(folder / FAILURE)  # which lies beside the folder
    (folder / EXAMPLES).mkdir()
    (folder / EXAMPLES / "worst_1.jpg").write_bytes(picture("JPEG"))
    return run


@functools.cache
def run_files() -> dict[str, bytes]:
    """Returns the files of a whole run."""
    return TABLES | {name: json.dumps(content, indent=1).encode() for name, content in RUN.items()}


def run_file(name: str, data: bytes) -> None:
    """Reads a file of a run, by itself and with all others as a report does."""
    run = run_folder(has_config=name == "config.json")
    path = run.path / name
    path.write_bytes(data)
    try:
        with refusing(path.name):
            match name:
                case "config.json":
                    flatten(run.config())
                case "classes.json":
                    assert all(isinstance(one, str) for one in run.class_names())
                case "anchors.json":
                    run.anchors("tiny")
                case "metrics.json":
                    run.figures()
                case "history.csv":
                    run.history()
                case "held_out.json":
                    read_details(run.path)
                case "warnings.json":
                    read_warnings(path)
                case "failure.json":
                    run.failure()
        read = read_run(run.path, "run")
        assert read.state
        assert read.progress
    finally:
        path.write_bytes(run_files()[name])


@functools.cache
def checkpoint_folder() -> Path:
    """Returns a folder of one checkpoint."""
    folder = place("checkpoints") / "kept"
    checkpoints = Checkpoints(folder, monitor=None)
    checkpoints.save(1, STATE, {"epoch": 1, "callbacks": {"A": {"best": 0.5}}}, {})
    checkpoints.close()
    return folder


def checksums(data: bytes) -> None:
    path = checkpoint_folder() / "1" / "checksums.json"
    whole = path.read_bytes()
    path.write_bytes(data)
    try:
        with refusing(""):  # it is told of the folder by who asks
            verify(path.parent)
    finally:
        path.write_bytes(whole)


def checkpoint(name: str, data: bytes) -> None:
    """Restores a checkpoint whose checksums are those of what somebody made of it."""
    folder = checkpoint_folder()
    path = folder / "1" / name
    whole = path.read_bytes()
    path.write_bytes(data)
    write_checksums(folder / "1")
    try:
        with refusing(folder.name):
            checkpoints = Checkpoints(folder, monitor=None, read_only=True)
            try:
                checkpoints.restore(STATE)
            finally:
                checkpoints.close()
    finally:
        path.write_bytes(whole)
        write_checksums(folder / "1")


def overrides(data: bytes) -> None:
    """Reads the words of a command line, a line each."""
    words = data.decode(errors="surrogateescape").split("\n")
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            check_fields(with_overrides(CONFIG, words, "yolo-jax train"))
        except ValueError as error:
            assert str(error)
        except SystemExit as error:
            assert said.getvalue() or error.code == 0


def changes(data: bytes) -> None:
    """Reads fields of a trial as JSON."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(content, dict):
        with refusing(""):
            with_changes(CONFIG, content)


@functools.cache
def application() -> ASGIApp:
    """Returns the server's application, of a network of a few weights that finds something."""
    detector = Detector(network(), network().anchors, ("ash", "oak"), (32, 32))
    return Service(YOLO(detector), "tiny", LIMITS, Suppression(0.2)).app(())


def request(data: bytes) -> None:
    """Sends a request: lines of its query, its Content-Type and Content-Length, and its body."""
    query, kind, length, body = (*data.split(b"\n", 3), b"", b"", b"")[:4]
    status, answer = asyncio.run(answered(application(), query, kind, length, body))
    assert status in (200, 400, 413, 415, 422), (status, answer)
    content = json.loads(answer)
    assert ("detections" in content) == (status == 200)
    assert ("error" in content) == (status != 200)


async def answered(
    app: ASGIApp, query: bytes, kind: bytes, length: bytes, body: bytes
) -> tuple[int, bytes]:
    """Returns the status and the body of an answer."""
    scope = {
        "type": "http", "method": "POST", "path": "/detect", "raw_path": b"/detect",
        "root_path": "", "scheme": "http", "query_string": query, "http_version": "1.1",
        "headers": [(b"content-type", kind), (b"host", b"localhost"), (b"content-length", length)],
    }  # fmt: skip
    sent: list[dict] = []
    waiting = [{"type": "http.request", "body": body}]

    async def receive() -> dict:
        if waiting:
            return waiting.pop()
        await asyncio.Event().wait()  # the client waits too
        raise AssertionError

    async def send(message: dict) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


def requests() -> list[bytes]:
    """Returns a form, and images of each kind by themselves."""
    head = b'Content-Disposition: form-data; name="x"; filename="y"\r\n\r\n'
    part = b"--b\r\n" + head + picture("PNG") + b"\r\n--b--\r\n"
    form = b"conf=0.3&iou=0.5\nmultipart/form-data; boundary=b\n300\n" + part
    kinds = ("JPEG", "WEBP", "GIF", "BMP", "AVIF")
    return [form] + [b"conf=0.3\nimage/x\n\n" + picture(kind) for kind in kinds]


def run_target(name: str) -> Target:
    """Returns the target of a file of a run."""
    return Target(functools.partial(run_file, name), lambda: [run_files()[name]])


def checkpoint_target(name: str) -> Target:
    """Returns the target of a file of a checkpoint."""
    read = functools.partial(checkpoint, name)
    return Target(read, lambda: [(checkpoint_folder() / "1" / name).read_bytes()])


WORDS = b"--epochs\n3\n--optimizer.learning-rate\n1e-3\n--data.train\na.json\n--augment.flip\n0.5"
TRIAL = {"epochs": 3, "optimizer.learning_rate": 0.01, "augment.crop": None}
RUN_TARGETS = {
    **{Path(name).name.replace(".", "_"): run_target(name) for name in (*TABLES, *RUN)},
    "checksums": Target(
        checksums, lambda: [(checkpoint_folder() / "1" / "checksums.json").read_bytes()]
    ),
    "checkpoint_own": checkpoint_target("_CHECKPOINT_METADATA"),
    "checkpoint_arrays": checkpoint_target("arrays/_METADATA"),
    "checkpoint_progress": checkpoint_target("progress/metadata"),
    "overrides": Target(overrides, lambda: [WORDS]),
    "changes": Target(changes, lambda: [json.dumps(TRIAL).encode()]),
    "request": Target(request, requests),
}
