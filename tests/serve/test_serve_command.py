import asyncio
import signal
import socket
import subprocess
import sys

import pytest
from flax import nnx
from http_client import ask, head, picture, post
from tiny_server import LIMITS, served, tiny_model

from yolo_jax import cli
from yolo_jax.detection.nms import Suppression
from yolo_jax.networks.darknet import save_weights
from yolo_jax.networks.yolov3 import TinyYOLOv3
from yolo_jax.serve.server import serve


def test_it_serves_until_a_signal_ends_it(tmp_path):
    weights = tmp_path / "random.weights"
    save_weights(weights, TinyYOLOv3(80, rngs=nnx.Rngs(0)))
    options = ["--port", "0", "--size", "64", "--conf", "0.9", "--max-mb", "1", "--concurrency"]
    command = ["-m", "yolo_jax", "serve", str(weights), *options, "1", "--max-pixels", "10000"]
    log = tmp_path / "log.txt"
    with served(command, log) as (process, port):
        found = asyncio.run(ask(port, post(picture(90, 60))))
        assert (found.status, found.content["conf"], found.content["iou"]) == (200, 0.9, 0.45)
        health = asyncio.run(ask(port, head("/health", "GET"))).content
        assert health["model"] == "random.weights"
        assert health["limits"] == {
            "body": 1_000_000, "pixels": 10_000, "concurrency": 1, "waiting": 4, "seconds": 20,
        }  # fmt: skip
        asyncio.run(signalled_while_one_sends(process, port))
        assert process.wait(timeout=300) == 128 + signal.SIGTERM
    first, *rest = log.read_text().split("\n")
    assert first == f"serving random.weights at http://127.0.0.1:{port} (Ctrl-C ends it)"
    cut_off = "ERROR Cancel 1 running task(s), timeout graceful shutdown exceeded"
    assert rest == [cut_off, "", "yolo-jax: stopped", ""]


async def signalled_while_one_sends(process: subprocess.Popen, port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head(Content_Length=1000) + b"x")
    while not (await ask(port, head("/health", "GET"))).content["inside"]:
        await asyncio.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    await reader.read()
    writer.close()


def test_an_address_that_cannot_be_had_is_told_before_anything_is_compiled():
    model = tiny_model()

    def fault(host: str, port: int) -> str:
        with pytest.raises(ValueError) as caught:
            serve(model, "", host=host, port=port, limits=LIMITS, suppression=Suppression())
        return str(caught.value)

    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        told = f"port {port} of 127.0.0.1 cannot be had: Address already in use; name another"
        assert fault("127.0.0.1", port).startswith(told)
    assert fault("127.0.0.1", 70_000) == "a port is a number from 0 to 65535; found 70000"
    assert "port 0 of 192.0.2.1 cannot be had: Cannot assign" in fault("192.0.2.1", 0)
    assert model.detector._run._cache_size() == 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--max-mb", "0"], "the limit body is a whole number, 1 or more; found 0"),
        (["--concurrency", "-1"], "the limit concurrency is a whole number, 1 or more; found -1"),
        (["--conf", "2"], "the score threshold"),
        ([], "there is no run folder or weights file nowhere"),
    ],
)
def test_options_that_cannot_be(capsys, options, told):
    assert cli.main(["serve", "nowhere", *options]) == 2
    assert told in capsys.readouterr().err


def test_without_the_extra_it_says_how_to_have_it(monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "yolo_jax.serve.server")
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert cli.main(["serve", "nowhere"]) == 2
    told = "yolo-jax: yolo-jax serve needs uvicorn: pip install -e '.[serve]'\n"
    assert capsys.readouterr().err == told
